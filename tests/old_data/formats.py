"""The stored formats of the current code: their numbers, and the positions of their fields.

A packed data directory keeps the formats of the code that made it (`make.pack`). A test compares them with
the current code. So no format can change before a directory of the version before is kept.
"""

from __future__ import annotations

import ast
import pkgutil
import struct
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pixel_server
import workers
from pixel_server.counters import series
from pixel_server.store import keys


def current() -> dict[str, Any]:
    """Returns the formats of the current code, by name, as JSON would hold them.

    These are the format numbers (`"pixel_server.hit.FORMAT": 1`), the fields of each struct that is stored by
    position (`"pixel_server.hit.Hit": ["time", "campaign", ...]`), the layouts of packed bytes, the positions
    of counts, and the type of each kind of key.
    """
    found: dict[str, Any] = {f"key {pattern}": key.redis_type for pattern, key in keys.TABLE.items()}
    found["positions of counts"] = dict(series.POSITIONS)
    for module in _modules():
        for name in _assigned(module):
            value = getattr(module, name, None)
            if isinstance(value, struct.Struct):
                found[f"{module.__name__}.{name}"] = value.format
            elif name.endswith("FORMAT") and str(value).isdigit():
                found[f"{module.__name__}.{name}"] = value
        for name, value in vars(module).items():
            if not name.startswith("_") and getattr(value, "__module__", "") == module.__name__:
                config = getattr(value, "__struct_config__", None)
                if config is not None and config.array_like:
                    found[f"{module.__name__}.{name}"] = list(value.__struct_fields__)
    return found


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Returns the names of the formats that `after` lacks or has otherwise. New formats are no change."""
    return [name for name, value in before.items() if after.get(name) != value]


def _modules() -> Iterator[ModuleType]:
    for package in (pixel_server, workers):
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not info.name.endswith("__main__"):
                yield import_module(info.name)


def _assigned(module: ModuleType) -> Iterator[str]:
    """Yields the names to which a module assigns something at its top level. Leaves out imported names."""
    for node in ast.parse(Path(str(module.__file__)).read_text()).body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                yield from (name.id for name in ast.walk(target) if isinstance(name, ast.Name))
