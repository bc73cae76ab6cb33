"""Answers and warnings of /healthz and /readyz."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from pixel_server import hit
from pixel_server.api import health, network_health
from pixel_server.app import create_app
from pixel_server.collect.batch import Batch
from pixel_server.collect.spool import status
from pixel_server.collect.spool.spool import Spool
from pixel_server.store import jobs, keys, producer
from pixel_server.store.client import connect, connect_async
from tests.conftest import NOW
from tests.stack import until


def warnings(web):
    return " / ".join(web.get("/readyz").json()["warnings"])


def test_healthz_process_alive_is_ok(web):
    assert web.get("/healthz").json() == {"status": "ok"}
    assert web.head("/healthz").status_code == 200


def test_healthz_of_stores_fails_while_hits_are_stored_nowhere():
    recorder = health.NoRecorder()
    part = health.Health(None, None, recorder, tuple, list, str)
    with TestClient(Starlette(routes=[Route("/healthz", part.healthz)])) as process:
        assert process.get("/healthz?stores").status_code == 200
        recorder.can_store, recorder.last_error = False, "disk full"
        answer = process.get("/healthz?stores")
        assert (answer.status_code, answer.json()["error"]) == (503, "hits are not stored: disk full")
        assert process.get("/healthz").status_code == 200, "the process itself is alive"


def test_readyz_all_well_is_ok(site, client, clock):
    beats = {"worker": -5, "a-dead-one": -60, "one-whose-clock-was-ahead": 86_400}
    client.zadd(keys.WORKERS, {name: clock.now + beat for name, beat in beats.items()})
    answer = site.get("/readyz")
    found = answer.json()
    assert (answer.status_code, found["status"], found["warnings"]) == (200, "ok", [])
    assert (found["workers"], found["oldest_uncounted_seconds"], found["stream_entries"]) == (1, None, 0)
    assert (found["dead_letters"], found["drops"], found["stopped"]) == (0, {}, {})
    assert found["redis"]["durability"].startswith("every hit")
    assert found["recorder"]["failing_since"] is None


def test_readyz_no_worker_warns(site, client, clock):
    client.zadd(keys.WORKERS, {"one from before the clock was set back": clock.now + 3600})
    answer = site.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert "no worker" in warnings(site)


def test_readyz_hit_waits_warns(mail, opened, site, client, clock, count):
    mail()
    opened("2025-06-10T09:00Z")
    (entry,) = [entry for n in range(4) for entry, _ in client.xrange(keys.hits(n))]
    clock.now = int(entry.partition(b"-")[0]) / 1000 + 90
    found = site.get("/readyz").json()
    assert (found["oldest_uncounted_seconds"], found["stream_entries"]) == (90.0, 1)
    assert found["recorder"]["stored"] == 1
    assert "has waited 90 s" in warnings(site)
    count(clock.now)
    found = site.get("/readyz").json()
    assert (found["oldest_uncounted_seconds"], found["stream_entries"]) == (None, 0)


def test_readyz_unreadable_store_warns(site, client, count, clock):
    client.xadd(keys.hits(2), {"1": b"no hits"})
    count(clock.now)
    assert site.get("/readyz").json()["dead_letters"] == 1
    assert "1 dead letters" in warnings(site)


def test_readyz_stopped_shard_says_why(site, client, count, clock):
    client.xadd(keys.hits(2), {"99": b"of the future"})
    count(clock.now)
    assert "2" in site.get("/readyz").json()["stopped"]
    assert "shard 2 stands still" in warnings(site)


@pytest.mark.parametrize(
    ("address", "warned"),
    [(lambda n: f"10.0.0.{n}", True), (lambda n: "8.8.8.8", True), (lambda n: f"8.8.8.{n}", False)],
)
def test_readyz_hits_of_one_address_warn_of_a_proxy(settings, secrets, address, warned):
    redis = connect_async(settings.redis_url)
    app = create_app(settings, secrets, redis, jobs.queue(connect(settings.redis_url)))
    with TestClient(app) as web:
        made = {"id": "page", "name": "Page", "kind": "web"}
        web.post("/api/campaigns", json=made, headers={"Authorization": f"Bearer {settings.api_key}"})
        for n in range(60):
            visitor = TestClient(app, client=(address(n), 5000))
            visitor.portal = web.portal
            assert visitor.get("/p/page.gif").headers["x-pixel"] == "recorded"
        assert ("PIXEL_TRUSTED_PROXIES" in warnings(web)) == warned


@pytest.mark.parametrize(("spool_bytes", "status", "word"), [(0, 503, "failing"), (1 << 20, 200, "degraded")])
def test_readyz_redis_away_is_degraded_or_failing(settings, secrets, spool_bytes, status, word):
    settings = replace(settings, redis_url="unix:///nowhere/valkey.sock", spool_bytes=spool_bytes)
    queue = jobs.queue(connect(settings.redis_url))
    web = TestClient(create_app(settings, secrets, connect_async(settings.redis_url), queue))
    answer = web.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (status, word)
    assert answer.json()["redis"]["answers"] is False
    assert "nowhere" in warnings(web)
    assert web.get("/healthz").status_code == 200


def test_readyz_redis_and_disk_hang_answers_all_the_same(settings, secrets, monkeypatch):
    """Fails by the timeout of a test that hangs, if `/readyz` waits for either."""
    monkeypatch.setattr(health, "READY_TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(network_health, "DISK_TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(asyncio, "to_thread", lambda *_: asyncio.Event().wait())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = replace(settings, redis_url=f"redis://127.0.0.1:{silent.getsockname()[1]}")
        store = connect_async(settings.redis_url, timeout=3600)
        queue = jobs.queue(connect(settings.redis_url))
        answer = TestClient(create_app(settings, secrets, store, queue)).get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert answer.json()["redis"] == {"answers": False, "error": "TimeoutError"}
    assert answer.json()["spool"] == {"trouble": "the disk of the spool does not answer"}
    assert answer.json()["network_list_days"] == {}


def test_readyz_old_list_of_networks_warns_if_lists_are_refreshed(settings, secrets):
    settings.refreshed_networks_directory.mkdir()
    for name, days in (("apple", 91), ("openai", 90)):
        day = datetime.fromtimestamp(NOW, UTC).date() - timedelta(days)
        path = settings.refreshed_networks_directory / f"{name}.txt"
        path.write_text(f"# source: a test\n# date: {day}\n")
    for refresh, expected in (("weekly", ["apple is 91 days old"]), ("off", [])):
        weekly = replace(settings, networks_refresh=refresh)
        store, queue = connect_async(settings.redis_url), jobs.queue(connect(settings.redis_url))
        with TestClient(create_app(weekly, secrets, store, queue, clock=lambda: NOW)) as site:
            answer = site.get("/readyz").json()
        assert [answer["network_list_days"][name] for name in ("apple", "openai")] == [91, 90]
        lines = [line for line in answer["warnings"] if "list of networks" in line]
        assert len(lines) == len(expected)
        assert all(words in line for words, line in zip(expected, lines, strict=True))


def test_readyz_unusable_spool_warns(mail, site, settings, monkeypatch):
    mail()
    (settings.data / "spool").rename(settings.data / "moved")
    (settings.data / "spool").write_text("no directory")
    found = site.get("/readyz")
    assert (found.status_code, found.json()["status"]) == (200, "degraded")
    assert "spool cannot be written: while Redis is away, hits may be lost" in warnings(site)
    assert site.get("/api/campaigns/mail/stats").status_code == 200
    (settings.data / "spool").unlink()
    monkeypatch.setattr(status, "MIN_FREE_BYTES", 1 << 62)
    assert "MB left: while Redis is away" in warnings(site)


def test_readyz_redis_that_evicts_warns(site, client):
    assert "maxmemory-policy" not in warnings(site)
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        assert "set maxmemory-policy to noeviction, not allkeys-lru" in warnings(site)
    finally:
        client.config_set("maxmemory-policy", "noeviction")


def test_readyz_lost_hits_warn(settings, secrets):
    """After a failover, the first batches that Redis accepts come from the spool."""
    left = Spool(settings.data / "spool", 1 << 20)
    left.append([Batch(0, producer.new_id(0), 3, hit.encode_batch([]))])
    left.close()
    queue = jobs.queue(connect(settings.redis_url))
    with TestClient(create_app(settings, secrets, connect_async(settings.redis_url), queue)) as web:
        until(lambda: "2 batches were lost" in warnings(web))
