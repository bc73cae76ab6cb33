"""Each hit is counted exactly once, however the roll-up is cut, repeated, reordered, killed or raced."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pixel_server import hit
from pixel_server.campaigns import deletion, storage
from pixel_server.campaigns.campaign import new_campaign
from pixel_server.counters import series
from pixel_server.hit import Hit
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import keys
from pixel_server.store.client import connect_async
from pixel_server.tokens import Mode, Part, Token
from pixel_server.verdicts import CLASSES
from tests.cluster_nodes import client_of
from tests.conftest import NOW
from tests.properties import examples
from tests.properties.crashing_rollup import (
    Killed,
    Step,
    Wire,
    count_all,
    cuts_of_a_stream,
    kill,
    steps,
    store_in_batches,
)
from tests.stack import READER
from workers.rollup_pass import Outcome, Rollup

HALF_HOUR_MS = 1_800_000
SHARD = 0


@dataclass(frozen=True)
class MailHit:
    """A hit of a story. campaign: `kept`, `doomed`, or `new`, which only a token names.

    age: half hours before NOW.
    """

    campaign: str
    recipient: int
    age: int
    method: str
    part: Part
    mode: Mode
    agent: str = ""

    def hit(self) -> Hit:
        key = b"" if self.mode is Mode.COUNT else self.recipient.to_bytes(8, "big")
        flags = Token(self.campaign, 0, key, self.mode, self.part).flags
        ms = int(NOW * 1000) - self.age * HALF_HOUR_MS
        return Hit(ms, self.campaign, hit.EMAIL, self.method, flags, 0, key, b"", b"\x0a\0\0\1", self.agent)

    @property
    def is_open(self) -> bool:
        return self.method == "GET" and self.part is not Part.BOTTOM


mail_hits = st.builds(
    MailHit,
    campaign=st.sampled_from(["kept", "kept", "doomed", "new"]),
    recipient=st.integers(0, 3),
    age=st.integers(0, 60),
    method=st.sampled_from(["GET", "GET", "GET", "HEAD"]),
    part=st.sampled_from(list(Part)),
    agent=st.sampled_from([READER, READER, READER, "curl/8.5.0", "Mozilla/5.0", ""]),
    mode=st.sampled_from([Mode.COUNT, Mode.LAST, Mode.PSEUDONYMOUS, Mode.PSEUDONYMOUS, Mode.IDENTIFIED]),
)


def plain_counts(story: list[MailHit], campaign: str) -> dict[str, Any]:
    """Returns the figures of a campaign, counted from the list of hits."""
    hits = [mail_hit for mail_hit in story if mail_hit.campaign == campaign]
    followed = [h for h in hits if h.mode >= Mode.PSEUDONYMOUS and h.method == "GET"]
    top = {h.recipient for h in followed if h.part is Part.TOP}
    seen = {h.recipient for h in followed if h.part is Part.BOTTOM and h.agent == READER}
    first: dict[int, int] = {}
    first_person: dict[int, int] = {}
    for h in hits:
        if h.is_open and h.mode >= Mode.PSEUDONYMOUS:
            ms = h.hit().time
            first[h.recipient] = min(ms, first.get(h.recipient, ms))
            if h.agent == READER:
                first_person[h.recipient] = min(ms, first_person.get(h.recipient, ms))
    cells: dict[int, list[int]] = {}
    for h in hits:
        cell = cells.setdefault(series.bucket_start(h.hit().time), [0, 0, 0, 0])
        cell[0] += 1
        cell[1] += h.is_open
    for ms in first.values():
        cells[series.bucket_start(ms)][2] += 1
    for ms in first_person.values():
        cells[series.bucket_start(ms)][3] += 1
    return {
        "cells": cells,
        "hits": len(hits),
        "opens": sum(h.is_open for h in hits),
        "unique": len(first),
        "person": len(first_person),
        "last_hit": max((h.hit().time // 1000 for h in hits), default=0),
        "twins": len(top & first_person.keys()),
        "clipped": len(top & first_person.keys() - seen),
    }


def stored_counts(client: redis.Redis, campaign: str) -> dict[str, Any]:
    """Returns the figures of a campaign from the store. Each place that holds a figure must agree."""
    total = {name.decode(): int(value) for name, value in client.hgetall(keys.total(SHARD, campaign)).items()}
    cells: dict[int, list[int]] = {}
    for name in client.keys(keys.buckets(SHARD, campaign, "*")):
        midnight = int(datetime.strptime(name.decode()[-8:], "%Y%m%d").replace(tzinfo=UTC).timestamp())
        for number, cell in series.unpack(client.get(name)).items():
            if any(cell):
                cells[midnight + number * series.BUCKET_SECONDS] = _opens_of(cell)
    days = [
        cell for value in client.hvals(keys.months(SHARD, campaign)) for cell in series.unpack(value).values()
    ]
    sums = [sum(_opens_of(cell)[i] for cell in days) for i in range(4)]
    names = ("hits", "opens", "unique_opens", "unique_opens_person")
    assert sums == [total.get(name, 0) for name in names]
    assert sum(total.get(f"hits_{name}", 0) for name in CLASSES) == sums[0]
    assert total.get("recipients_person", 0) == sums[3]
    counts = {name: total.get(f"recipients_{name}", 0) for name in ("twins", "clipped")}
    counts |= {"hits": sums[0], "opens": sums[1], "unique": sums[2], "person": sums[3]}
    return {"cells": cells, **counts, "last_hit": total.get("last_hit", 0)}


def _opens_of(cell: list[int]) -> list[int]:
    """Returns [hits, opens, unique opens, unique opens by a person] of a cell."""
    padded = [*cell, *[0] * len(series.COUNTS)]
    return [padded[0], padded[1], padded[2], padded[series.UNIQUE_OPENS_PERSON]]


@settings(
    max_examples=examples(50), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    story=st.lists(mail_hits, min_size=1, max_size=40),
    cuts=cuts_of_a_stream,
    crashes=st.lists(steps(12), max_size=6),
    other_worker=st.none() | steps(12),
    deletion_step=st.none() | steps(12),
)
def test_rollup_any_cuts_crashes_and_races_count_each_hit_once(
    valkey_url: str,
    secrets: Secrets,
    story: list[MailHit],
    cuts: list[int],
    crashes: list[Step],
    other_worker: Step | None,
    deletion_step: Step | None,
):
    client = client_of(valkey_url)
    client.flushall()
    # Buckets expire by the store's clock, which is not the clock of the story.
    own = Settings(redis_url=valkey_url, shards=1, keep_buckets=3650)
    for name in ("kept", "doomed"):
        campaign = new_campaign(name, name, "email")
        asyncio.run(_with_store(valkey_url, lambda store, new=campaign: storage.create(store, new)))
    store_in_batches(client, [mail_hit.hit() for mail_hit in story], cuts)

    def delete() -> None:
        with contextlib.suppress(storage.UnknownCampaign):
            asyncio.run(_with_store(valkey_url, lambda store: deletion.delete(store, "doomed", 1)))

    for number, crash in enumerate([*crashes, None]):
        acts: dict[Step, Callable[[], None]] = {}
        if number == 0 and other_worker is not None:
            # Another worker counts everything in the middle of this worker's pass.
            acts[other_worker] = lambda: count_all(client, own, secrets, 3)
        if number == 0 and deletion_step is not None:
            acts[deletion_step] = delete
        if crash is not None:
            acts[crash] = kill
        with contextlib.suppress(Killed):
            count_all(Wire(client, acts), own, secrets, 1 + number % 3)
    if deletion_step is not None:
        delete()
    count_all(client, own, secrets, 2)

    assert client.xlen(keys.hits(SHARD)) == 0
    for name in ("kept", "new") if deletion_step else ("kept", "new", "doomed"):
        assert stored_counts(client, name) == plain_counts(story, name)
    if deletion_step is not None:
        assert [key for key in client.keys("*") if b"doomed" in key] == []
    client.close()


async def _with_store(url: str, act: Callable[[Any], Any]) -> None:
    store = connect_async(url)
    await act(store)
    await store.aclose()


def test_rollup_worker_slept_through_another_commit_changes_nothing(client: redis.Redis, secrets: Secrets):
    """The worker has read everything and sleeps. Another worker counts. The first wakes up and commits."""
    own = Settings(redis_url="", shards=1)
    mail_hit = MailHit("new", 1, 0, "GET", Part.SINGLE, Mode.PSEUDONYMOUS)
    store_in_batches(client, [mail_hit.hit()], [1])
    counting_wire = Wire(client, {})
    other = Rollup(client, own, secrets, SHARD)
    assert Rollup(counting_wire, own, secrets, SHARD).run_pass(NOW) is Outcome.COUNTED
    store_in_batches(client, [mail_hit.hit()], [1])
    # The commit is the last command of a pass.
    wire = Wire(client, {(counting_wire.commands, False): lambda: other.run_pass(NOW)})
    assert Rollup(wire, own, secrets, SHARD).run_pass(NOW) is Outcome.NOT_COMMITTED
    totals = client.hgetall(keys.total(SHARD, "new"))
    assert {name: totals[name] for name in (b"hits", b"opens", b"unique_opens", b"hits_unknown")} == {
        b"hits": b"2",
        b"opens": b"2",
        b"unique_opens": b"1",
        b"hits_unknown": b"2",
    }
