"""`pixel-server up`"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import click

from pixel_server import logs
from pixel_server.addresses import parse_host_port
from pixel_server.commands.startup import warn_of_unknown_settings
from pixel_server.relay.options import options_of
from pixel_server.run import uvicorn_parts
from pixel_server.settings import Settings


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=8000, show_default=True, type=click.IntRange(0, 65535), envvar="PORT", help="Port."
)
@click.option("--data", type=click.Path(path_type=Path), help="Data directory.  [default: ./pixel-data]")
@click.option("--demo", "with_demo", is_flag=True, help="Add two made-up campaigns, as `demo add` does.")
@click.option("--relay", "with_relay", is_flag=True, help="Also run the SMTP relay, by PIXEL_RELAY_...")
def up(host: str, port: int, data: Path | None, with_demo: bool, with_relay: bool) -> None:
    """Start Redis, the web process and the workers. Ctrl-C stops them."""
    logs.set_process("up")
    uvicorn_parts.check()
    from pixel_server.run import up as run_up  # noqa: PLC0415 - may be imported only after the check

    settings = Settings.from_env()
    warn_of_unknown_settings()
    settings = replace(settings, data=data or settings.data)
    starts_redis = not os.environ.get("REDIS_URL", "").strip()
    relay_at = parse_host_port(settings.relay_listen) if with_relay else None
    if relay_at is not None:
        options_of(settings, relay_at[0])  # fails before anything is started
    run_up.run(host, port, settings, starts_redis, with_demo, relay_at)
