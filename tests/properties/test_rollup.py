"""Exactly once, into the counters: however the roll-up is cut, repeated, reordered, crashed or raced."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pixel_server import hit
from pixel_server.campaigns import storage
from pixel_server.campaigns.campaign import new_campaign
from pixel_server.counters import series
from pixel_server.hit import Hit
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import keys
from pixel_server.store.client import connect, connect_async
from pixel_server.tokens import Mode, Part, Token
from pixel_server.verdicts import CLASSES
from tests.conftest import ANY_YEAR, NOW
from tests.stack import READER
from workers.rollup_pass import Outcome, Rollup

HOUR = 3_600_000
SHARD = 0


class Killed(BaseException):
    """The process is gone."""


class Wire:
    """A client that does something at its n-th command: before it is sent, or after it was carried out."""

    def __init__(self, client: redis.Redis, acts: dict[tuple[int, bool], Callable[[], None]]) -> None:
        self._client = client
        self._acts = acts
        self.commands = 0

    def __getattr__(self, name: str) -> Any:
        if name == "pipeline":
            return self._pipeline
        return lambda *args, **options: self._send(lambda: getattr(self._client, name)(*args, **options))

    def _pipeline(self, **options: Any) -> Any:
        pipe = self._client.pipeline(**options)
        execute = pipe.execute
        pipe.execute = lambda: self._send(execute)
        return pipe

    def _send(self, command: Callable[[], Any]) -> Any:
        self.commands += 1
        at = self.commands
        self._acts.get((at, False), lambda: None)()
        result = command()
        self._acts.get((at, True), lambda: None)()
        return result


@dataclass(frozen=True)
class Seen:
    """One hit as the story has it. campaign: `kept`, `doomed` or `new`, which only a token names."""

    campaign: str
    recipient: int
    at: int
    method: str
    part: Part
    mode: Mode
    agent: str = ""

    def hit(self) -> Hit:
        key = b"" if self.mode is Mode.COUNT else self.recipient.to_bytes(8, "big")
        flags = Token(self.campaign, 0, key, self.mode, self.part).flags
        ms = int(NOW * 1000) - self.at * HOUR // 2
        return Hit(ms, self.campaign, hit.EMAIL, self.method, flags, 0, key, b"", b"\x0a\0\0\1", self.agent)

    @property
    def is_open(self) -> bool:
        return self.method == "GET" and self.part is not Part.BOTTOM


seen = st.builds(
    Seen,
    campaign=st.sampled_from(["kept", "kept", "doomed", "new"]),
    recipient=st.integers(0, 3),
    at=st.integers(0, 60),
    method=st.sampled_from(["GET", "GET", "GET", "HEAD"]),
    part=st.sampled_from(list(Part)),
    agent=st.sampled_from([READER, READER, READER, "curl/8.5.0", "Mozilla/5.0", ""]),
    mode=st.sampled_from([Mode.COUNT, Mode.LAST, Mode.PSEUDONYMOUS, Mode.PSEUDONYMOUS, Mode.IDENTIFIED]),
)
step = st.tuples(st.integers(1, 12), st.booleans())


def plain_count(story: list[Seen], campaign: str) -> dict[str, Any]:
    """The same figures, counted in a list."""
    hits = [one for one in story if one.campaign == campaign]
    first: dict[int, int] = {}
    first_person: dict[int, int] = {}
    told = [one for one in hits if one.mode >= Mode.PSEUDONYMOUS and one.method == "GET"]
    top = {one.recipient for one in told if one.part is Part.TOP}
    seen = {one.recipient for one in told if one.part is Part.BOTTOM and one.agent == READER}
    for one in hits:
        if one.is_open and one.mode >= Mode.PSEUDONYMOUS:
            ms = one.hit().time
            first[one.recipient] = min(ms, first.get(one.recipient, ms))
            if one.agent == READER:
                first_person[one.recipient] = min(ms, first_person.get(one.recipient, ms))
    cells: dict[int, list[int]] = {}
    for one in hits:
        cell = cells.setdefault(series.bucket_start(one.hit().time), [0, 0, 0, 0])
        cell[0] += 1
        cell[1] += one.is_open
    for ms in first.values():
        cells[series.bucket_start(ms)][2] += 1
    for ms in first_person.values():
        cells[series.bucket_start(ms)][3] += 1
    return {
        "cells": cells,
        "hits": len(hits),
        "opens": sum(one.is_open for one in hits),
        "unique": len(first),
        "person": len(first_person),
        "last_hit": max((one.hit().time // 1000 for one in hits), default=0),
        "twins": len(top & first_person.keys()),
        "clipped": len(top & first_person.keys() - seen),
    }


def kept_count(client: redis.Redis, campaign: str) -> dict[str, Any]:
    """What the store says, from each place where it says it."""
    total = {name.decode(): int(value) for name, value in client.hgetall(keys.total(SHARD, campaign)).items()}
    cells: dict[int, list[int]] = {}
    for name in client.keys(keys.buckets(SHARD, campaign, "*")):
        day = name.decode()[-8:]
        for number, cell in series.unpack(client.get(name)).items():
            start = _midnight(day) + number * series.BUCKET_SECONDS
            if any(cell):
                cells[start] = _told(cell)
    days = [
        cell for value in client.hvals(keys.months(SHARD, campaign)) for cell in series.unpack(value).values()
    ]
    sums = [sum(_told(cell)[i] for cell in days) for i in range(4)]
    names = ("hits", "opens", "unique_opens", "unique_opens_person")
    assert sums == [total.get(name, 0) for name in names]
    assert sum(total.get(f"hits_{name}", 0) for name in CLASSES) == sums[0]
    assert total.get("recipients_person", 0) == sums[3]
    found = {name: total.get(f"recipients_{name}", 0) for name in ("twins", "clipped")}
    found |= {"hits": sums[0], "opens": sums[1], "unique": sums[2], "person": sums[3]}
    return {"cells": cells, **found, "last_hit": total.get("last_hit", 0)}


def _told(cell: list[int]) -> list[int]:
    """[hits, opens, unique opens, those by a person] of a cell."""
    padded = [*cell, *[0] * len(series.COUNTS)]
    return [padded[0], padded[1], padded[2], padded[series.UNIQUE_OPENS_PERSON]]


def _midnight(day: str) -> int:
    from datetime import UTC, datetime

    return int(datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC).timestamp())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    story=st.lists(seen, min_size=1, max_size=40),
    cuts=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    crashes=st.lists(step, max_size=6),
    intruder=st.none() | step,
    deletion=st.none() | step,
)
def test_same_totals_as_a_plain_count(
    valkey_url: str,
    secrets: Secrets,
    story: list[Seen],
    cuts: list[int],
    crashes: list[tuple[int, bool]],
    intruder: tuple[int, bool] | None,
    deletion: tuple[int, bool] | None,
):
    client = connect(valkey_url)
    client.flushall()
    # Buckets expire by the clock of the store, which is not the one of this story.
    wanted = Settings(redis_url=valkey_url, shards=1, keep_buckets=3650)
    for name in ("kept", "doomed"):
        asyncio.run(_with(valkey_url, lambda s, n=name: storage.create(s, new_campaign(n, n, "email"))))
    left = list(story)
    for i in range(len(story)):
        batch, left = left[: cuts[i % len(cuts)]], left[cuts[i % len(cuts)] :]
        if batch:
            data = hit.encode_batch([hit.encode(one.hit()) for one in batch])
            client.xadd(keys.hits(SHARD), {str(hit.FORMAT): data})

    def roll_up(wire: Any, entries: int) -> None:
        rollup = Rollup(wire, wanted, secrets, SHARD, max_entries=entries, max_ahead_ms=ANY_YEAR)
        while rollup.step(NOW) is Outcome.COUNTED:
            pass

    def kill() -> None:
        raise Killed

    def delete() -> None:
        with contextlib.suppress(storage.UnknownCampaign):
            asyncio.run(_with(valkey_url, lambda s: storage.delete(s, "doomed", 1)))

    for number, crash in enumerate([*crashes, None]):
        acts: dict[tuple[int, bool], Callable[[], None]] = {}
        if number == 0 and intruder is not None:
            # Another worker does it all in the middle of this one's pass.
            acts[intruder] = lambda: roll_up(client, 3)
        if number == 0 and deletion is not None:
            acts[deletion] = delete
        if crash is not None:
            acts[crash] = kill
        with contextlib.suppress(Killed):
            roll_up(Wire(client, acts), 1 + number % 3)
    if deletion is not None:
        delete()
    roll_up(client, 2)

    assert client.xlen(keys.hits(SHARD)) == 0
    for name in ("kept", "new") if deletion else ("kept", "new", "doomed"):
        assert kept_count(client, name) == plain_count(story, name)
    if deletion is not None:
        assert [key for key in client.keys("*") if b"doomed" in key] == []
    client.close()


async def _with(url: str, act: Callable[[Any], Any]) -> None:
    made = connect_async(url)
    await act(made)
    await made.aclose()


def test_a_worker_thought_dead_changes_nothing(client: redis.Redis, secrets: Secrets):
    """It has read everything and sleeps; another counts; it wakes up and commits: nothing happens."""
    wanted = Settings(redis_url="", shards=1)
    one = Seen("new", 1, 0, "GET", Part.SINGLE, Mode.PSEUDONYMOUS)
    data = hit.encode_batch([hit.encode(one.hit())])
    client.xadd(keys.hits(SHARD), {str(hit.FORMAT): data})
    commands = Wire(client, {})
    probe = Rollup(commands, wanted, secrets, SHARD)
    # The commit is the last command of a pass.
    other = Rollup(client, wanted, secrets, SHARD)
    assert probe.step(NOW) is Outcome.COUNTED
    client.xadd(keys.hits(SHARD), {str(hit.FORMAT): data})
    wire = Wire(client, {(commands.commands, False): lambda: other.step(NOW)})
    assert Rollup(wire, wanted, secrets, SHARD).step(NOW) is Outcome.MOVED
    totals = client.hgetall(keys.total(SHARD, "new"))
    assert {name: totals[name] for name in (b"hits", b"opens", b"unique_opens", b"hits_unknown")} == {
        b"hits": b"2",
        b"opens": b"2",
        b"unique_opens": b"1",
        b"hits_unknown": b"2",
    }
