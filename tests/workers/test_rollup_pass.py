"""One pass of the roll-up: its bounds, its checkpoint and its dead letters."""

from __future__ import annotations

import asyncio
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
from workers import rollup_pass
from workers.rollup_pass import PASS_ENTRIES, PASS_HITS, Outcome, Rollup
from workers.stream_reader import read_pass


def batch(hits):
    """Returns the fields of a stream entry with so many hits."""
    return {"1": hit.encode_batch([hit.encode(Hit(n, "none", hit.EMAIL, "GET")) for n in range(hits)])}


async def create_campaigns(url):
    store = connect_async(url)
    await storage.create(store, new_campaign("mail", "mail", "email"))
    await storage.create(store, new_campaign("page", "page", "web"))
    await store.aclose()


def test_pass_many_entries_is_bounded_by_entries_and_hits(client, settings, secrets):
    rollup = Rollup(client, settings, secrets, 0)
    for _ in range(2 * PASS_ENTRIES):
        client.xadd(keys.hits(0), batch(1))
    for _ in range(10):
        client.xadd(keys.hits(0), batch(1000))
    passes = []
    while rollup.run_pass(0) is Outcome.COUNTED:
        passes.append((rollup.counted - sum(hits for hits, _ in passes), rollup.is_behind))
    full, rest = (PASS_HITS, True), (10_000 - 2 * PASS_HITS, False)
    assert passes == [(PASS_ENTRIES, True), (PASS_ENTRIES, True), full, full, rest]


def test_pass_empty_dead_letter_queue_accepts_a_whole_pass(client, settings, secrets):
    """If it did not, a full queue could not be cleared, and the shard would stand still for good."""
    bad = [hit.encode(Hit(-1, "mail", hit.EMAIL, "GET", token_time=1)) for _ in range(150)]
    for _ in range(2):
        client.xadd(keys.hits(0), {"1": hit.encode_batch(bad)})
    rollup = Rollup(client, replace(settings, max_dead_letters=100), secrets, 0, max_entries=1)
    assert [rollup.run_pass(1e9), client.xlen(keys.dead(0))] == [Outcome.COUNTED, 150]
    assert [rollup.run_pass(1e9), client.xlen(keys.dead(0))] == [Outcome.STOPPED, 150]
    client.delete(keys.dead(0))
    assert [rollup.run_pass(1e9), rollup.run_pass(1e9)] == [Outcome.COUNTED, Outcome.EMPTY]


def test_pass_hit_of_the_future_counts_at_the_time_redis_stored_it(client, settings, secrets):
    asyncio.run(create_campaigns(settings.redis_url))
    ahead = hit.encode(Hit(4 * 10**12, "page", hit.WEB, "GET", address=bytes(4), agent="x"))
    entry = client.xadd(keys.hits(0), {"1": hit.encode_batch([ahead])})
    stored_ms = int(entry.partition(b"-")[0])
    assert Rollup(client, settings, secrets, 0).run_pass(stored_ms / 1000) is Outcome.COUNTED
    assert client.xlen(keys.dead(0)) == 0
    assert checkpoint.read_checkpoint(client, 0).newest_ms == stored_ms
    salts = client.keys("px:*:salt:*")
    assert salts  # two soon after midnight, when visits of the last day still go on
    assert all(int(salt.rpartition(b":")[2]) - stored_ms / 1000 < 2 * 86_400 for salt in salts)


def test_pass_generation_raised_since_its_read_changes_nothing(client, settings, secrets, monkeypatch):
    for _ in range(2):
        client.xadd(keys.hits(0), batch(1))
    rollup = Rollup(client, settings, secrets, 0, max_entries=1)
    assert rollup.run_pass(0) is Outcome.COUNTED

    def raised_meanwhile(*arguments):
        read = read_pass(*arguments)
        monkeypatch.undo()
        client.hincrby(keys.checkpoint(0), "n", 1)
        return read

    monkeypatch.setattr(rollup_pass, "read_pass", raised_meanwhile)
    assert [rollup.run_pass(0) for _ in range(3)] == [Outcome.NOT_COMMITTED, Outcome.COUNTED, Outcome.EMPTY]
    assert rollup.counted == 2


@pytest.mark.parametrize("key", [keys.rules, keys.addresses, keys.total, keys.people])
def test_pass_key_of_another_type_stops_the_shard_and_loses_nothing(client, settings, secrets, key):
    """Somebody put the key there by hand. The hits wait, and are counted once the key is gone."""
    asyncio.run(create_campaigns(settings.redis_url))
    opened = mailed(time=5000, recipient=b"12345678", address=b"\x08\x08\x08\x08")
    client.xadd(keys.hits(0), {"1": hit.encode_batch([hit.encode(opened)])})
    bucket = int.from_bytes(b"56") % keys.PEOPLE_BUCKETS
    name = key(0, "mail", bucket) if key is keys.people else key(0, "mail")
    client.rpush(name, "put here by hand")
    rollup = Rollup(client, settings, secrets, 0)
    assert rollup.try_pass(60) is Outcome.STOPPED
    assert b"WRONGTYPE" in client.get(keys.stop(0))
    assert client.xlen(keys.hits(0)) == 1
    client.delete(name)
    assert rollup.try_pass(60) is Outcome.COUNTED
    assert client.hmget(keys.total(0, "mail"), "hits", "opens", "unique_opens") == [b"1"] * 3
    assert client.pfcount(keys.addresses(0, "mail")) == 1


MAIL_FLAGS = Token("mail", 0, b"12345678", Mode.PSEUDONYMOUS).flags


def mailed(**fields):
    """Returns a hit of a mail pixel."""
    defaults = {"time": 1, "campaign": "mail", "kind": hit.EMAIL, "method": "GET", "flags": MAIL_FLAGS}
    return Hit(**{**defaults, **fields})


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"address": b"abc"}, "address: wrong length, 3 bytes"),
        ({"address": b"a" * 17}, "address: wrong length, 17 bytes"),
        ({"campaign": "No Slug\n"}, "campaign: not a slug"),
        ({"campaign": ""}, "campaign: not a slug"),
        ({"campaign": "No Slug", "kind": hit.WEB}, "campaign: not a slug"),
        ({"agent": "raises"}, "cannot be counted: KeyError"),
        ({"agent": "raises", "gpc": "1"}, "cannot be counted: KeyError"),
        ({"agent": "raises", "kind": hit.WEB, "campaign": "page"}, "cannot be counted: KeyError"),
    ],
)
def test_pass_hit_that_cannot_be_counted_becomes_a_dead_letter(
    client, settings, secrets, monkeypatch, fields, reason, redis_url
):
    verdict = Rules.verdict

    def judge(rules, agent, *more):
        return {}[agent] if agent == "raises" else verdict(rules, agent, *more)

    monkeypatch.setattr(Rules, "verdict", judge)
    load_judge.cache_clear()
    asyncio.run(create_campaigns(redis_url))
    bad, good = mailed(recipient=b"12345678", **fields), mailed(recipient=b"12345678")
    client.xadd(keys.hits(0), {"1": hit.encode_batch([hit.encode(bad), hit.encode(good)])})
    assert Rollup(client, settings, secrets, 0).run_pass(2) is Outcome.COUNTED
    [(_, letter)] = client.xrange(keys.dead(0))
    assert letter == {b"reason": reason.encode(), b"data": hit.encode(bad)}
    assert client.hgetall(keys.total(0, "mail"))[b"hits"] == b"1"
    assert b"hits_gpc" not in client.hgetall(keys.total(0, "mail"))
    assert sorted(client.zrange(keys.CAMPAIGNS, 0, -1)) == [b"mail", b"page"]
    load_judge.cache_clear()


@pytest.mark.parametrize(("kind", "most"), [("mail", 5), ("page", 6)])
def test_pass_makes_few_round_trips(client, settings, secrets, monkeypatch, kind, most):
    """If Redis is 150 ms away, each round trip more makes figures 150 ms older."""
    asyncio.run(create_campaigns(settings.redis_url))
    given = {
        "mail": [mailed(time=5000 + n, recipient=b"%08d" % n, address=bytes(4)) for n in range(50)],
        "page": [Hit(5000 + n, "page", hit.WEB, "GET", address=bytes(4), agent=f"x{n}") for n in range(50)],
    }[kind]
    for each in given:
        client.xadd(keys.hits(0), {"1": hit.encode_batch([hit.encode(each)])})
    trips = 0
    get_connection = client.connection_pool.get_connection

    def counted(*arguments, **options):
        nonlocal trips
        trips += 1
        return get_connection(*arguments, **options)

    monkeypatch.setattr(client.connection_pool, "get_connection", counted)
    rollup = Rollup(client, settings, secrets, 0)
    assert rollup.run_pass(5) is Outcome.COUNTED
    assert rollup.counted == 50
    assert trips <= most
