"""When Redis is told to rewrite its append-only file, and that what was removed is then off the disk."""

from __future__ import annotations

import asyncio
import shutil
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
    found = Path(tempfile.mkdtemp(prefix="px-"))
    yield found
    shutil.rmtree(found)


@pytest.fixture
def client(home):
    """A Valkey of its own, for others' rewrites would be seen."""
    valkey = Valkey(home)
    valkey.start()
    valkey.wait_ready()
    with connect(valkey.url) as made:
        yield made
    valkey.stop()
    valkey.wait(10)


def rewriter(minutes=60):
    return Rewriter(Settings(rewrite_minutes=minutes))


def at_rest(client):
    """One that has rewritten at NOW, at the start of it all, and is done."""
    made = rewriter()
    assert made.tick(client, [b"0-0"], NOW)
    done(client)
    return made


def done(client):
    until(lambda: not client.info("persistence")["aof_rewrite_in_progress"])


def ask(client):
    async def run():
        made = connect_async(f"unix://{client.connection_pool.connection_kwargs['path']}")
        await aof_rewrite.request(made)
        await made.aclose()

    asyncio.run(run())


def test_nothing_happens_while_nothing_is_counted(client):
    one = at_rest(client)
    assert not any(one.tick(client, [b"0-0"], NOW + hours * HOUR) for hours in range(1, 30))


def test_what_was_counted_is_rewritten_within_the_time(client):
    one = at_rest(client)
    assert not one.tick(client, [b"1-0"], NOW + HOUR)
    assert not one.tick(client, [b"2-0"], NOW + HOUR * (1.99 * EARLY_SHARE))
    assert one.tick(client, [b"2-0"], NOW + HOUR * (1 + EARLY_SHARE))
    done(client)
    assert not one.tick(client, [b"2-0"], NOW + HOUR * 9)


def test_what_is_removed_is_rewritten_at_once(client):
    one = at_rest(client)
    ask(client)
    assert not one.tick(client, [b"0-0"], NOW + MIN_PAUSE_SECONDS - 1)
    assert one.tick(client, [b"0-0"], NOW + MIN_PAUSE_SECONDS)
    done(client)
    assert not one.tick(client, [b"0-0"], NOW + HOUR)


def test_not_two_at_once(client):
    one, two = at_rest(client), rewriter()
    client.config_set("rdb-key-save-delay", 20_000)
    client.mset({f"k{n}": n for n in range(100)})
    ask(client)
    assert two.tick(client, [b"0-0"], NOW + 20)
    ask(client)
    assert not one.tick(client, [b"0-0"], NOW + 40)
    done(client)
    assert one.tick(client, [b"0-0"], NOW + 50), "what was asked meanwhile is not forgotten"


def test_after_a_start_it_is_as_if_all_were_counted_at_the_last_rewrite(client):
    at_rest(client)
    assert not rewriter().tick(client, [b"9-0"], NOW + HOUR * EARLY_SHARE - 1)
    assert rewriter().tick(client, [b"9-0"], NOW + HOUR * EARLY_SHARE)


@pytest.mark.parametrize("again", [True, False], ids=["the same", "another"])
def test_a_clock_that_was_ahead_delays_nothing(client, again):
    one = at_rest(client)
    assert one.tick(client, [b"1-0"], NOW + 9000 * HOUR) is False
    ask(client)
    assert one.tick(client, [b"1-0"], NOW + 9000 * HOUR)
    done(client)
    ask(client)
    assert (one if again else rewriter()).tick(client, [b"1-0"], NOW + 60)


def test_zero_minutes_leave_it_to_redis(client):
    ask(client)
    assert not rewriter(0).tick(client, [b"1-0"], NOW + HOUR)


def test_one_that_fails_is_said_and_tried_again(client, home, caplog):
    one = at_rest(client)
    blocked = home / "valkey" / "appendonlydir"
    ask(client)
    client.config_set("rdb-key-save-delay", 50_000)
    client.mset({f"k{n}": n for n in range(100)})
    assert one.tick(client, [b"0-0"], NOW + 20)
    [child] = [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/stat")
        if f"{home}" in (path.parent / "cmdline").read_text() or _is_child(path, client)
        if int(path.parent.name) != client.info("server")["process_id"]
    ]
    import os
    import signal

    os.kill(child, signal.SIGKILL)
    done(client)
    client.config_set("rdb-key-save-delay", 0)
    assert not one.tick(client, [b"0-0"], NOW + 21)
    assert "could not rewrite" in caplog.text
    assert not one.tick(client, [b"0-0"], NOW + 22)
    assert one.tick(client, [b"0-0"], NOW + 21 + RETRY_SECONDS)
    done(client)
    assert blocked.exists()


def _is_child(stat, client):
    parent = int(stat.read_text().rpartition(")")[2].split()[1])
    return parent == client.info("server")["process_id"]


def test_without_a_file_there_is_nothing_to_rewrite(client, caplog):
    client.config_set("appendonly", "no")
    assert not rewriter().tick(client, [b"1-0"], NOW)
    assert "keeps no append-only file" in caplog.text


def test_what_was_trimmed_is_off_the_disk(client, home):
    address = forms("address", bytes.fromhex("cb00714d01020304"))
    for n in range(50):
        client.xadd(keys.hits(0), {"1": b"hit %d " % n + address["address: packed"]})
    assert search(home, address).keys() == {"address: packed"}
    client.xtrim(keys.hits(0), maxlen=0, approximate=False)
    assert search(home, address) != {}
    assert rewriter().tick(client, [b"1-0"], NOW)
    done(client)
    until(lambda: search(home, address) == {})
