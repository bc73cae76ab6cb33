"""A full Redis: hits go to the spool. Writes that free memory, or that a recipient requests, succeed."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import replace
from functools import partial

import pytest
import redis
from starlette.testclient import TestClient

from pixel_server.app import create_app
from pixel_server.auth import api_keys, sign_in_links
from pixel_server.mail.links import Minter
from pixel_server.recipients import withdrawals
from pixel_server.store import jobs, keys, producer
from pixel_server.store.client import connect, connect_async
from tests.redis_states import full
from tests.stack import until
from workers import maintenance, retention
from workers.rollup_pass import Outcome, Rollup

DAY = "2025-06-10"


@pytest.fixture
def settings(settings):
    """Settings that keep figures for a century, because the hits of this file are of the past."""
    return replace(settings, keep_buckets=36_500, keep_days=36_500)


@pytest.fixture
def call(settings):
    """Returns a function that calls an async function with a client of the store."""

    def call(function, *arguments, **options):
        async def run():
            async with connect_async(settings.redis_url) as client:
                return await function(client, *arguments, **options)

        return asyncio.run(run())

    return call


def test_rollup_store_full_counts_and_frees_the_stream(mail, page, opened, viewed, client, count, clock):
    """Counts hits that need a new campaign, a new salt and new records."""
    mail()
    page(identity="cookieless")
    for who in ("ada", "bob"):
        opened(f"{DAY}T09:00Z", who)
        opened(f"{DAY}T09:00Z", who, campaign="never-made")
        viewed(f"{DAY}T09:01Z", who)
    with full(client):
        assert count(clock.now) == 6
        assert [client.xlen(keys.hits(shard)) for shard in range(4)] == [0, 0, 0, 0]
        assert sum(int(client.hget(keys.total(shard, "mail"), "opens") or 0) for shard in range(4)) == 2
        assert count(clock.now) == 0


def test_rollup_store_full_and_shard_stopped_says_why(client, settings, secrets):
    client.xadd(keys.hits(2), {"99": b"of the future"})
    with full(client):
        assert Rollup(client, settings, secrets, 2).run_pass(1e9) is Outcome.STOPPED
        assert b"newer version" in client.get(keys.stop(2))


def test_append_store_full_stores_nothing(client):
    name = producer.new_id(time.time())
    with full(client), pytest.raises(redis.exceptions.OutOfMemoryError):
        client.eval(producer.APPEND, 2, keys.hits(0), keys.producers(0), name, 1, "1", b"", 0)
    assert client.keys("px:{0}:*") == []


def test_privacy_page_store_full_withdraws_erases_and_allows(
    mail, opened, site, client, secrets, clock, count
):
    mail()
    opened(f"{DAY}T09:00Z")
    count(clock.now)
    link = Minter("http://pixel.test", secrets).link("mail", "ada", now=clock.now)
    token = link.privacy_url.partition("t=")[2]
    with full(client):
        assert 'value="allow"' in site.post("/privacy", data={"t": token, "do": "stop"}).text
        assert site.get(link.url).headers["x-pixel"] == "ignored; reason=withdrawn"
        assert site.post("/privacy", data={"t": token, "do": "erase"}).status_code == 200
        assert client.keys("px:*:people:*") == []
        assert 'value="stop"' in site.post("/privacy", data={"t": token, "do": "allow"}).text


def test_deletion_store_full_removes_the_campaign(mail, opened, site, client, clock, count):
    mail()
    opened(f"{DAY}T09:00Z")
    count(clock.now)
    with full(client):
        assert site.patch("/api/campaigns/mail", json={"mode": "off"}).status_code == 200
        assert site.delete("/api/campaigns/mail").status_code == 204
    assert client.keys("px:*:mail*") == []


def test_api_store_full_refuses_what_is_new_and_says_why(site, client):
    with full(client):
        answer = site.post("/api/campaigns", json={"id": "new", "name": "New", "kind": "email"})
        assert (answer.status_code, "Redis is full" in answer.text) == (503, True)


def test_sign_in_store_full_works(site, client, secrets, call):
    with full(client):
        token = call(sign_in_links.make)
        assert call(sign_in_links.redeem, token)
    assert call(api_keys.list_keys)


def test_chores_store_full_remove_what_is_old(site, mail, opened, client, settings, clock, count, call):
    mail()
    opened(f"{DAY}T09:00Z")
    count(clock.now)
    idle = producer.new_id(1)
    client.hset(keys.producers(0), idle, "1 1000")
    client.hset(keys.checkpoint(0), "newest", int(clock.now * 1000))
    client.xadd(keys.dead(1), {"reason": "x", "data": b"x"}, id="1-1")
    with full(client):
        maintenance.prune_producers(client, settings, time.time())
        sweep = partial(retention.sweep, allowance="all")
        call(sweep, replace(settings, keep_recipients=1), clock.now + 10 * 86_400, math.inf)
        assert set(client.hkeys(keys.producers(0))) <= {b"floor", b"mark"}
        assert client.xlen(keys.dead(1)) == 0
        assert client.keys("px:*:people:*") == []


def test_withdrawals_of_the_api_store_full_are_kept(client, secrets, settings, call):
    recipients = [secrets.recipient_key(name) for name in ("ada", "bob")]
    with full(client):
        assert call(withdrawals.withdraw, secrets, recipients, 1e9, settings.shards) == 2
        assert call(withdrawals.allow, secrets, recipients, 2e9) == 2


def test_web_starts_while_redis_is_full_spools_hits(client, settings, secrets):
    queue = jobs.queue(connect(settings.redis_url))
    app = create_app(settings, secrets, connect_async(settings.redis_url), queue)
    url = Minter("http://pixel.test", secrets).link("spring", "ada@example.org").url
    with full(client), TestClient(app, base_url="http://pixel.test") as web:
        answer = web.get(url)
        assert (answer.status_code, answer.headers["x-pixel"]) == (200, "recorded")
        assert web.get("/readyz").json()["spool"]["hits"] == 1


def test_web_redis_nearly_full_spools_until_there_is_room(client, settings, secrets):
    """Hits stop before Redis itself refuses them."""
    queue = jobs.queue(connect(settings.redis_url))
    settings = replace(settings, memory_reserve=1 << 40)
    url = Minter("http://pixel.test", secrets).link("spring", "ada@example.org").url
    waiting = lambda: sum(client.xlen(keys.hits(shard)) for shard in range(4))  # noqa: E731
    app = create_app(settings, secrets, connect_async(settings.redis_url), queue)
    try:
        with TestClient(app, base_url="http://pixel.test") as web:
            client.setrange("others", 40_000_000, b"x")
            client.config_set("maxmemory", int(client.info("memory")["used_memory"] * 1.2))
            until(lambda: "Redis is nearly full: used" in " ".join(web.get("/readyz").json()["warnings"]))
            until(lambda: (web.get(url), web.get("/readyz").json()["spool"]["hits"])[1])
            report = web.get("/readyz").json()
            assert "hits go to the spool until there is room" in " ".join(report["warnings"])
            assert report["redis"]["full"].startswith("Redis is nearly full")
            before = waiting()
            client.config_set("maxmemory", 0)
            until(lambda: waiting() > before)
            until(lambda: not web.get("/readyz").json()["spool"]["hits"])
            assert "full" not in web.get("/readyz").json()["redis"]
    finally:
        client.config_set("maxmemory", 0)


def test_web_redis_full_names_the_cause(client, settings, secrets):
    queue = jobs.queue(connect(settings.redis_url))
    app = create_app(settings, secrets, connect_async(settings.redis_url), queue)
    with full(client), TestClient(app, base_url="http://pixel.test") as web:
        warnings = " ".join(web.get("/readyz").json()["warnings"])
        assert "Redis is full: used" in warnings
        assert "raise maxmemory" in warnings
