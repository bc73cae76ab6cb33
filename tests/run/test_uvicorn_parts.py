"""The check at start that uvicorn has the parts that this server overrides."""

from __future__ import annotations

import ast
import inspect
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
import uvicorn
from click.testing import CliRunner
from uvicorn.protocols.http import flow_control, httptools_impl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from pixel_server.cli import main
from pixel_server.run import uvicorn_parts
from pixel_server.settings import SettingsError

ROOT = Path(__file__).parent.parent.parent
FILES = (
    "pixel_server/collect/http_protocol.py",
    "pixel_server/collect/handover_protocol.py",
    "pixel_server/collect/fast_path.py",
    "pixel_server/run/web_process.py",
)


def test_uvicorn_installed_has_every_part():
    assert list(uvicorn_parts.missing()) == []
    uvicorn_parts.check()


def test_uvicorn_releases_are_those_of_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert uvicorn_parts.REQUIRED in project["dependencies"]


@pytest.mark.parametrize(
    ("owner", "part", "name"),
    [
        (HttpToolsProtocol, "_start_asgi_task", "HttpToolsProtocol._start_asgi_task"),
        (HttpToolsProtocol, "on_headers_complete", "HttpToolsProtocol.on_headers_complete"),
        (HttpToolsProtocol, "send_400_response", "HttpToolsProtocol.send_400_response"),
        (flow_control.FlowControl, "pause_reading", "FlowControl.pause_reading"),
        (httptools_impl, "STATUS_LINE", "uvicorn.protocols.http.httptools_impl.STATUS_LINE"),
        (uvicorn.Server, "on_tick", "Server.on_tick"),
    ],
)
def test_uvicorn_part_missing_is_named_with_what_to_install(monkeypatch, owner, part, name):
    monkeypatch.delattr(owner, part)
    with pytest.raises(SettingsError) as raised:
        uvicorn_parts.check()
    assert str(raised.value) == (
        f"uvicorn {uvicorn.__version__} does not have {name}, which this server needs: "
        "pip install 'uvicorn>=0.50,<0.55'"
    )


def forgets(kind, attribute):
    """Returns the `__init__` of a class that leaves this attribute unset."""
    init = kind.__init__

    def made(self, *arguments, **options):
        init(self, *arguments, **options)
        delattr(self, attribute)

    made.__signature__ = inspect.signature(init)
    return made


@pytest.mark.parametrize(
    ("kind", "attribute"),
    [(HttpToolsProtocol, "cycle"), (RequestResponseCycle, "disconnected"), (ServerState, "default_headers")],
)
def test_uvicorn_attribute_missing_is_named(monkeypatch, kind, attribute):
    monkeypatch.setattr(kind, "__init__", forgets(kind, attribute))
    assert list(uvicorn_parts.missing()) == [f"{kind.__name__}.{attribute}"]


def test_uvicorn_module_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn._types", None)
    assert list(uvicorn_parts.missing()) == ["uvicorn._types.ASGI3Application"]


def test_uvicorn_constructor_with_other_arguments_is_named(monkeypatch):
    monkeypatch.setattr(httptools_impl, "HttpToolsProtocol", SimpleNamespace)
    monkeypatch.setattr(httptools_impl, "RequestResponseCycle", lambda first, /: first)
    missing = set(uvicorn_parts.missing())
    assert {"HttpToolsProtocol.cycle", "RequestResponseCycle"} <= missing


@pytest.mark.parametrize("command", ["up", "serve"])
def test_start_uvicorn_part_missing_prints_one_line(monkeypatch, tmp_path, command):
    monkeypatch.delattr(HttpToolsProtocol, "on_url")
    monkeypatch.setenv("PIXEL_DATA_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pixel_server.lifeline.hold", lambda: True)
    monkeypatch.setattr("pixel_server.logs.configure", lambda: None)
    ended = CliRunner().invoke(main, [command])
    assert ended.exit_code == 1
    assert ended.output.startswith("pixel-server: uvicorn ")
    assert ended.output.count("\n") == 1
    assert "HttpToolsProtocol.on_url" in ended.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", FILES)
def test_uvicorn_parts_list_has_every_part_that_the_code_uses(path):
    """Checks every name that a subclass uses on `self` or `super()`: it is its own, or in the list."""
    tree = ast.parse((ROOT / path).read_text())
    kinds = [node for file in FILES for node in ast.parse((ROOT / file).read_text()).body]
    kinds = [node for node in kinds if isinstance(node, ast.ClassDef)]
    own = {node.attr for kind in kinds for node in ast.walk(kind) if _is_set_on_self(node)}
    own |= {part.name for kind in kinds for part in kind.body if isinstance(part, ast.FunctionDef)}
    own |= {name for kind in kinds for part in kind.body for name in _class_names(part)}
    known = {*uvicorn_parts.PROTOCOL, *uvicorn_parts.SERVER, *dir(object)}
    called = {
        node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and _is_super(node.value)
    }
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and _is_self(node.value)}
    assert called - known == set()
    assert used - known - own == set()


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


def _is_super(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"


def _is_set_on_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and _is_self(node.value) and isinstance(node.ctx, ast.Store)


def _class_names(part: ast.stmt) -> set[str]:
    targets = (
        part.targets
        if isinstance(part, ast.Assign)
        else [part.target]
        if isinstance(part, ast.AnnAssign)
        else []
    )
    return {target.id for target in targets if isinstance(target, ast.Name)}
