"""A host that goes away with hits in its spool: it is reported, and a copy of its spool is drained."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading

import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient

from pixel_server import hit
from pixel_server.app import create_app
from pixel_server.cli import main
from pixel_server.collect.batch import Batch
from pixel_server.collect.host_beat import HostBeat, make_host_id
from pixel_server.collect.spool.spool import Spool
from pixel_server.secret import Secrets
from pixel_server.store import hosts, jobs, keys, producer
from pixel_server.store.client import connect, connect_async
from tests.stack import until

SETTINGS = {"PIXEL_SHARDS": "a hash"}


@pytest.fixture
def run(settings):
    """Returns a function that runs a command on the data directory and Redis of `settings`."""
    Secrets.load_or_create(settings.data)

    def run(*arguments: str):
        environ = {"PIXEL_DATA_DIR": str(settings.data), "REDIS_URL": settings.redis_url}
        return CliRunner().invoke(main, list(arguments), env=environ)

    return run


@pytest.fixture
def lost_host(settings, client, tmp_path):
    """Returns the data directory of a host that was last seen 100 s ago, with two hits in its spool."""
    data = tmp_path / "lost"
    spool = Spool(data / "spool", 1 << 20)
    spool.append([Batch(1, producer.new_id(1_780_000_000), 1, hit.encode_batch([b"\xc0"] * 2))])
    spool.close()
    last_seen = client.time()[0] - 100

    async def beat() -> None:
        store = connect_async(settings.redis_url)
        await HostBeat(store, SETTINGS, data / "spool", lambda: last_seen).send()
        await store.aclose()

    asyncio.run(beat())
    return data


@pytest.fixture
def other_host(settings, run):
    """Returns the web process of another host."""
    secrets = Secrets.load(settings.data)
    queue = jobs.queue(connect(settings.redis_url))
    with TestClient(create_app(settings, secrets, connect_async(settings.redis_url), queue)) as web:
        yield web


def test_lost_host_is_reported_until_its_copied_spool_is_drained(
    lost_host, other_host, run, client, tmp_path
):
    warning = "and its spool holds 2 hits"
    readiness = other_host.get("/readyz").json()
    assert any(warning in text for text in readiness["warnings"])
    listed = run("hosts", "list").stdout
    assert "2 hits" in listed

    copy = tmp_path / "copy"
    shutil.copytree(lost_host, copy)
    assert run("spool", "drain", str(copy)).stdout == "drained 1 batches\n"
    assert client.xlen(keys.hits(1)) == 1
    assert not any("its spool" in text for text in other_host.get("/readyz").json()["warnings"])
    shutil.rmtree(copy)
    shutil.copytree(lost_host, copy)
    assert run("spool", "drain", str(copy / "spool")).exit_code == 0
    assert client.xlen(keys.hits(1)) == 1, "Redis takes each batch once"


def test_lost_host_without_spool_is_forgotten_by_hand(lost_host, run, client, other_host):
    host = make_host_id(lost_host / "spool")
    until(lambda: client.hlen(keys.HOSTS) == 2)
    items = json.loads(run("hosts", "list", "--json").stdout)["items"]
    running = next(item for item in items if item["id"] != host)
    refused = run("hosts", "forget", running["id"])
    assert (refused.exit_code, "is running" in refused.stderr) == (1, True)
    assert "there is no host 'x'" in run("hosts", "forget", "x").stderr
    assert run("hosts", "forget", host).stdout == f"forgot {host}\n"
    assert not client.hexists(keys.HOSTS, host)


def test_host_that_ends_tells_what_it_leaves(settings, client, tmp_path):
    directory = tmp_path / "ending" / "spool"
    asyncio.run(end(settings, directory))
    assert hosts.parse(client.hgetall(keys.HOSTS)) == [], "nothing is left in its spool"

    spool = Spool(directory, 1 << 20)
    spool.append([Batch(0, producer.new_id(1_780_000_000), 1, hit.encode_batch([b"\xc0"]))])
    spool.close()
    asyncio.run(end(settings, directory))
    (host,) = hosts.parse(client.hgetall(keys.HOSTS))
    assert (host.is_stopped, host.spool_hits) == (True, 1)


async def end(settings, directory) -> None:
    store = connect_async(settings.redis_url)
    beat = HostBeat(store, SETTINGS, directory, lambda: 1_790_000_000.0)
    await beat.send()
    await beat.send_last()
    await store.aclose()


def test_settings_that_differ_are_logged_once(settings, client, caplog):
    async def beats() -> None:
        store = connect_async(settings.redis_url)
        one = HostBeat(store, {"PIXEL_RULES": "1"}, None, lambda: 1_790_000_000.0)
        await one.send()
        other = hosts.encode_beat(at=1_790_000_000.0, name="b", kind="web", settings={"PIXEL_RULES": "2"})
        await store.eval(*hosts.beat_call(host="b", beat=other))
        await one.send()
        await one.send()
        await store.aclose()

    asyncio.run(beats())
    assert [
        record.message.count("PIXEL_RULES") for record in caplog.records if "differs" in record.message
    ] == [1]


def test_spool_drain_of_a_directory_without_spool_is_refused(run, tmp_path):
    (tmp_path / "nothing").mkdir()
    done = run("spool", "drain", str(tmp_path / "nothing"))
    assert (done.exit_code, "there is no spool in" in done.stderr) == (1, True)


def test_spool_wait_ends_when_the_spool_is_empty(settings, run):
    assert run("spool", "wait").stdout == "the spool is empty\n"
    spool = Spool(settings.data / "spool", 1 << 20)
    spool.append([Batch(0, producer.new_id(1_780_000_000), 1, hit.encode_batch([b"\xc0"]))])
    spool.close()
    done = run("spool", "wait", "--timeout", "0")
    assert (done.exit_code, "1 hit left" in done.stderr) == (1, True)
    waiting = threading.Thread(target=lambda: results.append(run("spool", "wait")))
    results: list = []
    waiting.start()
    for segment in (settings.data / "spool").glob("*.seg"):
        segment.unlink()
    until(lambda: results)
    assert results[0].stdout == "the spool is empty\n"
    waiting.join()
