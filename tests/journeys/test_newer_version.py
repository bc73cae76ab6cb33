"""Two versions use one store: what older web processes and workers do with what a newer version wrote."""

from __future__ import annotations

import time

import pytest
from click.testing import CliRunner

from pixel_server import hit
from pixel_server.cli import main
from pixel_server.store import keys
from tests.conftest import API_KEY
from tests.journeys.test_emptied_store import ask, serving, warnings
from tests.stack import until
from workers import context
from workers.rollup import drain
from workers.rollup_pass import Outcome, Rollup


@pytest.fixture
def command(settings, environment, monkeypatch):
    """Returns a function that runs a command with this store, and gives its result."""
    for name, value in {
        "PIXEL_API_KEY": API_KEY,
        "PIXEL_SECRET": "signing-key-of-the-tests",
        "PIXEL_RECIPIENT_SECRET": "recipient-secret-of-the-tests",
    }.items():
        monkeypatch.setenv(name, value)
    cached = (context.context, context.known_mark)
    for each in cached:
        each.cache_clear()
    yield lambda *words: CliRunner().invoke(main, words)
    for each in cached:
        each.cache_clear()


def test_rollup_batch_of_a_newer_format_waits_and_says_for_which_version(
    settings, secrets, client, command, monkeypatch
):
    with serving(settings, secrets) as web:
        web.post("/api/campaigns", json={"id": "mail", "name": "mail", "kind": "email"})
        for n in range(20):
            assert ask(web, secrets, "mail", f"ada-{n}") == "recorded"
        client.hset(keys.STORE, "version", "9.9.9")
        newer = next(shard for shard in range(settings.shards) if client.exists(keys.hits(shard)))
        waiting = client.xlen(keys.hits(newer))
        [hits] = [fields[b"1"] for _, fields in client.xrange(keys.hits(newer), count=1)]
        for _ in range(2):
            client.xadd(keys.hits(newer), {"2": hits})
        rollup = Rollup(client, settings, secrets, newer)
        outcomes = {rollup.try_pass(time.time()) for _ in range(3)}
        assert outcomes == {Outcome.COUNTED, Outcome.STOPPED}, "hits before the newer batch are counted"
        assert client.xlen(keys.hits(newer)) == 2 < waiting + 2, "the newer batch and all after it wait"
        need = "version 9.9.9 has used this store: start workers of 9.9.9 or newer"
        assert f"shard {newer} stands still: entry " in warnings(web)
        assert f"has hits of a newer format than 1; {need}" in warnings(web)
        assert need in command("doctor").output
        assert "9.9.9 has used this store, and this is" in command("doctor").output
        with monkeypatch.context() as newer_worker:
            newer_worker.setattr("workers.stream_reader.FORMAT", 2)
            assert rollup.try_pass(time.time()) is Outcome.COUNTED
        assert rollup.try_pass(time.time()) is Outcome.EMPTY
        assert "stands still" not in warnings(web)
        for shard in range(settings.shards):
            Rollup(client, settings, secrets, shard).try_pass(time.time())
        extra = 2 * len(hit.decode_batch(hits)[0])
        assert web.get("/api/campaigns/mail/stats").json()["totals"]["hits"] == 20 + extra


def test_store_of_a_newer_format_under_older_processes_loses_no_hit(
    settings, secrets, client, count, command
):
    with serving(settings, secrets) as web:
        web.post("/api/campaigns", json={"id": "mail", "name": "mail", "kind": "email"})
        assert ask(web, secrets, "mail", "ada") == "recorded"
        client.hset(keys.STORE, mapping={"format": "2", "version": "9.9.9"})
        until(lambda: "the store has format 2" in warnings(web))
        assert "until you start 9.9.9 or newer here" in warnings(web)
        before = {name: client.dump(name) for name in client.scan_iter("px:{[0-9]}:*")}
        assert ask(web, secrets, "mail", "bob") == "recorded"
        assert drain(0) == 0, "a worker counts nothing"
        assert web.get("/api/campaigns").status_code == 503
        for words in (("campaign", "list"), ("store", "adopt", "--yes"), ("doctor",)):
            done = command(*words)
            assert done.exit_code == 1
            assert "has format 2" in done.output + done.stderr
    with serving(settings, secrets) as web:  # restarted
        assert ask(web, secrets, "mail", "eve") == "recorded"
        assert "the store has format 2" in warnings(web)
        assert web.get("/readyz").json()["spool"]["hits"] == 2
        assert {name: client.dump(name) for name in client.scan_iter("px:{[0-9]}:*")} == before
        client.hset(keys.STORE, "format", "1")  # from here on as the newer version, which reads format 2
        until(lambda: web.get("/readyz").json()["spool"]["hits"] == 0)
        count()
        totals = web.get("/api/campaigns/mail/stats").json()["totals"]
        assert (totals["hits"], totals["unique_opens"]) == (3, 3)
