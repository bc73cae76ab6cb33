"""`/metrics`: who may read it, and what it holds."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from pixel_server import __version__
from pixel_server.api.metrics_access import MetricsAccess
from pixel_server.app import _is_pixel_or_metrics, create_app, create_metrics, create_pages
from pixel_server.auth import api_keys
from pixel_server.collect.client_address import ClientAddress
from pixel_server.metrics.families import TABLE
from pixel_server.relay.numbers import RelayNumbers
from pixel_server.settings import Settings
from pixel_server.store import jobs, keys
from pixel_server.store.client import connect_async, connect_queue
from tests.api.answers import problem
from tests.stack import until
from workers.numbers import WorkNumbers

HERE, PROXY, PROMETHEUS = "127.0.0.1", "10.0.0.1", "192.0.2.7"


@pytest.mark.parametrize(
    ("peer", "headers", "version", "is_allowed"),
    [
        (HERE, {"host": "localhost:8000"}, "1.1", True),
        ("::1", {"host": "[::1]:8000"}, "1.1", True),
        (HERE, {"host": "pixel.example"}, "1.1", False),
        (HERE, {"host": "localhost:8000"}, "1.0", False),
        (HERE, {"host": "localhost", "x-forwarded-for": HERE}, "1.1", False),
        (HERE, {"host": "localhost", "x-forwarded-for": PROMETHEUS}, "1.1", False),
        (HERE, {"host": "localhost", "via": "1.1 squid"}, "1.1", False),
        (PROMETHEUS, {"host": "pixel.example"}, "1.1", True),
        (PROMETHEUS, {"host": "pixel.example", "x-forwarded-for": "198.51.100.1"}, "1.1", False),
        (PROXY, {"host": "pixel.example", "x-forwarded-for": PROMETHEUS}, "1.1", True),
        (PROXY, {"host": "pixel.example", "x-forwarded-for": "198.51.100.1"}, "1.1", False),
        (PROXY, {"host": "pixel.example", "x-forwarded-for": f"{PROMETHEUS}, 198.51.100.1"}, "1.1", False),
        (PROXY, {"host": "pixel.example", "via": "1.1 caddy"}, "1.1", False),
        ("198.51.100.1", {"host": "localhost"}, "1.1", False),
        (None, {"host": "localhost"}, "1.1", False),
    ],
)
def test_access_without_key_is_by_the_clients_address(peer, headers, version, is_allowed):
    settings = Settings.from_env(
        {"PIXEL_METRICS_FROM": "192.0.2.0/24 10.0.0.0/8", "PIXEL_TRUSTED_PROXIES": "10.0.0.1"}
    )
    access = MetricsAccess(SimpleNamespace(settings=settings), ClientAddress(settings))
    packed = {name.encode(): value.encode() for name, value in headers.items()}
    assert access.is_allowed_address(peer, version, packed) == is_allowed


def families(answer):
    assert answer.status_code == 200, answer.text
    return {family.name: family for family in text_string_to_metric_families(answer.text)}


def values(answer, name):
    """Returns the values of a metric by the values of its labels."""
    samples = families(answer)[name].samples
    return {tuple(sample.labels.values()): sample.value for sample in samples if "created" not in sample.name}


def test_metrics_key_needs_the_scope_and_a_stranger_sees_nothing(web, monkeypatch):
    def make(*scopes):
        made = web.post("/api/keys", json={"name": "n", "scopes": list(scopes)}).json()
        return {"Authorization": f"Bearer {made['key']}"}, made["id"]

    (metrics_key, key_id), (other_key, _) = make("metrics"), make("read", "write")
    nobody = web.get("/metrics", headers={"Authorization": ""})
    assert (nobody.status_code, nobody.text) == (404, web.get("/nothing").text)
    assert web.get("/metrics", headers={"Authorization": "Bearer wrong"}).text == nobody.text
    problem(web.get("/metrics", headers=other_key), 403)
    assert "pixel_build_info" in families(web.get("/metrics", headers=metrics_key))
    for call in ("/api/campaigns", "/api/keys"):
        problem(web.get(call, headers=metrics_key), 403)

    async def away(store, key):
        raise redis.ConnectionError

    with monkeypatch.context() as patched:
        patched.setattr(api_keys, "find_by_key", away)
        assert web.get("/metrics", headers=metrics_key).status_code == 200
        assert web.get("/metrics", headers=other_key).status_code == 503
    web.delete(f"/api/keys/{key_id}")
    assert web.get("/metrics", headers=metrics_key).status_code == 404


@pytest.fixture
def scrape(settings, secrets):
    """Returns a function that scrapes a process for pages beside the app under test."""

    def scrape(redis_url=settings.redis_url):
        pages = create_pages(replace(settings, redis_url=redis_url), secrets, connect_async(redis_url))
        with TestClient(pages, base_url="http://localhost", client=(HERE, 5000)) as client:
            return client.get("/metrics")

    return scrape


def test_metrics_scrape_of_a_process_shows_the_whole_host(web, client, scrape, count):
    web.post("/api/campaigns", json={"id": "spring", "name": "Spring", "kind": "web"})
    for path in ("/p/spring.gif", "/p/spring.gif", "/o/bad.gif", "/p/none.gif"):
        web.get(path)
    web.options("/p/spring.gif")
    client.set(keys.stop(2), "why")
    client.hset(keys.drops(1), "withdrawn", 3)
    requests = {
        ("recorded", ""): 2,
        ("ignored", "options"): 1,
        ("refused", "token"): 1,
        ("refused", "campaign"): 1,
        ("failed", "not-stored"): 0,
        ("failed", "full"): 0,
    }
    answer = until(lambda: (found := scrape()) and values(found, "pixel_requests") == requests and found)
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert values(answer, "pixel_hits_stored") == {(): 2}
    assert values(answer, "pixel_processes") == {("pages",): 1, ("web",): 1}
    assert values(answer, "pixel_spool_segments") == {(): 0}
    assert values(answer, "pixel_shard_stopped") == {(str(n),): float(n == 2) for n in range(4)}
    assert values(answer, "pixel_hits_dropped") == {("withdrawn",): 3}
    assert values(answer, "pixel_store_info") == {("1", __version__): 1}
    assert sum(values(answer, "pixel_backlog_entries").values()) > 0
    assert max(values(answer, "pixel_backlog_oldest_seconds").values()) > 0
    assert ("POST", "/api/campaigns") in {key[-2:] for key in values(answer, "pixel_api_seconds")}
    count()
    count_again = scrape()
    assert not any(values(count_again, "pixel_backlog_entries").values())


def test_metrics_table_has_each_number_that_is_published(web, scrape):
    shown = families(scrape())
    published = {name.removesuffix("_total") for name in shown}
    work = WorkNumbers()
    work.note_pass("counted", 0.1, 5, 1)
    gathered = work.gather("worker")
    relay = RelayNumbers().gather(0)
    for numbers in (gathered, relay):
        published |= {name.removesuffix("_total") for name in (*numbers.counters, *numbers.gauges)}
    in_table = {family.name.removesuffix("_total") for family in TABLE}
    only_at_times = {"pixel_schedule_without", "pixel_hits_dropped", "pixel_api_seconds"}
    only_at_times |= {"pixel_reported_events"}
    assert published <= in_table
    of_endpoints = {family.name.removesuffix("_total") for family in TABLE if "webhook" in family.labels}
    assert in_table - published <= only_at_times | of_endpoints
    labels = {label for family in TABLE for label in family.labels}
    assert labels == {
        *("outcome", "reason", "method", "route", "list", "result", "missing", "webhook", "provider"),
        *("process", "format", "version", "python", "node", "shard", "by", "reply"),
    }


def test_metrics_process_for_pixels_alone_answers_too(settings, secrets):
    queue = jobs.queue(connect_queue(settings.queue_url or settings.redis_url, timeout=5.0))
    app = create_app(
        settings, secrets, connect_async(settings.redis_url), queue, is_served_here=_is_pixel_or_metrics
    )
    with TestClient(app, base_url="http://localhost", client=(HERE, 5000)) as client:
        assert client.get("/privacy").status_code == 421
        assert values(client.get("/metrics"), "pixel_processes") == {("web",): 1}


def test_metrics_redis_away_is_shown(web, scrape):
    answer = scrape("redis://127.0.0.1:1")
    assert values(answer, "pixel_redis_up") == {("127.0.0.1:1",): 0}
    assert "pixel_hits_stored" in families(answer)
    assert "pixel_backlog_entries" not in families(answer)


def test_metrics_app_of_workers_answers_metrics_and_nothing_else(settings, secrets, client):
    app = create_metrics(settings, secrets, connect_async(settings.redis_url))
    with TestClient(app, base_url="http://localhost", client=(HERE, 5000)) as here:
        answer = here.get("/metrics")
        assert values(answer, "pixel_redis_up").popitem()[1] == 1
        assert values(answer, "pixel_workers") == {(): 0}
        assert here.get("/nothing").status_code == here.get("/").status_code == 404
        assert here.get("/metrics", headers={"Host": "pixel.example"}).status_code == 404


def test_metrics_app_of_workers_without_redis_says_so(settings, secrets):
    away = replace(settings, redis_url="redis://127.0.0.1:1/0")
    app = create_metrics(away, secrets, connect_async(away.redis_url))
    with TestClient(app, base_url="http://localhost", client=(HERE, 5000)) as here:
        assert set(values(here.get("/metrics"), "pixel_redis_up").values()) == {0}
