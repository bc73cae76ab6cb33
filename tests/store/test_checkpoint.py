"""The commit of a shard: all of it or nothing, and writers that wait for a lead."""

from __future__ import annotations

import asyncio

import pytest
import redis

from pixel_server.store import checkpoint, keys
from pixel_server.store.checkpoint import Generation
from pixel_server.store.client import connect_async

PEOPLE = keys.people.prefix(0, "mail")
COMMANDS = {
    "sum": ("HINCRBY", keys.total(0, "mail"), "hits", "1"),
    "value": ("HSET", keys.months(0, "mail"), "202506", b"packed"),
    "first value": ("HSETNX", keys.rules(0, "mail"), "1 from", "1"),
    "removal": ("HDEL", keys.visits(0), b"field"),
    "HyperLogLog": ("PFADD", keys.addresses(0, "mail"), b"address"),
    "times": ("ZADD", keys.visit_times(0), "1", b"field"),
    "removed times": ("ZREM", keys.visit_times(0), b"field"),
    "dead letter": ("XADD", keys.dead(0), "*", "reason", "none", "data", b""),
}


def commit(client, commands) -> Generation | None:
    """Commits commands and one record, and counts one stream entry."""
    entry = client.xrange(keys.hits(0))[0][0].decode()
    records = {PEOPLE: [b"12345678", b"\x06", b"record"]}
    return checkpoint.commit(client, 0, Generation(0, ""), entry, commands, records)


def contents(client) -> dict[bytes, bytes]:
    return {name: client.dump(name) for name in client.keys("px:{0}:*")}


@pytest.fixture
def client(client):
    """A store with one stream entry that waits."""
    client.xadd(keys.hits(0), {"1": b"\x90"})
    return client


@pytest.mark.parametrize("name", COMMANDS)
def test_commit_key_of_another_type_changes_nothing(client, name):
    key = COMMANDS[name][1]
    client.rpush(key, "put here by hand")
    before = contents(client)
    with pytest.raises(redis.ResponseError):
        commit(client, COMMANDS.values())
    assert contents(client) == before
    client.delete(key)
    assert commit(client, COMMANDS.values())
    assert client.xlen(keys.hits(0)) == 0
    assert client.hget(keys.total(0, "mail"), "hits") == b"1"


@pytest.mark.parametrize("number", ["", "1.5", "many", "9223372036854775807", "1 "])
def test_commit_sum_that_is_not_an_integer_changes_nothing(client, number):
    client.hset(keys.total(0, "mail"), "hits", number)
    before = contents(client)
    with pytest.raises(redis.ResponseError, match="not an integer"):
        commit(client, COMMANDS.values())
    assert contents(client) == before


def test_commit_string_that_is_not_a_hyperloglog_changes_nothing(client):
    client.set(keys.addresses(0, "mail"), "put here by hand")
    before = contents(client)
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        commit(client, COMMANDS.values())
    assert contents(client) == before


def test_commit_negative_sum_is_raised(client):
    client.hset(keys.total(0, "mail"), "hits", -5)
    assert commit(client, COMMANDS.values())
    assert client.hget(keys.total(0, "mail"), "hits") == b"-4"


def test_raise_generation_lead_taken_waits_for_its_end(client, redis_url):
    async def raise_three_times():
        store = connect_async(redis_url)
        try:
            await asyncio.gather(*(checkpoint.raise_generation(store, 0) for _ in range(3)), end_lead())
        finally:
            await store.aclose()

    async def end_lead():
        await asyncio.sleep(0.1)
        seen.append(client.hget(keys.checkpoint(0), "n"))
        checkpoint.end_lead(client, 0)

    seen = []
    checkpoint.take_lead(client, 0)
    assert 0 < client.pttl(keys.lead(0)) <= checkpoint.LEAD_MS
    asyncio.run(raise_three_times())
    assert seen == [None]
    assert int(client.hget(keys.checkpoint(0), "n")) >= 1


def test_raise_generation_lead_without_end_goes_on(client, redis_url):
    async def raise_once():
        store = connect_async(redis_url)
        await checkpoint.raise_generation(store, 0)
        await store.aclose()

    client.set(keys.lead(0), b"1")
    asyncio.run(raise_once())
    assert client.hget(keys.checkpoint(0), "n") == b"1"
