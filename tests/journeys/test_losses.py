"""Losses: hits that Redis acknowledged and lost are reported with their number, also after a restart."""

from __future__ import annotations

import json

from pixel_server.store import keys
from tests.journeys.test_emptied_store import ask, serving, warnings
from tests.stack import until


def set_back(client, shards, batches):
    """Removes the last batches of each producer, as if a replica without them was promoted."""
    for shard in range(shards):
        for name, value in client.hgetall(keys.producers(shard)).items():
            if name != b"mark":
                sequence, at = value.split()
                client.hset(keys.producers(shard), name, b"%d %b" % (int(sequence) - batches, at))


def test_losses_while_web_is_down_are_reported_at_its_start(settings, secrets, client):
    with serving(settings, secrets) as web:
        assert [ask(web, secrets, "mail", "ada") for _ in range(3)] == ["recorded"] * 3
    set_back(client, settings.shards, 2)
    for _ in range(2):
        with serving(settings, secrets) as web:
            until(lambda: "2 batches were lost, 2 hits" in warnings(web))
            losses = web.get("/readyz").json()["losses"]
            assert (losses["batches"], losses["hits"], losses["hits_are_exact"]) == (2, 2, True)
            until(lambda: client.hlen(keys.LOSSES) == 1)
    client.delete(keys.LOSSES)
    with serving(settings, secrets) as web:
        until(lambda: "2 batches were lost, 2 hits" in warnings(web))
    (settings.data / "losses.json").unlink()
    with serving(settings, secrets) as web:
        until(lambda: "2 batches were lost, 2 hits" in warnings(web))


def test_losses_under_live_web_without_hits_are_reported(settings, secrets, client):
    with serving(settings, secrets) as web:
        assert [ask(web, secrets, "mail", "ada") for _ in range(3)] == ["recorded"] * 3
        set_back(client, settings.shards, 1)
        until(lambda: "1 batches were lost, 1 hits" in warnings(web))


def test_losses_counters_that_went_back_are_reported(settings, secrets, client, count):
    with serving(settings, secrets) as web:
        assert [ask(web, secrets, "mail", "ada") for _ in range(2)] == ["recorded"] * 2
        count()
        generations = settings.data / "acknowledged" / "turns.json"
        until(lambda: generations.exists() and any(json.loads(generations.read_bytes())["turns"]))
    for shard in range(settings.shards):
        if client.exists(keys.checkpoint(shard)):
            client.hset(keys.checkpoint(shard), "n", 0)
    with serving(settings, secrets) as web:
        until(lambda: "went back by 1 commits" in warnings(web))
