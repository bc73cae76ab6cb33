"""Rewrites of the append-only file: when they begin, and that removed data is then off the disk."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

from pixel_server.run.valkey import Valkey
from pixel_server.settings import Settings
from pixel_server.store import aof_rewrite, keys
from pixel_server.store.aof_rewrite import EARLY_SHARE, MIN_PAUSE_SECONDS, RETRY_SECONDS, Rewriter
from pixel_server.store.client import connect, connect_async
from tests.disk import forms, search
from tests.stack import until

NOW = 1_790_000_000.0
HOUR = 3600.0


@pytest.fixture
def home():
    directory = Path(tempfile.mkdtemp(prefix="px-"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def client(home):
    """A Valkey of its own, because the rewriters would see the rewrites of other tests."""
    valkey = Valkey(home)
    valkey.start()
    valkey.wait_ready()
    with connect(valkey.url) as store:
        yield store
    valkey.stop()
    valkey.wait(60)


def rewriter(minutes=60):
    return Rewriter(Settings(rewrite_minutes=minutes))


def rested_rewriter(client):
    """Returns a rewriter whose first rewrite began at NOW and has ended."""
    rested = rewriter()
    assert rested.tick(client, [b"0-0"], NOW)
    wait_for_rewrite(client)
    assert not rested.tick(client, [b"0-0"], NOW)
    return rested


def wait_for_rewrite(client):
    until(lambda: not client.info("persistence")["aof_rewrite_in_progress"])


def request(client):
    async def run():
        store = connect_async(f"unix://{client.connection_pool.connection_kwargs['path']}")
        await aof_rewrite.request(store)
        await store.aclose()

    asyncio.run(run())


def answered(client):
    """Returns (number of requests, number of answered requests)."""
    return tuple(int(number or 0) for number in client.hmget(keys.REWRITE, ["asked", "answered"]))


def test_rewriter_request_is_answered_when_the_rewrite_has_ended(client):
    rested = rested_rewriter(client)
    client.config_set("rdb-key-save-delay", 20_000)
    client.mset({f"k{n}": n for n in range(100)})
    request(client)
    assert rested.tick(client, [b"0-0"], NOW + 20)
    assert not rested.tick(client, [b"0-0"], NOW + 21)
    assert answered(client) == (2, 1)
    wait_for_rewrite(client)
    assert not rested.tick(client, [b"0-0"], NOW + 22)
    assert answered(client) == (2, 2)
    assert client.hkeys(keys.REWRITE) == [b"asked", b"answered", b"begun"]


def test_rewriter_process_ends_meanwhile_another_rewrites(client):
    rested = rested_rewriter(client)
    request(client)
    assert rested.tick(client, [b"0-0"], NOW + 20)
    wait_for_rewrite(client)
    assert rewriter().tick(client, [b"0-0"], NOW + 20 + MIN_PAUSE_SECONDS)


def test_rewriter_nothing_counted_begins_nothing(client):
    rested = rested_rewriter(client)
    assert not any(rested.tick(client, [b"0-0"], NOW + hours * HOUR) for hours in range(1, 30))


def test_rewriter_entries_counted_begins_within_the_setting(client):
    rested = rested_rewriter(client)
    assert not rested.tick(client, [b"1-0"], NOW + HOUR)
    assert not rested.tick(client, [b"2-0"], NOW + HOUR * (1.99 * EARLY_SHARE))
    assert rested.tick(client, [b"2-0"], NOW + HOUR * (1 + EARLY_SHARE))
    wait_for_rewrite(client)
    assert not rested.tick(client, [b"2-0"], NOW + HOUR * 9)


def test_rewriter_requested_begins_after_the_pause(client):
    rested = rested_rewriter(client)
    request(client)
    assert not rested.tick(client, [b"0-0"], NOW + MIN_PAUSE_SECONDS - 1)
    assert rested.tick(client, [b"0-0"], NOW + MIN_PAUSE_SECONDS)
    wait_for_rewrite(client)
    assert not rested.tick(client, [b"0-0"], NOW + HOUR)


def test_rewriter_rewrite_under_way_waits_and_keeps_the_request(client):
    rested, other = rested_rewriter(client), rewriter()
    client.config_set("rdb-key-save-delay", 20_000)
    client.mset({f"k{n}": n for n in range(100)})
    request(client)
    assert other.tick(client, [b"0-0"], NOW + 20)
    request(client)
    assert not rested.tick(client, [b"0-0"], NOW + 40)
    wait_for_rewrite(client)
    assert rested.tick(client, [b"0-0"], NOW + 50), "the request made meanwhile is kept"


def test_rewriter_new_process_counts_from_the_last_rewrite(client):
    rested_rewriter(client)
    assert not rewriter().tick(client, [b"9-0"], NOW + HOUR * EARLY_SHARE - 1)
    assert rewriter().tick(client, [b"9-0"], NOW + HOUR * EARLY_SHARE)


@pytest.mark.parametrize("is_same", [True, False], ids=["same rewriter", "other rewriter"])
def test_rewriter_clock_was_ahead_begins_at_once(client, is_same):
    rested = rested_rewriter(client)
    assert rested.tick(client, [b"1-0"], NOW + 9000 * HOUR) is False
    request(client)
    assert rested.tick(client, [b"1-0"], NOW + 9000 * HOUR)
    wait_for_rewrite(client)
    request(client)
    assert (rested if is_same else rewriter()).tick(client, [b"1-0"], NOW + 60)


def test_rewriter_zero_minutes_begins_nothing(client):
    request(client)
    assert not rewriter(0).tick(client, [b"1-0"], NOW + HOUR)


def test_rewriter_redis_restarted_meanwhile_rewrites_again(client, caplog):
    rested = rested_rewriter(client)
    request(client)
    assert rested.tick(client, [b"0-0"], NOW + 20)
    wait_for_rewrite(client)
    client.config_resetstat()  # the count of rewrites begins at 0 again, as after a restart
    assert not rested.tick(client, [b"0-0"], NOW + 21)
    assert "Redis could not rewrite it" in caplog.text
    assert rested.tick(client, [b"0-0"], NOW + 21 + RETRY_SECONDS)


def test_rewriter_rewrite_fails_logs_and_retries(client, home, caplog):
    rested = rested_rewriter(client)
    blocked = home / "valkey" / "appendonlydir"
    request(client)
    client.config_set("rdb-key-save-delay", 50_000)
    client.mset({f"k{n}": n for n in range(100)})
    assert rested.tick(client, [b"0-0"], NOW + 20)
    [child] = [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/stat")
        if f"{home}" in (path.parent / "cmdline").read_text() or _is_child(path, client)
        if int(path.parent.name) != client.info("server")["process_id"]
    ]
    os.kill(child, signal.SIGKILL)
    wait_for_rewrite(client)
    client.config_set("rdb-key-save-delay", 0)
    assert not rested.tick(client, [b"0-0"], NOW + 21)
    assert "could not rewrite" in caplog.text
    assert not rested.tick(client, [b"0-0"], NOW + 22)
    assert rested.tick(client, [b"0-0"], NOW + 21 + RETRY_SECONDS)
    wait_for_rewrite(client)
    assert blocked.exists()


def _is_child(stat, client):
    parent = int(stat.read_text().rpartition(")")[2].split()[1])
    return parent == client.info("server")["process_id"]


def test_rewriter_no_append_only_file_begins_nothing(client, caplog):
    client.config_set("appendonly", "no")
    assert not rewriter().tick(client, [b"1-0"], NOW)
    assert "keeps no append-only file" in caplog.text


def test_rewriter_trimmed_entries_leave_the_disk(client, home):
    address = forms("address", bytes.fromhex("cb00714d01020304"))
    for n in range(50):
        client.xadd(keys.hits(0), {"1": b"hit %d " % n + address["address: packed"]})
    assert search(home, address).keys() == {"address: packed"}
    client.xtrim(keys.hits(0), maxlen=0, approximate=False)
    assert search(home, address) != {}
    assert rewriter().tick(client, [b"1-0"], NOW)
    wait_for_rewrite(client)
    until(lambda: search(home, address) == {})
