"""`pixel-server serve`"""

from __future__ import annotations

import os
import socket

import click

from pixel_server import lifeline, logs
from pixel_server.commands.startup import check_startup, log_start, warn_of_unknown_settings
from pixel_server.run import uvicorn_parts
from pixel_server.run.supervisor import Child, keep_running
from pixel_server.settings import Settings

_ANSWERED = {None: "pixels and pages", "pixels": "pixels only", "pages": "pages only"}
"""Requests that a web process answers, by the option --only."""


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=8000, show_default=True, type=click.IntRange(0, 65535), envvar="PORT", help="Port."
)
@click.option(
    "--processes", default=1, show_default=True, type=click.IntRange(1, 64), help="Processes on the port."
)
@click.option(
    "--only", type=click.Choice(["pixels", "pages"]), help="Answer only these requests, and others with 421."
)
@click.option("--handle", type=int, hidden=True, help="File descriptor of a socket that listens already.")
@click.option(
    "--beside",
    type=int,
    hidden=True,
    help="File descriptor of the channel that hands requests for pages over.",
)
def serve(
    host: str, port: int, processes: int, only: str | None, handle: int | None, beside: int | None
) -> None:
    """Run the web process. A child process answers pages and the API, so that they never delay pixels."""
    uvicorn_parts.check()
    from pixel_server.run import listen, web_process  # noqa: PLC0415 - may be imported only after the check

    logs.set_process("pages" if beside is not None or only == "pages" else "web")
    lifeline.hold()
    if beside is not None:
        web_process.serve_pages_beside_pixels(beside)
        return
    if handle is None:
        warn_of_unknown_settings()
    check_startup()
    settings = Settings.from_env()
    listening = listen.bind(host, port) if handle is None else socket.socket(fileno=handle)
    if handle is None:
        kind = f"web process ({_ANSWERED[only]}; {processes} on the port)"
        log_start(kind, settings, _address(listening))
    if processes == 1:
        if only is None:
            web_process.serve_pixels_beside_pages(listening, settings.hang_seconds)
        elif only == "pixels":
            web_process.serve(listening, web_process.FAST_PROTOCOL, web_process.PIXELS_APP)
        else:
            web_process.serve(listening, web_process.PLAIN_PROTOCOL, web_process.PAGES_APP)
        return
    descriptor = listening.fileno()
    arguments = ["serve", "--handle", str(descriptor), *([] if only is None else ["--only", only])]
    children = [Child(f"web {i + 1}", arguments, os.environ, [descriptor]) for i in range(processes)]
    keep_running(children, settings.hang_seconds)


def _address(listening: socket.socket) -> str:
    """Returns the URL of a listening socket: `"http://127.0.0.1:8000"`."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
