"""Which shards a job drains beside each other, and how much a pass takes."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from pixel_server import hit
from pixel_server.campaigns import storage
from pixel_server.campaigns.campaign import new_campaign
from pixel_server.classify.judge import load_judge
from pixel_server.classify.rules import Rules
from pixel_server.hit import Hit
from pixel_server.store import checkpoint, keys
from pixel_server.store.client import connect_async
from pixel_server.tokens import Mode, Token
from workers import stream_reader
from workers.rollup import MAX_SHARDS, drain_shards, shards_of_job
from workers.rollup_pass import PASS_ENTRIES, PASS_HITS, Outcome, Rollup


@pytest.mark.parametrize("shards", [1, 2, 3, 4, 7, 256])
@pytest.mark.parametrize("workers", [1, 2, 3, 4, 9])
def test_jobs_that_run_at_once_drain_no_shard_twice(shards, workers):
    for first in range(shards):
        jobs = [shards_of_job((first + i) % shards, shards, workers) for i in range(min(workers, shards))]
        drained = [shard for job in jobs for shard in job]
        assert len(set(drained)) == len(drained)
        assert all(job[0] == (first + i) % shards and len(job) <= MAX_SHARDS for i, job in enumerate(jobs))


def test_a_worker_alone_drains_all():
    assert sorted(shards_of_job(2, 4, 1)) == [0, 1, 2, 3]


def batch(hits):
    return {"1": hit.encode_batch([hit.encode(Hit(n, "none", hit.EMAIL, "GET")) for n in range(hits)])}


def test_a_pass_is_bounded_whatever_came_before(client, settings, secrets):
    rollup = Rollup(client, settings, secrets, 0)
    for _ in range(2 * PASS_ENTRIES):
        client.xadd(keys.hits(0), batch(1))
    for _ in range(10):
        client.xadd(keys.hits(0), batch(1000))
    counted = []
    while rollup.step(0) is Outcome.COUNTED:
        counted.append((rollup.counted - sum(n for n, _ in counted), rollup.is_behind))
    many, rest = (PASS_HITS, True), (10_000 - 2 * PASS_HITS, False)
    assert counted == [(PASS_ENTRIES, True), (PASS_ENTRIES, True), many, many, rest]


@pytest.mark.parametrize(
    ("sizes", "taken", "stopped"),
    [
        ([], 0, False),
        ([8] * 30, 13, True),
        ([60, 60, 60], 2, True),
        ([500], 1, True),
        ([16, 15, 0, 1], 4, False),
        ([99], 1, False),
    ],
)
@pytest.mark.parametrize("first", [1, stream_reader.FIRST_ENTRIES, 12, 1000])
def test_what_is_read_for_a_pass(client, sizes, taken, stopped, first):
    for size in sizes:
        client.xadd(keys.hits(0), batch(size))
    found, limit = stream_reader.read_entries(client, 0, "0-0", 100, 50, first)
    assert (len(found), limit) == (taken, stopped)
    assert len(stream_reader.decode_entries(found).hits) == sum(sizes[:taken])


def test_one_pass_may_bring_more_dead_letters_than_there_may_be(client, settings, secrets):
    """Else the shard would stand still for good: to drop what is kept would not help."""
    bad = [hit.encode(Hit(-1, "mail", hit.EMAIL, "GET", token_time=1)) for _ in range(150)]
    for _ in range(2):
        client.xadd(keys.hits(0), {"1": hit.encode_batch(bad)})
    rollup = Rollup(client, replace(settings, dead_letters=100), secrets, 0, max_entries=1)
    assert [rollup.step(1e9), client.xlen(keys.dead(0))] == [Outcome.COUNTED, 150]
    assert [rollup.step(1e9), client.xlen(keys.dead(0))] == [Outcome.STOPPED, 150]
    client.delete(keys.dead(0))
    assert [rollup.step(1e9), rollup.step(1e9)] == [Outcome.COUNTED, Outcome.EMPTY]


def test_rollup_hit_of_the_future_counts_at_the_time_redis_stored_it(client, settings, secrets):
    asyncio.run(make(settings.redis_url))
    ahead = hit.encode(Hit(4 * 10**12, "page", hit.WEB, "GET", address=bytes(4), agent="x"))
    entry = client.xadd(keys.hits(0), {"1": hit.encode_batch([ahead])})
    stored = int(entry.partition(b"-")[0])
    assert Rollup(client, settings, secrets, 0).step(stored / 1000) is Outcome.COUNTED
    assert client.xlen(keys.dead(0)) == 0
    assert checkpoint.read_checkpoint(client, 0).newest_ms == stored
    (salt,) = client.keys("px:*:salt:*")
    assert int(salt.rpartition(b":")[2]) - stored / 1000 < 2 * 86_400


def test_rollup_generation_raised_between_two_passes_is_noticed(client, settings, secrets):
    for _ in range(2):
        client.xadd(keys.hits(0), batch(1))
    rollup = Rollup(client, settings, secrets, 0, max_entries=1)
    assert rollup.step(0) is Outcome.COUNTED
    client.hincrby(keys.checkpoint(0), "n", 1)
    assert [rollup.step(0) for _ in range(3)] == [Outcome.MOVED, Outcome.COUNTED, Outcome.EMPTY]
    assert rollup.counted == 2


@pytest.mark.parametrize("moves", [1, 2, 5])
def test_drain_generation_raised_by_others_retries_within_the_job(
    client, settings, secrets, monkeypatch, moves
):
    """Others that raise the generation all the time cannot keep a shard from being counted."""
    for _ in range(3):
        client.xadd(keys.hits(0), batch(1))
    commit, left = checkpoint.commit, [moves]
    leads = []

    def moved(*arguments):
        if left[0]:
            left[0] -= 1
            client.hincrby(keys.checkpoint(0), "n", 1)
        leads.append(client.exists(keys.lead(0)))
        return commit(*arguments)

    monkeypatch.setattr(checkpoint, "commit", moved)
    assert drain_shards(client, settings, secrets, [0], time.monotonic() + 60, time.time) == 3
    assert leads[:3] == [0, 0, 1][: len(leads)]
    assert not client.exists(keys.lead(0))


def test_drain_shard_counted_by_another_gives_up(client, settings, secrets, monkeypatch):
    client.xadd(keys.hits(0), batch(1))
    commit = checkpoint.commit
    other = Rollup(client, settings, secrets, 0)

    def counted_by_other(*arguments):
        monkeypatch.setattr(checkpoint, "commit", commit)
        assert other.step(0) is Outcome.COUNTED
        return commit(*arguments)

    monkeypatch.setattr(checkpoint, "commit", counted_by_other)
    assert drain_shards(client, settings, secrets, [0], time.monotonic() + 60, time.time) == 0


def test_long_hits_are_fewer_in_a_pass(client):
    client.xadd(keys.hits(0), {"1": hit.encode_batch([bytes([0xC5, 78, 30]) + bytes(19_998)] * 4)})
    client.xadd(keys.hits(0), batch(1))
    client.xadd(keys.hits(0), batch(1))
    found, limit = stream_reader.read_entries(client, 0, "0-0", 79, 50)
    assert (len(found), limit) == (2, True)


def test_what_is_no_batch_is_read_too(client):
    for n in range(20):
        client.xadd(keys.hits(0), {"1": b"\xdc" if n % 2 else b"", "x": b"y"})
    found, limit = stream_reader.read_entries(client, 0, "0-0", 8, 50)
    assert (len(found), limit) == (4, True)
    assert len(stream_reader.decode_entries(found).unreadable) == 8


MAILED = Token("mail", 0, b"12345678", Mode.PSEUDONYMOUS).flags


def mailed(**fields):
    return Hit(
        **{"time": 1, "campaign": "mail", "kind": hit.EMAIL, "method": "GET", "flags": MAILED, **fields}
    )


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"address": b"abc"}, "address: of 3 bytes"),
        ({"address": b"a" * 17}, "address: of 17 bytes"),
        ({"campaign": "No Slug\n"}, "campaign: not a slug"),
        ({"campaign": ""}, "campaign: not a slug"),
        ({"campaign": "No Slug", "kind": hit.WEB}, "campaign: not a slug"),
        ({"agent": "raises"}, "cannot be counted: KeyError"),
        ({"agent": "raises", "gpc": "1"}, "cannot be counted: KeyError"),
        ({"agent": "raises", "kind": hit.WEB, "campaign": "page"}, "cannot be counted: KeyError"),
    ],
)
def test_a_hit_that_cannot_be_counted_stops_nothing(
    client, settings, secrets, monkeypatch, fields, reason, redis_url
):
    of = Rules.verdict

    def judge(rules, agent, *more):
        return {}[agent] if agent == "raises" else of(rules, agent, *more)

    monkeypatch.setattr(Rules, "verdict", judge)
    load_judge.cache_clear()
    asyncio.run(make(redis_url))
    bad, good = mailed(recipient=b"12345678", **fields), mailed(recipient=b"12345678")
    client.xadd(keys.hits(0), {"1": hit.encode_batch([hit.encode(bad), hit.encode(good)])})
    assert Rollup(client, settings, secrets, 0).step(2) is Outcome.COUNTED
    [(_, letter)] = client.xrange(keys.dead(0))
    assert letter == {b"reason": reason.encode(), b"data": hit.encode(bad)}
    assert client.hgetall(keys.total(0, "mail"))[b"hits"] == b"1"
    assert b"hits_gpc" not in client.hgetall(keys.total(0, "mail"))
    assert sorted(client.zrange(keys.CAMPAIGNS, 0, -1)) == [b"mail", b"page"]
    load_judge.cache_clear()


async def make(url):
    there = connect_async(url)
    await storage.create(there, new_campaign("mail", "mail", "email"))
    await storage.create(there, new_campaign("page", "page", "web"))
    await there.aclose()
