"""`pixel-server copy`"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable

import click

from pixel_server.commands.failures import Failure
from pixel_server.commands.running_store import running_store
from pixel_server.commands.support import as_json, settings_here
from pixel_server.copying import fence
from pixel_server.copying.copier import Copier
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import keys
from pixel_server.store.client import StoreError, connect, connect_async
from pixel_server.store.clock import Clock
from pixel_server.store.compatibility import check_store
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.store_mark import StoreMark
from pixel_server.store_url import has_password, parse
from workers import rollup

NOTICE_SECONDS = 60.0
"""Seconds within which each web process must notice that the store is closed."""
REPORT_KEYS = 10_000
"""Number of copied keys after which the command prints how many are copied."""
_TIMEOUT_SECONDS = 30.0


@click.command()
@click.option("--to", "target_url", metavar="URL", help="Redis to copy to. It must be empty.")
@click.option(
    "--shards", type=click.IntRange(1, 256), help="Number of shards there. Default: the same as here."
)
@click.option("--cancel", is_flag=True, help="Open the store again that an earlier `copy` has closed.")
@as_json
def copy(target_url: str | None, shards: int | None, cancel: bool, as_json: bool) -> None:
    """Copy the store to another Redis, also to another number of shards.

    Stop the workers first (under `up`: stop `up`). Web processes may run on: their hits go to their spools,
    and pages are answered 503. Then start everything with the new REDIS_URL. If the command is killed, run it
    again; or go back with --cancel.
    """
    if cancel == (target_url is not None):
        raise click.UsageError("give either --to URL or --cancel")
    settings = settings_here()
    secrets = Secrets.load(settings.data, settings.signing_secrets, settings.recipient_secret)
    with running_store(settings) as source_url:
        if target_url is None:
            _cancel(source_url, settings, secrets)
            click.echo(json.dumps({"cancelled": True}) if as_json else "the store is open again")
            return
        try:
            parse(target_url)
        except ValueError as error:
            raise Failure(f"--to {error}") from None
        number = asyncio.run(_copy(source_url, target_url, settings, secrets, shards or settings.shards))
    if as_json:
        click.echo(json.dumps({"keys": number, "shards": shards or settings.shards}))
        return
    click.echo(f"copied {number:,} keys. Now start all processes with")
    shown_url = "... (the address after --to)" if has_password(target_url) else target_url
    click.echo(f"  REDIS_URL={shown_url}")
    if shards not in (None, settings.shards):
        click.echo(f"  PIXEL_SHARDS={shards}")
    if parse(target_url).kind == "cluster" and settings.queue_url is None:
        click.echo("  PIXEL_QUEUE_URL=... (a Redis of its own, because RQ runs on no cluster)")


def _cancel(url: str, settings: Settings, secrets: Secrets) -> None:
    async def lift() -> bool:
        store = connect_async(url, timeout=_TIMEOUT_SECONDS)
        try:
            await check_store(store, url, settings.shards, secrets)
            return await fence.lift(store, settings.shards)
        finally:
            await store.aclose()

    if not asyncio.run(lift()):
        raise Failure("no copy has closed this store")


async def _copy(source_url: str, target_url: str, settings: Settings, secrets: Secrets, shards: int) -> int:
    """Copies the store. Returns the number of copied keys."""
    source = connect_async(source_url, timeout=_TIMEOUT_SECONDS)
    target = connect_async(target_url, timeout=_TIMEOUT_SECONDS)
    try:
        is_closed = await source.hget(keys.STORE, "moved") is not None
        own_mark = None if is_closed else StoreMark(settings.data)
        await check_store(source, source_url, settings.shards, secrets, own_mark)
        await check_store(target, target_url, shards, None)
        await fence.wait_until_workers_ended(source)
        mark = await fence.announce(source)
        await _wait_until_left(source)
        await fence.close(source, settings.shards)
        await _count_all(source, source_url, settings, secrets)
        copier = Copier(source, target, (settings.shards, shards), mark, _reporter())
        await copier.begin()
        await copier.copy()
        await copier.finish()
        return copier.copied.total()
    finally:
        await source.aclose()
        await target.aclose()


def _reporter() -> Callable[[int], None]:
    """Returns a function that prints the number of copied keys each time that REPORT_KEYS more are copied."""
    next_report = REPORT_KEYS

    def report(copied: int) -> None:
        nonlocal next_report
        if copied >= next_report:
            click.echo(f"{copied:,} keys copied", err=True)
            next_report += REPORT_KEYS

    return report


async def _wait_until_left(source: AsyncRedis) -> None:
    """Waits until each web process has noticed that the store is closed."""
    deadline = time.monotonic() + NOTICE_SECONDS
    while processes := await fence.processes_that_use(source):
        if time.monotonic() > deadline:
            raise StoreError(
                f"the web process on {', '.join(sorted(set(processes)))} has not noticed that the store is "
                "closed: stop it, and run this again, or `pixel-server copy --cancel`"
            )
        await asyncio.sleep(0.5)


async def _count_all(source: AsyncRedis, url: str, settings: Settings, secrets: Secrets) -> None:
    """Counts the hits that are in the streams. Raises StoreError if a shard stands still."""
    left = -1
    while waiting := await _waiting_shards(source, settings.shards):
        if sum(waiting.values()) == left:
            shard = min(waiting)
            reason = await source.execute_command("GET", keys.stop(shard))
            why = f": {reason.decode()}" if reason else ""
            raise StoreError(
                f"shard {shard} cannot be counted{why}; mend that and run this again, or `pixel-server copy "
                "--cancel`"
            )
        left = sum(waiting.values())
        await asyncio.to_thread(_roll_up, url, settings, secrets, list(waiting))


async def _waiting_shards(source: AsyncRedis, shards: int) -> dict[int, int]:
    """Returns the number of entries that are not counted, by shard, without empty shards."""
    pipe = source.pipeline(transaction=False)
    for shard in range(shards):
        pipe.xlen(keys.hits(shard))
    return {shard: length for shard, length in enumerate(await pipe.execute()) if length}


def _roll_up(url: str, settings: Settings, secrets: Secrets, shards: list[int]) -> None:
    with connect(url, timeout=_TIMEOUT_SECONDS) as store:
        clock = Clock()
        clock.measure(store)
        deadline = time.monotonic() + rollup.JOB_SECONDS
        rollup.drain_shards(store, settings, secrets, shards, deadline, clock, sends_events=False)
