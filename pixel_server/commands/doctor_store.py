"""The checks of `doctor` that ask Redis: the store, the workers, lost hits."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from datetime import date
from typing import Any

import redis

from pixel_server import __version__
from pixel_server.api import redis_health, store_health
from pixel_server.classify import network_store
from pixel_server.collect import loss_storage
from pixel_server.collect.losses import LossReport
from pixel_server.commands.findings import Finding, counted
from pixel_server.commands.support import is_store_known, store_url
from pixel_server.secret import Secrets, SecretsError
from pixel_server.settings import Settings
from pixel_server.store import compatibility, keys
from pixel_server.store.client import StoreEmptiedError, StoreError, connect_async
from pixel_server.store.clock import WARN_DIFFERENCE_SECONDS, Clock
from pixel_server.store.store_mark import EMPTIED_TEXT, StoreMark
from pixel_server.store.store_version import newer_version
from pixel_server.store_url import without_password


def redis_and_workers(settings: Settings, today: date) -> Iterator[Finding]:
    """Checks that Redis answers, is this server's store and is durable, and that workers count its hits."""
    if not is_store_known(settings):
        text = f"no `up` has run with {settings.data}, and REDIS_URL is not set"
        yield Finding("store", "redis", "advice", text)
        return
    url = store_url(settings)
    try:
        report = asyncio.run(_read_health(url, settings))
    except (StoreError, SecretsError) as error:
        yield Finding("store", "redis", "problem", str(error))
        return
    except (redis.RedisError, OSError) as error:
        text = f"Redis at {without_password(url)} does not answer: {error}"
        yield Finding("store", "redis", "problem", text)
        return
    texts_without_warnings = {
        "redis": f"{without_password(url)}, durability: {report['redis']['durability']}",
        "workers": f"{counted(report['workers'], 'worker')}; "
        f"{counted(report['stream_entries'], 'batch')} of hits to be counted",
        "hosts": counted(len(report["hosts"]), "host") + " with a spool; all settings agree",
        "clocks": "all agree with Redis's clock",
        "retention": "removes expired data by itself",
        "webhooks": "no webhook needs attention",
    }
    if newer := newer_version(report["newest_version"] or ""):
        text = f"{newer} has used this store, and this is {__version__}: see docs/upgrading.md"
        yield Finding("store", "version", "advice", text)
    all_warnings = store_health.warnings(report)
    for thing, text in texts_without_warnings.items():
        if warnings := [warning for subject, warning in all_warnings if subject == thing]:
            yield from (Finding("store", thing, "problem", warning) for warning in warnings)
        else:
            yield Finding("store", thing, "ok", text)


def network_refresh(settings: Settings, today: date) -> Iterator[Finding]:
    """Checks that the last try to refresh each published list of networks succeeded."""

    async def read_states() -> dict[str, network_store.ListState]:
        client = connect_async(store_url(settings))
        try:
            return network_store.parse_states(await client.hmget(keys.NETWORKS, network_store.STATE_FIELDS))
        finally:
            await client.aclose()

    if settings.networks_refresh == "off" or not is_store_known(settings):
        return
    with contextlib.suppress(redis.RedisError, OSError):  # the check of the store reports these errors
        for name, state in asyncio.run(read_states()).items():
            if state.error:
                yield Finding("networks", name, "advice", f"the last refresh failed: {state.error}")


def losses(settings: Settings, today: date) -> Iterator[Finding]:
    """Checks that no recorded hits were lost. Warns if a replica could lose hits when it is promoted."""

    async def read_losses() -> tuple[LossReport, dict[str, Any]]:
        if not is_store_known(settings):
            return loss_storage.report_file(settings.data), {}
        client = connect_async(store_url(settings))
        try:
            report = await loss_storage.report_all(client, settings.data)
            with contextlib.suppress(redis.RedisError, OSError):
                return report, await redis_health.replicas(client)
            return report, {}
        finally:
            await client.aclose()

    report, replication = asyncio.run(read_losses())
    for line in report.describe():
        yield Finding("losses", "hits", "problem", line)
    if not report.describe():
        yield Finding("losses", "hits", "ok", "none known")
    if replication.get("replicas"):
        addresses = ", ".join(replica["address"] for replica in replication["replicas"])
        yield Finding("losses", "replicas", "advice", f"{addresses}: {replication['replication']}")


async def _read_health(url: str, settings: Settings) -> dict[str, Any]:
    """Returns the report of `store_health.read`. Does not mark an unused store as this server's.

    Raises StoreError or SecretsError if this server cannot use the store.
    """
    client = connect_async(url)
    try:
        await compatibility.check_store(client, url, settings.shards, None)
        if await client.exists(keys.STORE):
            secrets = Secrets.load(settings.data, settings.signing_secrets, settings.recipient_secret)
            await compatibility.check_store(client, url, settings.shards, secrets, StoreMark(settings.data))
        elif StoreMark(settings.data).known:
            raise StoreEmptiedError(f"Redis at {without_password(url)}: {EMPTIED_TEXT}")
        clock = Clock()
        await clock.measure_async(client)
        report = await store_health.read(client, settings.shards, clock(), settings.memory_reserve)
        if abs(clock.ahead) > WARN_DIFFERENCE_SECONDS:
            report["wrong_clocks"][f"this command on {socket.gethostname()}"] = round(clock.ahead)
    finally:
        await client.aclose()
    if settings.queue_url is not None:
        queue = connect_async(settings.queue_url)
        try:
            await compatibility.check_store(queue, settings.queue_url, settings.shards, None)
        finally:
            await queue.aclose()
    return report
