"""Refreshed lists in the store, and their copies in a data directory."""

from __future__ import annotations

import asyncio
import datetime
import errno
import os
from ipaddress import ip_address
from pathlib import Path

import pytest

from pixel_server.classify import network_store
from pixel_server.classify.network_refresh import NewList
from pixel_server.classify.network_store import (
    CLAIM_SECONDS,
    RETRY_SECONDS,
    STATE_FIELDS,
    WEEK_SECONDS,
    ListCopies,
    ListState,
    claim_call,
    fields_of,
    parse_states,
    unpack,
)
from pixel_server.classify.networks import Networks
from pixel_server.counters.stored_format import NewerFormat
from pixel_server.store import keys
from pixel_server.store.client import connect, connect_async

NOW = 1_790_000_000


def new_list(network: str, name: str = "openai") -> NewList:
    text = f"# source: a test\n# date: 2026-09-01\n{network}\n".encode()
    return NewList(name, 1, 1, datetime.date(2026, 9, 1), text)


def store_list(client, network: str) -> None:
    client.hset(keys.NETWORKS, mapping=fields_of(new_list(network), NOW))


def names(directory: Path, address: str) -> tuple[str, ...]:
    return Networks.load(refreshed=directory).names(ip_address(address).packed)


def copy(client, directory: Path) -> None:
    ListCopies(directory).update(client)


def test_copies_new_list_is_written_and_an_unchanged_one_is_not(client, tmp_path):
    directory = tmp_path / "networks-refreshed"
    copy(client, directory)
    assert not directory.exists(), "the store has no list"
    store_list(client, "192.0.2.0/24")
    copy(client, directory)
    assert names(directory, "192.0.2.1") == ("openai",)
    written_at = (directory / "openai.txt").stat().st_mtime_ns
    copy(client, directory)
    assert (directory / "openai.txt").stat().st_mtime_ns == written_at
    store_list(client, "198.51.100.0/24")
    copy(client, directory)
    assert (names(directory, "192.0.2.1"), names(directory, "198.51.100.1")) == ((), ("openai",))


def test_copies_changed_or_removed_file_is_written_again(client, tmp_path):
    store_list(client, "192.0.2.0/24")
    for damage in (
        lambda path: path.write_text("half of a li"),
        Path.unlink,
        lambda path: path.write_text(""),
    ):
        copy(client, tmp_path)
        damage(tmp_path / "openai.txt")
        copy(client, tmp_path)
        assert names(tmp_path, "192.0.2.1") == ("openai",)


def test_copies_async_client_writes_the_same(client, redis_url, tmp_path):
    async def update() -> None:
        store = connect_async(redis_url)
        await ListCopies(tmp_path).update_async(store)
        await store.aclose()

    store_list(client, "192.0.2.0/24")
    asyncio.run(update())
    assert names(tmp_path, "192.0.2.1") == ("openai",)


def test_copies_are_checked_at_most_every_check_seconds(client, tmp_path, monkeypatch):
    copies = ListCopies(tmp_path)
    copies.update(client)
    store_list(client, "192.0.2.0/24")
    copies.update(client)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(network_store, "CHECK_SECONDS", 0.0)
    copies = ListCopies(tmp_path)
    for network in ("192.0.2.0/24", "198.51.100.0/24"):
        store_list(client, network)
        copies.update(client)
    assert names(tmp_path, "198.51.100.1") == ("openai",)


@pytest.mark.parametrize("value", [b"", b"\x02newer", b"\x01no zlib", b"\x01"])
def test_copies_unreadable_list_keeps_the_old_copy_and_says_so_once(
    client, tmp_path, caplog, value, monkeypatch
):
    monkeypatch.setattr(network_store, "CHECK_SECONDS", 0.0)
    store_list(client, "192.0.2.0/24")
    copies = ListCopies(tmp_path)
    copies.update(client)
    client.hset(keys.NETWORKS, mapping={"openai": value, "openai version": "another"})
    copies.update(client)
    copies.update(client)
    assert names(tmp_path, "192.0.2.1") == ("openai",)
    assert caplog.text.count("using the old lists of networks") == 1


@pytest.mark.parametrize("call", ["fsync", "replace", "mkdir"])
def test_copies_full_disk_keeps_the_old_copy(client, tmp_path, monkeypatch, caplog, call):
    def broken(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    store_list(client, "192.0.2.0/24")
    copy(client, tmp_path)
    store_list(client, "198.51.100.0/24")
    monkeypatch.setattr(*((os, "fsync") if call == "fsync" else (Path, call)), broken)
    copy(client, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["openai.txt"]
    assert names(tmp_path, "192.0.2.1") == ("openai",)
    assert "No space left on device" in caplog.text


def test_copies_redis_away_keeps_the_old_copy_quietly(client, tmp_path, caplog):
    store_list(client, "192.0.2.0/24")
    copy(client, tmp_path)
    ListCopies(tmp_path).update(connect("unix:///nowhere/valkey.sock"))
    assert names(tmp_path, "192.0.2.1") == ("openai",)
    assert caplog.text == ""


def test_copies_process_killed_while_writing_leaves_the_old_copy(client, redis_url, tmp_path):
    store_list(client, "192.0.2.0/24")
    copy(client, tmp_path)
    store_list(client, "198.51.100.0/24")
    child = os.fork()
    if not child:
        try:
            os.fsync = lambda _: os.kill(os.getpid(), 9)
            with connect(redis_url) as store:
                copy(store, tmp_path)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9
    assert names(tmp_path, "192.0.2.1") == ("openai",)
    copy(client, tmp_path)
    assert names(tmp_path, "198.51.100.1") == ("openai",)


def test_unpack_fields_of_a_list_give_its_text():
    new = new_list("192.0.2.0/24")
    assert unpack(fields_of(new, NOW)["openai"]) == new.text
    with pytest.raises(NewerFormat, match="format 2, this version reads 1"):
        unpack(b"\x02...")


def test_claim_only_one_process_may_try(client):
    now = client.eval(*claim_call())
    assert abs(now - client.time()[0]) <= 2
    assert client.eval(*claim_call()) == 0
    assert int(client.hget(keys.NETWORKS, "next")) == now + CLAIM_SECONDS


@pytest.mark.parametrize(
    ("ahead", "is_due"),
    [
        (0, True),
        (-1, True),
        (60, False),
        (RETRY_SECONDS, False),
        (WEEK_SECONDS, False),
        (WEEK_SECONDS + 60, True),
    ],
)
def test_claim_goes_by_the_time_of_redis(client, ahead, is_due):
    """A time more than a week ahead was written under a wrong clock."""
    client.hset(keys.NETWORKS, "next", int(client.time()[0] + ahead))
    assert bool(client.eval(*claim_call())) is is_due


def test_parse_states_fetched_and_other_lists(client):
    store_list(client, "192.0.2.0/24")
    client.hset(keys.NETWORKS, "apple error", "no answer")
    states = parse_states(client.hmget(keys.NETWORKS, STATE_FIELDS))
    assert list(states) == ["apple", "google", "microsoft-eop", "openai"]
    assert states["openai"] == ListState(ranges=1, at=NOW, error="")
    assert states["apple"] == ListState(ranges=0, at=0, error="no answer")
    assert states["microsoft-eop"].ranges == 7, "as shipped"


def test_list_state_is_due_after_a_week():
    state = ListState(1, NOW, "")
    assert [state.is_due(NOW + day * 86_400) for day in (0, 1, 6, 7, 8)] == [False, False, False, True, True]
    assert state.is_due(NOW - 86_400), "fetched in the future, under a wrong clock"
    assert ListState(1, 0, "").is_due(NOW)
