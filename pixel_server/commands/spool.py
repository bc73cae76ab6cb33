"""`pixel-server spool ...`"""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from pixel_server.collect.host_beat import read_host_id
from pixel_server.collect.spool.drain import AWAY_ERRORS, Drain
from pixel_server.collect.spool.segments import list_segments
from pixel_server.collect.spool.spool import Spool
from pixel_server.collect.spool.status import read_status
from pixel_server.collect.store_sink import open_sink
from pixel_server.commands.failures import Failure
from pixel_server.commands.findings import counted
from pixel_server.commands.support import as_json, store_url, with_store
from pixel_server.settings import Settings
from pixel_server.store import hosts, keys, replication
from pixel_server.store.clock import read_time
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.store_mark import StoreMark
from pixel_server.times import iso_ms

WAIT_SECONDS = 0.2
"""Seconds between two looks of `spool wait` at the spool."""


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
        "newer_format": status.newer,
    }
    if as_json:
        click.echo(json.dumps(fields))
        return
    for name, value in fields.items():
        click.echo(f"{name.replace('_', ' '):<14} {'-' if value is None else value}")


@spool.command("wait")
@click.option(
    "--timeout",
    "timeout_seconds",
    type=click.FloatRange(min=0),
    default=600.0,
    show_default=True,
    help="Seconds to wait at most.",
)
def spool_wait(timeout_seconds: float) -> None:
    """Wait until the spool is empty, so that its host can be removed. Needs no Redis.

    First take the host out of the load balancer. The exit code is 1 if hits are left when the time is up.
    """
    directory = Settings.from_env().data / "spool"
    deadline = time.monotonic() + timeout_seconds
    while (status := read_status(directory)).segments:
        if time.monotonic() >= deadline:
            raise Failure(
                f"the spool is not empty after {timeout_seconds:g} s: {counted(status.hits, 'hit')} left"
            )
        time.sleep(WAIT_SECONDS)
    click.echo("the spool is empty")


@spool.command("drain")
@click.argument("directory", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@as_json
def spool_drain(directory: Path | None, as_json: bool) -> None:
    """Send to Redis the hits that no running web process holds. A running web process drains its own hits.

    DIRECTORY: a copy of another host's spool. Default: the spool of this data directory. Redis takes each hit
    once, also if the other host has sent it already.
    """

    async def drain(store: AsyncRedis, settings: Settings) -> int:
        spool_directory = settings.data / "spool" if directory is None else _find_spool(directory)
        own_spool = Spool(spool_directory, settings.spool_bytes)
        mark, url = StoreMark(settings.data).known.encode, store_url(settings)
        # This process ends, so it cannot send to a promoted replica again what the replica lacks.
        replicas = max(settings.replicas, int(await replication.has_replicas(store)))
        opened = open_sink(store, settings, url=url, timeout_seconds=10.0, mark=mark, replicas=replicas)
        try:
            async with opened as (sink, nodes):
                batches = await Drain(own_spool, sink, nodes=nodes).drain()
            if directory is not None:
                await _forget_drained(store, spool_directory)
            return batches
        finally:
            own_spool.close()

    try:
        batches = with_store(drain)
    except AWAY_ERRORS as error:
        raise Failure(f"the hits stay in the spool: {str(error) or type(error).__name__}") from None
    click.echo(json.dumps({"batches": batches}) if as_json else f"drained {batches} batches")


def _find_spool(directory: Path) -> Path:
    """Returns the spool in a copied directory: the directory itself, or its folder `spool`."""
    for spool_directory in (directory, directory / "spool"):
        if read_host_id(spool_directory) or list_segments(spool_directory):
            return spool_directory
    raise Failure(f"there is no spool in {directory}")


async def _forget_drained(store: AsyncRedis, spool_directory: Path) -> None:
    """Forgets the host of a copied spool, if the spool is drained and the host is away."""
    host_id = read_host_id(spool_directory)
    if host_id is None or read_status(spool_directory).segments:
        return
    now = await read_time(store)
    if any(host.id == host_id and host.is_away(now) for host in hosts.parse(await store.hgetall(keys.HOSTS))):
        await store.eval(*hosts.forget_call(host_id))
