"""`pixel-server spool ...`"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from pixel_server.commands.support import Failure, as_json, store_url, with_store
from pixel_server.settings import Settings

if TYPE_CHECKING:
    from pixel_server.store.protocols import AsyncRedis


@click.group()
def spool() -> None:
    """Hits that wait on disk, because Redis was away."""


@spool.command("status")
@as_json
def spool_status(as_json: bool) -> None:
    """Show what waits, and since when. Needs no Redis."""
    from pixel_server.collect.spool.status import read_status  # noqa: PLC0415
    from pixel_server.times import iso_ms  # noqa: PLC0415

    found = read_status(Settings.from_env().data / "spool")
    oldest = None if found.oldest_ms is None else iso_ms(found.oldest_ms)
    shown = {
        "segments": found.segments,
        "hits": found.hits,
        "bytes": found.bytes,
        "waiting_since": oldest,
        "set_aside": found.aside,
    }
    if as_json:
        click.echo(json.dumps(shown))
        return
    for name, value in shown.items():
        click.echo(f"{name.replace('_', ' '):<14} {'-' if value is None else value}")


@spool.command("drain")
@as_json
def spool_drain(as_json: bool) -> None:
    """Give to Redis what no running web process holds. (A running one drains its own by itself.)"""
    from pixel_server.collect.redis_sink import RedisSink  # noqa: PLC0415
    from pixel_server.collect.spool.drain import AWAY_ERRORS, Drain  # noqa: PLC0415
    from pixel_server.collect.spool.spool import Spool  # noqa: PLC0415
    from pixel_server.store.store_mark import StoreMark  # noqa: PLC0415

    async def drain(store: AsyncRedis, settings: Settings) -> int:
        held = Spool(settings.data / "spool", settings.spool_bytes)
        stream = RedisSink(
            store_url(settings), timeout_seconds=10.0, mark=StoreMark(settings.data).known.encode
        )
        try:
            return await Drain(held, stream).drain()
        finally:
            stream.close()
            held.close()

    try:
        batches = with_store(drain)
    except AWAY_ERRORS as error:
        raise Failure(f"the spool waits: {str(error) or type(error).__name__}") from None
    click.echo(json.dumps({"batches": batches}) if as_json else f"drained {batches} batches")
