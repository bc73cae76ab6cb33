"""`pixel-server doctor`"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from typing import Any, Literal, NamedTuple

import click
import redis

from pixel_server.classify.networks import Networks, NetworksError, shipped
from pixel_server.commands.support import as_json, is_redis_named, left_base_url, settings_here, store_url
from pixel_server.secret import Secrets, SecretsError
from pixel_server.settings import Settings, SettingsError
from pixel_server.store import keys

STALE = 90
"""Days after which a list that is published anew all the time is too old."""


class Finding(NamedTuple):
    """What a check says of a thing. advice: it works, and could do better; problem: it does not."""

    check: str
    thing: str
    level: Literal["ok", "advice", "problem"]
    text: str


def networks(settings: Settings, today: date) -> Iterator[Finding]:
    """How old each list is; which can be had newer; which files are no list."""
    from pixel_server.classify.network_feeds import PUBLISHED  # noqa: PLC0415 - only this check needs it

    directory = settings.networks
    for path in sorted(directory.glob("*.txt")):
        if path.stem not in shipped():
            yield Finding("networks", path.stem, "problem", f"{path} is not read: no list has this name")
    try:
        found = Networks.load(directory).lists
    except NetworksError as error:
        yield Finding("networks", "lists", "problem", str(error))
        return
    for each in found:
        days = each.days(today)
        age = f"{_many(each.ranges, 'range')} of {each.date}, {_many(days, 'day')} old"
        again = f"run `pixel-server networks refresh {each.name}`"
        if each.name not in PUBLISHED:
            yield Finding("networks", each.name, "ok", age)
        elif not each.ranges:
            yield Finding("networks", each.name, "advice", f"empty; {again}")
        elif days > STALE:
            yield Finding("networks", each.name, "advice", f"{age}; {again}")
        else:
            yield Finding("networks", each.name, "ok", age)


def spool(settings: Settings, today: date) -> Iterator[Finding]:
    """Whether hits can be kept while Redis is away, and all that were could be read."""
    from pixel_server.collect.spool.status import (  # noqa: PLC0415 - only this check needs it
        find_trouble,
        read_status,
    )

    if not settings.spool_bytes:
        yield Finding("spool", "disk", "advice", "PIXEL_SPOOL_BYTES=0: while Redis is away, hits are lost")
        return
    if why := find_trouble(settings.data / "spool"):
        yield Finding("spool", "disk", "problem", f"{why}: while Redis is away, hits may be lost")
        return
    found = read_status(settings.data / "spool")
    yield Finding("spool", "disk", "ok", f"{_many(found.hits, 'hit')} waiting for Redis")
    if found.aside:
        where = settings.data / "spool" / "aside"
        yield Finding("spool", "aside", "problem", f"{_many(found.aside, 'file')} set aside in {where}")


def redis_and_workers(settings: Settings, today: date) -> Iterator[Finding]:
    """Whether Redis answers, is this server's, keeps what it is given, and its hits are counted."""
    from pixel_server.api import health  # noqa: PLC0415 - only this check needs it
    from pixel_server.store.client import StoreError, shown  # noqa: PLC0415

    if not is_redis_named() and left_base_url(settings) is None:
        text = f"no `up` has run with {settings.data}, nor is REDIS_URL set"
        yield Finding("store", "redis", "advice", text)
        return
    url = store_url(settings)
    try:
        found = asyncio.run(_ask(url, settings))
    except (StoreError, SecretsError) as error:
        yield Finding("store", "redis", "problem", str(error))
        return
    well = {
        "redis": f"{shown(url)}, durability: {found['redis']['durability']}",
        "workers": f"{_many(found['workers'], 'worker')}; "
        f"{_many(found['stream_entries'], 'batch')} of hits to be counted",
        "clocks": "all agree with that of Redis",
        "retention": "goes on by itself",
    }
    warnings = health.warnings(found)
    for thing, text in well.items():
        if told := [warning for of, warning in warnings if of == thing]:
            yield from (Finding("store", thing, "problem", warning) for warning in told)
        else:
            yield Finding("store", thing, "ok", text)


async def _ask(url: str, settings: Settings) -> dict[str, Any]:
    """See `health.look`. A store that is nobody's stays so. StoreError, SecretsError: it cannot be used."""
    from pixel_server.api import health  # noqa: PLC0415
    from pixel_server.store import client as store  # noqa: PLC0415 - see above
    from pixel_server.store import compatibility  # noqa: PLC0415
    from pixel_server.store.clock import Clock  # noqa: PLC0415
    from pixel_server.store.store_mark import EMPTIED, StoreMark  # noqa: PLC0415

    client = store.connect_async(url)
    try:
        await compatibility.check(client, url, settings.shards, None)
        if await client.exists(keys.STORE):
            secrets = Secrets.load(settings.data, settings.signing, settings.recipient_secret)
            await compatibility.check(client, url, settings.shards, secrets, StoreMark(settings.data))
        elif StoreMark(settings.data).known:
            raise store.StoreEmptiedError(f"Redis at {store.shown(url)}: {EMPTIED}")
        clock = Clock()
        await clock.measure_async(client)
        found = await health.look(client, settings.shards, clock(), settings.memory_reserve)
        if clock.is_wrong:
            found["wrong_clocks"][f"this command on {socket.gethostname()}"] = round(clock.ahead)
    finally:
        await client.aclose()
    if settings.queue_url is not None:
        queue = store.connect_async(settings.queue_url)
        try:
            await compatibility.check(queue, settings.queue_url, settings.shards, None)
        finally:
            await queue.aclose()
    return found


def lost(settings: Settings, today: date) -> Iterator[Finding]:
    """Whether Redis lost hits that it had acknowledged, and whether a promoted replica could."""
    from pixel_server.api import health  # noqa: PLC0415
    from pixel_server.collect import loss_storage  # noqa: PLC0415
    from pixel_server.collect.losses import LossReport  # noqa: PLC0415
    from pixel_server.store import client as store  # noqa: PLC0415 - only this check needs it

    async def ask() -> tuple[LossReport, dict[str, Any]]:
        if not is_redis_named() and left_base_url(settings) is None:
            return loss_storage.report_file(settings.data), {}
        client = store.connect_async(store_url(settings))
        try:
            known = await loss_storage.report_all(client, settings.data)
            with contextlib.suppress(redis.RedisError, OSError):
                return known, await health.replicas(client)
            return known, {}
        finally:
            await client.aclose()

    report, copies = asyncio.run(ask())
    is_well = not report.batches and not report.commits
    yield Finding("losses", "hits", *(("ok", "none known") if is_well else ("problem", report.describe())))
    if copies.get("replicas"):
        names = ", ".join(copy["address"] for copy in copies["replicas"])
        yield Finding("losses", "replicas", "advice", f"{names}: {copies['replication']}")


def rules(settings: Settings, today: date) -> Iterator[Finding]:
    """Whether the rules can be used."""
    from pixel_server.classify.rules import RulesError, load  # noqa: PLC0415 - only this check needs it

    try:
        yield Finding("rules", "rules", "ok", f"{load(settings.rules).ruleset}")
    except RulesError as error:
        yield Finding("rules", "rules", "problem", str(error))


def _many(number: int, noun: str) -> str:
    ending = "" if number == 1 else "es" if noun.endswith("ch") else "s"
    return f"{number:,} {noun}{ending}"


Check = Callable[[Settings, date], Iterator[Finding]]

CHECKS: tuple[Check, ...] = (networks, rules, spool, lost, redis_and_workers)


@click.command()
@as_json
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Say what should be looked after: lists of networks, the spool, Redis. Goes on without it.

    `advice` can wait: the exit code is 1 for a `problem` only.
    """
    settings = Settings.from_env()
    with contextlib.suppress(SettingsError):  # told by the check of the store
        settings = settings_here()
    today = datetime.now(UTC).date()
    findings: list[Finding] = []
    for check in CHECKS:
        try:
            findings += check(settings, today)
        except (SettingsError, OSError, redis.RedisError) as error:  # the others go on
            findings.append(Finding(check.__name__, "check", "problem", f"cannot be made: {error}"))
    if as_json:
        click.echo(json.dumps({"items": [finding._asdict() for finding in findings], "next": None}))
    else:
        for finding in findings:
            click.echo(f"{finding.level:<8} {finding.check} {finding.thing}: {finding.text}")
    ctx.exit(1 if any(finding.level == "problem" for finding in findings) else 0)
