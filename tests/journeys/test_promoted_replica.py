"""A replica that lacks the newest hits is promoted: the web process sends them again, and none is lost."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from dataclasses import replace

import pytest

from pixel_server import hit
from pixel_server.collect import redis_sink
from pixel_server.collect.spool.spool import Spool
from pixel_server.mail.links import Minter
from pixel_server.secret import Secrets
from pixel_server.store import keys, replication
from pixel_server.store.client import connect
from tests.chaos.switch import Server, Switch
from tests.collect.spool.batches import batch
from tests.journeys.test_emptied_store import ask, run_command, serving, warnings
from tests.replicas import Pair
from tests.stack import until
from workers.rollup_pass import Rollup


def hits_of(server: Server, shards: int) -> Counter[bytes]:
    """Returns how many hits of each recipient a server holds."""
    hits: Counter[bytes] = Counter()
    with connect(server.url) as client:
        for shard in range(shards):
            for _, fields in client.xrange(keys.hits(shard)):
                hits.update(record.recipient for record in hit.decode_batch(fields[b"1"])[0])
    return hits


def roll_up(server: Server, settings, secrets):
    with connect(server.url) as client:
        for shard in range(settings.shards):
            Rollup(client, settings, secrets, shard).run_pass(time.time())


@pytest.fixture
def settings(settings, pair: Pair):
    return replace(settings, redis_url=pair.address.url)


def record(web, secrets, names):
    assert [ask(web, secrets, "mail", name) for name in names] == ["recorded"] * len(names)


@pytest.mark.parametrize("tail_seconds", [30, 0])
def test_tail_promoted_replica_gets_the_hits_it_lacks(pair, settings, secrets, caplog, tail_seconds):
    """Without the tail the same hits are lost, and reported. No new hit comes after the promotion."""
    with serving(replace(settings, tail_seconds=tail_seconds), secrets) as web:
        until(lambda: web.get("/readyz").json()["redis"]["replicas"])
        record(web, secrets, ["ada"])
        pair.wait_until_replicated()
        pair.link.turn_to(None)
        record(web, secrets, [f"reader{n}" for n in range(8)])
        roll_up(pair.primary, settings, secrets)
        if tail_seconds:  # the loss of these commits is noticed, and is not reported as a loss of hits
            generations = settings.data / "acknowledged" / "turns.json"
            until(lambda: generations.exists() and any(json.loads(generations.read_bytes())["turns"]))
        pair.promote()
        pair.primary.kill()
        pair.address.turn_to(pair.replica.socket)
        if tail_seconds:
            until(lambda: len(hits_of(pair.replica, settings.shards)) == 9)
            record(web, secrets, ["bob"])
            until(lambda: len(hits_of(pair.replica, settings.shards)) == 10)
            assert set(hits_of(pair.replica, settings.shards).values()) == {1}
            health = web.get("/readyz").json()
            assert (health["losses"]["hits"], health["recorder"]["gaps"]) == (0, 0)
            until(lambda: "commits of shard" in caplog.text)
            assert web.get("/readyz").json()["losses"]["commits"] == 0
        else:
            until(lambda: web.get("/readyz").json()["losses"]["hits"] == 8)
            assert len(hits_of(pair.replica, settings.shards)) == 1


@pytest.mark.parametrize("becomes_replica", [True, False])
def test_tail_old_primary_answers_on_hits_reach_the_new_primary(pair, settings, secrets, becomes_replica):
    """Connections to the old primary stay open, and it accepts hits until it becomes a replica."""
    with serving(settings, secrets) as web:
        until(lambda: web.get("/readyz").json()["redis"]["replicas"])
        record(web, secrets, ["ada"])
        pair.wait_until_replicated()
        pair.promote()
        pair.link.turn_to(None)
        record(web, secrets, ["bob", "eve"])
        pair.address.turn_to(pair.replica.socket, ends_connections=False)
        if becomes_replica:
            back = Switch(pair.replica.socket)
            with connect(pair.primary.url) as client:
                client.replicaof("127.0.0.1", str(back.port))
        until(lambda: len(hits_of(pair.replica, settings.shards)) == 3)
        record(web, secrets, ["dan"])
        until(lambda: len(hits_of(pair.replica, settings.shards)) == 4)
        assert set(hits_of(pair.replica, settings.shards).values()) == {1}
        assert web.get("/readyz").json()["losses"]["hits"] == 0


def test_replicas_one_is_asked_for_and_cut_off_hits_wait_in_the_spool(pair, settings, secrets):
    with serving(replace(settings, replicas=1), secrets) as web:
        record(web, secrets, ["ada"])
        pair.wait_until_replicated()
        pair.link.turn_to(None)
        record(web, secrets, ["bob"])
        health = web.get("/readyz").json()
        assert (health["recorder"]["spooled"], health["spool"]["hits"]) == (1, 1)
        pair.link.turn_to(pair.primary.socket)
        until(lambda: web.get("/readyz").json()["spool"]["hits"] == 0)
        assert sorted(hits_of(pair.replica, settings.shards).values()) == [1, 1]
        assert "set min-replicas-to-write 1" in warnings(web)
        with connect(pair.primary.url) as client:
            client.config_set("min-replicas-to-write", 1)
        assert "min-replicas-to-write" not in warnings(web)


def test_spool_drain_command_replica_hangs_keeps_the_hits_in_the_spool(pair, settings, secrets, monkeypatch):
    monkeypatch.setattr(redis_sink, "WAIT_SHARE", 0.02)
    spool = Spool(settings.data / "spool", 1 << 20)
    spool.append([batch(1)])
    spool.close()
    for name, value in (("REDIS_URL", settings.redis_url), ("PIXEL_DATA_DIR", str(settings.data))):
        monkeypatch.setenv(name, value)
    Secrets.load_or_create(settings.data)
    pair.replica.process.send_signal(signal.SIGSTOP)
    assert "0 of 1 replicas have confirmed the hits" in run_command("spool", "drain").output
    pair.replica.process.send_signal(signal.SIGCONT)
    monkeypatch.setattr(redis_sink, "WAIT_SHARE", 0.9)
    assert run_command("spool", "drain").output == "drained 1 batches\n"
    assert hits_of(pair.replica, settings.shards).total() == 2


def test_changes_that_people_rely_on_are_errors_until_a_replica_has_them(
    pair, settings, secrets, monkeypatch
):
    monkeypatch.setattr(replication, "CONFIRM_SECONDS", 0.2)
    ada = {"recipients": ["ada"]}
    token = Minter("http://pixel.test", secrets).link("mail", "bob").privacy_url.partition("t=")[2]
    erase = {"t": token, "do": "erase"}
    with serving(settings, secrets) as web:
        assert (
            web.post("/api/campaigns", json={"id": "old", "name": "old", "kind": "email"}).status_code == 201
        )
        key = web.post("/api/keys", json={"name": "mine", "scopes": ["read"]}).json()["id"]
        pair.wait_until_replicated()
        pair.replica.process.send_signal(signal.SIGSTOP)
        answers = [
            web.post("/api/withdrawals", json=ada),
            web.request("DELETE", f"/api/keys/{key}"),
            web.request("DELETE", "/api/campaigns/old"),
            web.post("/api/keys", json={"name": "new", "scopes": ["read"]}),
            web.post("/privacy", data=erase),
        ]
        assert [answer.status_code for answer in answers] == [503] * 5
        assert "no replica of Redis has confirmed it" in answers[0].json()["detail"]
        assert [item["name"] for item in web.get("/api/keys").json()["items"]] == ["PIXEL_API_KEY"]
        assert ask(web, secrets, "mail", "ada").startswith("ignored")
        pair.replica.process.send_signal(signal.SIGCONT)
        until(lambda: web.post("/api/withdrawals", json=ada).status_code == 200)
        assert web.post("/privacy", data=erase).status_code == 200
