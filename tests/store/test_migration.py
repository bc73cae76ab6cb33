"""A store of an earlier format is migrated at a start, also if earlier starts were killed meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import traceback
from collections.abc import Callable

import pytest
import redis

from pixel_server.store import compatibility, keys, migration, store_mark, store_version
from pixel_server.store.checkpoint import Command, Generation, plan_and_commit, read_call, read_replies
from pixel_server.store.client import StoreError, StoreNewerError, connect_async
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.store_mark import StoreMark

TOTAL = keys.total(0, "mail")


async def _double_hits(store: AsyncRedis, shards: int) -> None:
    """Doubles the counts of hits, and renames them to `hits2`, which is their mark of the new format."""
    await _change(store, shards, "hits", "hits2", lambda hits: 2 * hits)


async def _add_one(store: AsyncRedis, shards: int) -> None:
    await _change(store, shards, "hits2", "hits3", lambda hits: hits + 1)


async def _change(store: AsyncRedis, shards: int, old: str, new: str, change: Callable[[int], int]) -> None:
    for shard in range(shards):
        name = keys.total(shard, "mail")

        async def plan(generation: Generation, shard: int = shard, name: str = name) -> list[Command]:
            reply = await store.eval(*read_call(shard, generation, [("HGET", name, old)]))
            (stored,) = read_replies(reply)
            if stored is None:
                return []
            return [("HSET", name, new, str(change(int(stored)))), ("HDEL", name, old)]

        await plan_and_commit(store, shard, plan)


@pytest.fixture
def old_store(client, settings, secrets):
    """A store of format 1 with a count of 10 hits in each shard."""
    start(settings, secrets)
    for shard in range(settings.shards):
        client.hset(keys.total(shard, "mail"), "hits", 10)
    assert client.hget(keys.STORE, "format") == b"1"
    return client


@pytest.fixture
def format_3(old_store, monkeypatch):
    """Makes this version one that needs format 3."""
    for module in (store_version, migration, compatibility):
        monkeypatch.setattr(module, "FORMAT", 3)
    monkeypatch.setattr(migration, "STEPS", (_double_hits, _add_one))


class _Killed:
    """A client that kills its process by SIGKILL before the command of a number."""

    def __init__(self, store: AsyncRedis, commands: int) -> None:
        self._store, self._left = store, commands

    def __getattr__(self, name: str):
        found = getattr(self._store, name)
        if name in ("hset", "hdel", "eval"):  # commands that change something
            self._left -= 1
            if self._left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return found


def start(settings, secrets, mark: StoreMark | None = None, kill_before: int | None = None) -> None:
    """Does what a web process does at its start."""

    async def run() -> None:
        async with connect_async(settings.redis_url) as store:
            used = store if kill_before is None else _Killed(store, kill_before)
            url, shards = settings.redis_url, settings.shards
            await compatibility.check_store(used, url, shards, secrets, mark, is_server=True)

    asyncio.run(run())


def start_and_be_killed(settings, secrets, kill_before: int) -> bool:
    """Returns whether the start was killed before a command. False: it ended before."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            start(settings, secrets, kill_before=kill_before)
            code = 0
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def totals(client: redis.Redis, shards: int) -> list[dict[bytes, bytes]]:
    return [client.hgetall(keys.total(shard, "mail")) for shard in range(shards)]


def test_migrate_start_killed_before_each_command_goes_on_at_the_next(old_store, format_3, settings, secrets):
    record = old_store.hgetall(keys.STORE)
    kills = 0
    while True:
        for shard in range(settings.shards):
            old_store.delete(keys.total(shard, "mail"))
            old_store.hset(keys.total(shard, "mail"), "hits", 10)
        old_store.delete(keys.STORE)
        old_store.hset(keys.STORE, mapping=record)
        if not start_and_be_killed(settings, secrets, kills):
            break
        kills += 1
        start_and_be_killed(settings, secrets, 3)  # the next start is killed too
        start(settings, secrets)
        assert totals(old_store, settings.shards) == [{b"hits3": b"21"}] * settings.shards, kills
        stored = old_store.hgetall(keys.STORE)
        assert (stored[b"format"], b"migrated" in stored) == (b"3", False)
    assert kills >= 2 * settings.shards + 3, "one commit a shard and step, and three changes of the record"


def test_migrate_each_start_killed_one_command_later_ends_at_last(old_store, format_3, settings, secrets):
    kills = itertools.count(1)
    while start_and_be_killed(settings, secrets, next(kills)):
        assert old_store.hget(keys.STORE, "format") == b"3", "processes of earlier versions must not use it"
    assert totals(old_store, settings.shards) == [{b"hits3": b"21"}] * settings.shards


def test_check_store_by_a_command_does_not_migrate(old_store, format_3, settings, secrets):
    async def run() -> None:
        async with connect_async(settings.redis_url) as store:
            await compatibility.check_store(store, settings.redis_url, settings.shards, secrets)

    with pytest.raises(StoreError, match="has format 1, and this version needs format 3: first start"):
        asyncio.run(run())
    assert old_store.hget(keys.STORE, "format") == b"1"
    start_and_be_killed(settings, secrets, 2)
    with pytest.raises(StoreError, match="needs format 3: first start"):
        asyncio.run(run())


def test_store_mark_running_process_of_an_earlier_version_stops_using_the_store(
    old_store, settings, secrets, caplog
):
    mark = StoreMark()
    start(settings, secrets, mark)
    assert mark.is_known_store(old_store)
    old_store.hset(keys.STORE, mapping={"format": "2", "version": "9.9.9"})
    for _ in range(2):
        assert not mark.is_known_store(old_store)
    line = "the store has format 2, and this version ("
    assert caplog.text.count(line) == 1
    assert "until you start 9.9.9 or newer here" in mark.trouble
    with pytest.raises(ConnectionError, match="format 2"):
        mark.current()
    with pytest.raises(StoreNewerError, match=r"Redis at unix:.* has format 2"):
        start(settings, secrets)
    old_store.hset(keys.STORE, "format", "1")
    assert mark.is_known_store(old_store)
    assert mark.current()


def test_check_store_notes_the_newest_version(old_store, settings, secrets, monkeypatch, caplog):
    assert old_store.hget(keys.STORE, "version") == store_version.__version__.encode()
    for version, stored in (("1.9.0", b"1.9.0"), ("1.10.0", b"1.10.0"), ("1.9.3", b"1.10.0")):
        for module in (store_version, compatibility):
            monkeypatch.setattr(module, "__version__", version)
        assert "1.10.0 has used" not in caplog.text
        start(settings, secrets)
        assert old_store.hget(keys.STORE, "version") == stored
    assert "version 1.10.0 has used this store, and this is 1.9.3: see docs/upgrading.md" in caplog.text


def test_steps_lead_to_the_format_of_this_version():
    assert len(migration.STEPS) == migration.FORMAT - 1
    assert store_mark.FIELDS[2:] == ["format", store_version.VERSION_FIELD]
