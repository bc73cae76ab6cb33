"""The private parts of uvicorn that this server overrides or uses, looked for before it starts.

`serving` and `collect/fast` subclass uvicorn's protocol, so a uvicorn that renamed one of these parts would
answer wrongly or leave out a bound, and nothing else would say so. A test compares this list with the code.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import version
from typing import Any

from pixel_server.settings import SettingsError

REQUIRED = "uvicorn[standard]>=0.50,<0.55"
"""The releases that this server is tested with, as in pyproject.toml."""

_HTTPTOOLS = "uvicorn.protocols.http.httptools_impl"
NAMES = {
    "uvicorn": ("Config", "Server"),
    "uvicorn._types": ("ASGI3Application",),
    "uvicorn.server": ("ServerState",),
    "uvicorn.protocols.http.flow_control": ("FlowControl",),
    _HTTPTOOLS: ("HttpToolsProtocol", "RequestResponseCycle", "STATUS_LINE"),
}
"""Names by module."""
PROTOCOL = (
    *("connection_made", "connection_lost", "data_received", "pause_writing", "resume_writing", "shutdown"),
    *("on_message_begin", "on_url", "on_header", "on_headers_complete", "on_body", "on_message_complete"),
    *("on_response_complete", "send_400_response", "timeout_keep_alive_handler", "_start_asgi_task"),
    *("_unset_keepalive_if_required", "app_state", "client", "connections", "cycle", "flow", "headers"),
    *("limit_concurrency", "loop", "parser", "pipeline", "server_state", "timeout_keep_alive"),
    *("timeout_keep_alive_task", "transport"),
)
"""Methods and attributes of a connection."""
CYCLE = ("disconnected", "keep_alive", "message_event", "more_body", "response_complete")
"""Attributes of a request that is being answered."""
FLOW = ("pause_reading", "resume_reading", "read_paused", "write_paused")
SERVER = ("run", "startup", "shutdown", "on_tick", "started", "config", "lifespan")
STATE = ("connections", "default_headers", "total_requests")


def check() -> None:
    """Raises SettingsError if the installed uvicorn lacks one of these parts."""
    found = sorted(missing())
    if found:
        raise SettingsError(
            f"uvicorn {version('uvicorn')} does not have {', '.join(found)}, which this server needs: "
            f"pip install '{REQUIRED}'"
        )


def missing() -> Iterator[str]:
    """The names of parts that the installed uvicorn lacks."""
    lacking = [
        f"{module}.{name}" for module, names in NAMES.items() for name in names if not _has(module, name)
    ]
    if lacking:
        yield from lacking
        return
    makers: dict[str, tuple[Callable[[], Any], tuple[str, ...]]] = {
        "HttpToolsProtocol": (_protocol, PROTOCOL),
        "RequestResponseCycle": (lambda: _of_nothing(_HTTPTOOLS, "RequestResponseCycle"), CYCLE),
        "FlowControl": (lambda: _of_nothing("uvicorn.protocols.http.flow_control", "FlowControl"), FLOW),
        "Server": (_server, SERVER),
        "ServerState": (lambda: import_module("uvicorn.server").ServerState(), STATE),
    }
    for name, (make, parts) in makers.items():
        try:
            made = make()
        except (AttributeError, TypeError):  # it is made in another way
            yield name
            continue
        yield from (f"{name}.{part}" for part in parts if not hasattr(made, part))


def _has(module: str, name: str) -> bool:
    try:
        return hasattr(import_module(module), name)
    except ImportError:
        return False


def _of_nothing(module: str, name: str) -> Any:
    """An object of this class, made with None for each argument."""
    kind = getattr(import_module(module), name)
    return kind(**dict.fromkeys(inspect.signature(kind).parameters))


async def _app(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("never called")


def _config() -> Any:
    config = import_module("uvicorn").Config(_app, ws="none", lifespan="off", log_config=None)
    config.load()
    return config


def _server() -> Any:
    """A server that does not run. The code that would give it its `lifespan` is read instead."""
    server = import_module("uvicorn").Server(_config())
    code = getattr(type(server), "_serve", None) or type(server).serve
    if "lifespan" in code.__code__.co_names:
        server.lifespan = None
    return server


def _protocol() -> Any:
    """A connection that is not connected."""
    kind = import_module(_HTTPTOOLS).HttpToolsProtocol
    state = import_module("uvicorn.server").ServerState()
    return kind(config=_config(), server_state=state, app_state={}, _loop=object())
