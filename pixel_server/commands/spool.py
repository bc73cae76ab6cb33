"""`pixel-server spool ...`"""

from __future__ import annotations

import json

import click

from pixel_server.collect.redis_sink import RedisSink
from pixel_server.collect.spool.drain import AWAY_ERRORS, Drain
from pixel_server.collect.spool.spool import Spool
from pixel_server.collect.spool.status import read_status
from pixel_server.commands.failures import Failure
from pixel_server.commands.support import as_json, store_url, with_store
from pixel_server.settings import Settings
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.store_mark import StoreMark
from pixel_server.times import iso_ms


@click.group()
def spool() -> None:
    """Show and drain hits that wait on disk for Redis."""


@spool.command("status")
@as_json
def spool_status(as_json: bool) -> None:
    """Show how many hits wait, and since when. Needs no Redis."""
    status = read_status(Settings.from_env().data / "spool")
    fields = {
        "segments": status.segments,
        "hits": status.hits,
        "bytes": status.bytes,
        "waiting_since": None if status.oldest_ms is None else iso_ms(status.oldest_ms),
        "set_aside": status.aside,
    }
    if as_json:
        click.echo(json.dumps(fields))
        return
    for name, value in fields.items():
        click.echo(f"{name.replace('_', ' '):<14} {'-' if value is None else value}")


@spool.command("drain")
@as_json
def spool_drain(as_json: bool) -> None:
    """Send to Redis the hits that no running web process holds. A running web process drains its own hits."""

    async def drain(store: AsyncRedis, settings: Settings) -> int:
        own_spool = Spool(settings.data / "spool", settings.spool_bytes)
        sink = RedisSink(
            store_url(settings), timeout_seconds=10.0, mark=StoreMark(settings.data).known.encode
        )
        try:
            return await Drain(own_spool, sink).drain()
        finally:
            sink.close()
            own_spool.close()

    try:
        batches = with_store(drain)
    except AWAY_ERRORS as error:
        raise Failure(f"the hits stay in the spool: {str(error) or type(error).__name__}") from None
    click.echo(json.dumps({"batches": batches}) if as_json else f"drained {batches} batches")
