"""Checks at start that the installed uvicorn has the private parts that this server overrides or uses.

`collect/http_protocol` and `collect/fast_path` subclass uvicorn's protocol. With a uvicorn that renamed one
of these parts, the server would answer wrongly or no longer enforce a limit, and no error would say so. A
test compares the lists below with the code.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import version
from typing import Any

from pixel_server.settings import SettingsError

REQUIRED = "uvicorn>=0.50,<0.55"
"""Releases that this server is tested with. pyproject.toml names the same."""

_HTTPTOOLS = "uvicorn.protocols.http.httptools_impl"
NAMES = {
    "uvicorn": ("Config", "Server"),
    "uvicorn._types": ("ASGI3Application",),
    "uvicorn.server": ("ServerState",),
    "uvicorn.protocols.http.flow_control": ("FlowControl",),
    _HTTPTOOLS: ("HttpToolsProtocol", "RequestResponseCycle", "STATUS_LINE"),
}
"""Classes and constants, by module."""
PROTOCOL = (
    *("connection_made", "connection_lost", "data_received", "pause_writing", "resume_writing", "shutdown"),
    *("on_message_begin", "on_url", "on_header", "on_headers_complete", "on_body", "on_message_complete"),
    *("on_response_complete", "send_400_response", "timeout_keep_alive_handler", "_start_asgi_task"),
    *("_unset_keepalive_if_required", "app_state", "client", "connections", "cycle", "flow", "headers"),
    *("loop", "parser", "pipeline", "server_state", "timeout_keep_alive"),
    *("timeout_keep_alive_task", "transport"),
)
"""Methods and attributes of HttpToolsProtocol, which is one connection."""
CYCLE = ("disconnected", "keep_alive", "message_event", "more_body", "response_complete")
"""Attributes of RequestResponseCycle, which is a request that is being answered."""
FLOW = ("pause_reading", "resume_reading", "read_paused", "write_paused")
SERVER = ("run", "startup", "shutdown", "on_tick", "started", "config", "lifespan")
STATE = ("connections", "default_headers", "total_requests")
"""Attributes of FlowControl, Server and ServerState."""


def check() -> None:
    """Raises SettingsError if the installed uvicorn lacks a part that this server needs."""
    parts = sorted(missing())
    if parts:
        raise SettingsError(
            f"uvicorn {version('uvicorn')} does not have {', '.join(parts)}, which this server needs: "
            f"pip install '{REQUIRED}'"
        )


def missing() -> Iterator[str]:
    """Yields the names of the parts that the installed uvicorn lacks, such as `Server.on_tick`."""
    missing_names = [
        f"{module}.{name}" for module, names in NAMES.items() for name in names if not _has(module, name)
    ]
    if missing_names:
        yield from missing_names
        return
    makers: dict[str, tuple[Callable[[], Any], tuple[str, ...]]] = {
        "HttpToolsProtocol": (_protocol, PROTOCOL),
        "RequestResponseCycle": (lambda: _make_with_nones(_HTTPTOOLS, "RequestResponseCycle"), CYCLE),
        "FlowControl": (lambda: _make_with_nones("uvicorn.protocols.http.flow_control", "FlowControl"), FLOW),
        "Server": (_server, SERVER),
        "ServerState": (lambda: import_module("uvicorn.server").ServerState(), STATE),
    }
    for name, (make, parts) in makers.items():
        try:
            instance = make()
        except (AttributeError, TypeError):  # its constructor takes other arguments
            yield name
            continue
        yield from (f"{name}.{part}" for part in parts if not hasattr(instance, part))


def _has(module: str, name: str) -> bool:
    try:
        return hasattr(import_module(module), name)
    except ImportError:
        return False


def _make_with_nones(module: str, name: str) -> Any:
    """Returns an object of the class `name`, made with None for each argument."""
    make = getattr(import_module(module), name)
    return make(**dict.fromkeys(inspect.signature(make).parameters))


async def _app(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("never called")


def _config() -> Any:
    config = import_module("uvicorn").Config(_app, ws="none", lifespan="off", log_config=None)
    config.load()
    return config


def _server() -> Any:
    """Returns a server that does not run.

    uvicorn sets the attribute `lifespan` only when a server runs, so a server that does not run seems to lack
    it. This function sets the attribute if the code of `_serve` uses its name.
    """
    server = import_module("uvicorn").Server(_config())
    code = getattr(type(server), "_serve", None) or type(server).serve
    if "lifespan" in code.__code__.co_names:
        server.lifespan = None
    return server


def _protocol() -> Any:
    """Returns a protocol that is not connected."""
    make = import_module(_HTTPTOOLS).HttpToolsProtocol
    state = import_module("uvicorn.server").ServerState()
    return make(config=_config(), server_state=state, app_state={}, _loop=object())
