"""`pixel-server copy`: to another Redis, and to another number of shards."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest
import redis
from click.testing import CliRunner
from redis.asyncio.client import Pipeline
from starlette.testclient import TestClient

from pixel_server import hit
from pixel_server.app import create_app
from pixel_server.cli import main
from pixel_server.collect.batch import Batch
from pixel_server.collect.spool.resharding import split
from pixel_server.mail.links import Minter
from pixel_server.secret import Secrets
from pixel_server.store import jobs, keys, producer
from pixel_server.store.client import StoreError, connect, connect_async
from pixel_server.store.compatibility import check_store
from pixel_server.store.store_mark import MOVED
from tests.cluster_nodes import running_cluster
from tests.conftest import API_KEY
from tests.stack import READER, until
from workers import context
from workers.rollup import Outcome, Rollup

OF_NO_HIT = (
    *("/api/campaigns/site/stats", "/api/campaigns/site/breakdowns?by=page", "/api/campaigns/mail/notes"),
    *("/api/campaigns/mail/shares", "/api/withdrawals", "/api/keys"),
)
"""Paths of answers that the hits during a copy do not change."""
FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0"


@pytest.fixture
def other_url(settings) -> str:
    """Returns the URL of an empty store."""
    return settings.redis_url.replace("db=0", "db=1")


@pytest.fixture
def secrets(settings) -> Secrets:
    return Secrets.load_or_create(settings.data)


@pytest.fixture
def run(settings, monkeypatch):
    """Returns a function that runs `pixel-server` on the data directory and Redis of `settings`."""
    context.known_mark.cache_clear()

    def run(*arguments: str, **more: str):
        environ = {"PIXEL_DATA_DIR": str(settings.data), "REDIS_URL": settings.redis_url, **more}
        return CliRunner().invoke(main, list(arguments), env=environ)

    return run


@contextmanager
def serving(settings, secrets, queue_url: str | None = None):
    """Runs a web process in this process. queue_url: Redis of the job queue, None for that of the store."""
    queue = jobs.queue(connect(queue_url or settings.redis_url))
    app = create_app(settings, secrets, connect_async(settings.redis_url), queue)
    headers = {"Authorization": f"Bearer {API_KEY}"}
    with TestClient(app, base_url="http://pixel.test", headers=headers) as web:
        yield web


def roll_up(settings, secrets) -> None:
    with connect(settings.redis_url) as client:
        for shard in range(settings.shards):
            rollup = Rollup(client, settings, secrets, shard)
            until(lambda rollup=rollup: rollup.run_pass(client.time()[0]) is not Outcome.COUNTED)


def fill(web, secrets) -> None:
    """Makes campaigns, recipients, views, a withdrawal, a key, a note and a share link."""
    for body in (
        {"id": "mail", "name": "mail", "kind": "email", "mode": "identified", "sent": 40},
        {"id": "last", "name": "last", "kind": "email", "mode": "last"},
        {"id": "site", "name": "site", "kind": "web", "identity": "cookie"},
    ):
        assert web.post("/api/campaigns", json=body).status_code == 201
    people = "".join(
        json.dumps({"recipient": f"person-{n}", "name": f"Person {n}"}) + "\n" for n in range(40)
    )
    headers = {"Content-Type": "application/x-ndjson"}
    assert web.put("/api/campaigns/mail/recipients", content=people, headers=headers).status_code == 200
    told = "".join(json.dumps({"recipient": f"person-{n}", "event": "delivered"}) + "\n" for n in range(20))
    assert web.post("/api/campaigns/mail/deliveries", content=told, headers=headers).status_code == 200
    open_mails(web, secrets, range(30))
    for n in range(5):
        web.get("/p/site.gif", params={"u": f"https://example.org/page-{n}"}, headers={"User-Agent": FIREFOX})
    web.post("/api/withdrawals", json={"recipients": ["person-39"]})
    web.post("/api/campaigns/mail/notes", json={"at": "2026-11-01T10:00:00Z", "text": "sent"})
    web.post("/api/campaigns/mail/shares", json={"name": "partner"})
    web.post("/api/keys", json={"name": "reader", "scopes": ["read"]})


def open_mails(web, secrets, numbers) -> None:
    for n in numbers:
        for campaign in ("mail", "last"):
            url = Minter("http://pixel.test", secrets).url(campaign, f"person-{n}")
            answer = web.get(url, headers={"User-Agent": READER})
            assert answer.headers["x-pixel"] == "recorded"


def answers(web) -> dict[str, object]:
    """Returns what the API says of the stored data, without the times of the requests."""
    paths = [
        *("/api/campaigns/mail/stats", "/api/campaigns/last/stats", "/api/campaigns/site/stats"),
        *("/api/campaigns/mail/recipients", "/api/campaigns/mail/notes", "/api/campaigns/mail/shares"),
        *("/api/withdrawals", "/api/keys", "/api/campaigns/site/breakdowns?by=page"),
    ]
    found = {}
    for path in paths:
        answer = web.get(path)
        assert answer.status_code == 200, (path, answer.text)
        content = answer.json()
        for name in ("as_of", "from", "to", "ordered_as_of"):
            if isinstance(content, dict):
                content.pop(name, None)
        if path.endswith("/recipients"):
            content["items"].sort(key=lambda item: item["key"])  # by default in the order of shards
        found[path] = content
    return found


@pytest.mark.parametrize("shards", [4, 12, 2])
def test_copy_gives_the_same_answers_and_counts_on(settings, secrets, run, other_url, shards):
    with serving(settings, secrets) as web:
        fill(web, secrets)
        roll_up(settings, secrets)
        before = answers(web)
        open_mails(web, secrets, range(25, 32))  # these are counted by `copy`
        done = run("copy", "--to", other_url, "--shards", str(shards))
        assert done.exit_code == 0, done.output
        assert web.get("/api/campaigns/mail/stats").status_code == 503
        open_mails(web, secrets, range(28, 35))  # into the spool
    there = replace(settings, redis_url=other_url, shards=shards)
    with connect(other_url) as store, serving(there, secrets) as web:
        after = answers(web)
        assert {path: after[path] for path in OF_NO_HIT} == {path: before[path] for path in OF_NO_HIT}
        until(lambda: not spooled(settings))
        roll_up(there, secrets)
        totals = web.get("/api/campaigns/mail/stats").json()["totals"]
        assert (totals["hits"], totals["unique_opens"]) == (44, 35)
        assert store.hget(keys.STORE, "shards") == str(shards).encode()
        people = web.get("/api/campaigns/mail/recipients?state=unopened&limit=100").json()["items"]
        assert len(people) == 4, "35 of 40 have opened, and one withdrew"
        open_mails(web, secrets, [3, 36])
        roll_up(there, secrets)
        totals = web.get("/api/campaigns/mail/stats").json()["totals"]
        assert (totals["hits"], totals["unique_opens"]) == (46, 36)
        verified = run("verify", REDIS_URL=other_url, PIXEL_SHARDS=str(shards))
        assert verified.exit_code == 0, verified.output
        store.hincrby(keys.total(0, "mail"), "unique_opens", 1)
        assert "unique_opens" in run("verify", REDIS_URL=other_url, PIXEL_SHARDS=str(shards)).output


def spooled(settings) -> bool:
    return any(path.stat().st_size for path in (settings.data / "spool").glob("*.seg"))


def test_copy_killed_anywhere_is_run_again(settings, secrets, run, other_url, monkeypatch):
    with serving(settings, secrets) as web:
        fill(web, secrets)
        roll_up(settings, secrets)
        before = answers(web)
    execute, calls, killed_at = Pipeline.execute, 0, 0

    async def execute_or_die(self, raise_on_error: bool = True):
        nonlocal calls
        calls += 1
        if calls == killed_at:
            raise KilledError
        return await execute(self, raise_on_error)

    monkeypatch.setattr(Pipeline, "execute", execute_or_die)
    copy = ("copy", "--to", other_url, "--shards", "3")
    for step in range(1, 100, 4):
        calls, killed_at = 0, step
        done = run(*copy)
        if done.exit_code == 0:
            break
        assert isinstance(done.exception, KilledError)
        there = replace(settings, redis_url=other_url, shards=3)
        with connect(other_url) as store:
            is_begun = store.exists(keys.STORE)
        if is_begun:
            with pytest.raises(StoreError, match="unfinished copy"):
                asyncio.run(check(there, secrets))
    else:
        raise AssertionError("the copy never ended")
    assert step > 20
    with serving(replace(settings, redis_url=other_url, shards=3), secrets) as web:
        assert answers(web) == before


class KilledError(Exception):
    """Ends the command in the middle."""


async def check(settings, secrets) -> None:
    store = connect_async(settings.redis_url)
    try:
        await check_store(store, settings.redis_url, settings.shards, secrets)
    finally:
        await store.aclose()


def test_copy_cancelled_opens_the_store_again(settings, secrets, run, other_url, client):
    with serving(settings, secrets) as web:
        fill(web, secrets)
        with beating(client):
            assert "stop every `pixel-server work` first" in run("copy", "--to", other_url).stderr
        client.zadd(keys.WORKERS, {"a worker that has ended": client.time()[0] - 8})
        assert "no copy has closed this store" in run("copy", "--cancel").stderr
        assert run("copy", "--to", other_url).exit_code == 0
        open_mails(web, secrets, [36])
        assert web.get("/api/campaigns").status_code == 503
        assert run("copy", "--cancel").stdout == "the store is open again\n"
        until(lambda: web.get("/api/campaigns").status_code == 200)
        until(lambda: not spooled(settings))
        roll_up(settings, secrets)
        assert web.get("/api/campaigns/mail/stats").json()["totals"]["hits"] == 31
        assert web.get("/readyz").json()["losses"]["batches"] == 0


@contextmanager
def beating(client):
    """Sends the heartbeats of a worker, many a second."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(0.05):
            client.zadd(keys.WORKERS, {"a worker": time.time()})

    thread = threading.Thread(target=beat)
    thread.start()
    until(lambda: client.exists(keys.WORKERS))
    yield
    ended.set()
    thread.join()
    client.delete(keys.WORKERS)


def test_copy_to_a_store_in_use_is_refused(settings, secrets, run, other_url, client):
    with serving(settings, secrets) as web:
        fill(web, secrets)
    with connect(other_url) as other:
        other.set("px:{0}:total:x", "1")
    refused = run("copy", "--to", other_url)
    assert (refused.exit_code, "the target is not empty" in refused.stderr) == (1, True)
    assert "give either --to URL or --cancel" in run("copy").stderr
    assert "must be" in run("copy", "--to", "http://example.org").stderr


def test_copy_to_a_cluster_with_more_shards(settings, secrets, run, tmp_path, redis_url):
    with serving(settings, secrets) as web:
        fill(web, secrets)
        roll_up(settings, secrets)
        before = answers(web)
    with contextmanager(running_cluster)(tmp_path / "cluster", primaries=2) as cluster:
        done = run("copy", "--to", cluster.url, "--shards", "6")
        assert done.exit_code == 0, done.output
        assert "PIXEL_SHARDS=6\n  PIXEL_QUEUE_URL=" in done.stdout
        there = replace(settings, redis_url=cluster.url, shards=6)
        with serving(there, secrets, queue_url=redis_url) as web:
            assert answers(web) == before


@pytest.mark.parametrize("shards", [4, 7, 2])
def test_copy_batch_that_the_source_has_is_refused_on_both_sides(
    settings, secrets, run, other_url, client, shards
):
    with serving(settings, secrets):
        pass  # makes the store this server's own
    recipients = [bytes([0, 0, 0, number]) + b"rest" for number in (3, 7, 11, 15)]
    hits = [
        hit.encode(hit.Hit(time=1, campaign="mail", kind=hit.EMAIL, method="GET", recipient=recipient))
        for recipient in recipients
    ]
    batch = Batch(3, producer.new_id(client.time()[0]), 1, hit.encode_batch(hits))
    assert append(client, batch) == 0
    assert run("copy", "--to", other_url, "--shards", str(shards)).exit_code == 0
    later = batch._replace(sequence=2)
    with pytest.raises(redis.ResponseError, match="NOTOURS"):
        append(client, later)  # from a process that has not noticed the copy
    with connect(other_url) as store:
        for part in split(batch, shards):
            assert append(store, part) == 1, "the source had it, so it is in the figures"
        for part in split(later, shards):
            assert append(store, part) == 1
        counts = [store.xlen(keys.hits(shard)) for shard in range(shards)]
        assert sum(counts) == len(split(later, shards))


def append(store, batch: Batch) -> int:
    """Appends a batch as a web process does that knows the store's mark. Returns the reply."""
    names = keys.hits(batch.shard), keys.producers(batch.shard)
    mark = store.hget(names[1], "mark")
    mark = mark if mark and not mark.startswith(MOVED.encode()) else b"0123456789abcdef"
    words = batch.producer, batch.sequence, str(hit.FORMAT), batch.data, 0, mark
    return store.eval(producer.APPEND, 2, *names, *words)
