"""Losses: hits that Redis acknowledged and lost are reported with their number, also after a restart."""

from __future__ import annotations

import json

from pixel_server.collect.acknowledged import AcknowledgedBatch, AcknowledgedFiles, MissingBatches
from pixel_server.collect.batch import Batch
from pixel_server.hit import encode_batch
from pixel_server.store import keys
from tests.journeys.test_emptied_store import ask, serving, warnings
from tests.stack import until

PRODUCER = "01a0c4506c0059ab351f1c6117b2"


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


def test_acknowledged_long_loss_counts_hits_as_far_as_the_ring(tmp_path):
    held = AcknowledgedFiles(tmp_path, 256)
    held.note([AcknowledgedBatch(PRODUCER, 7, n, 2) for n in range(1, 401)])
    held.close([])
    again = AcknowledgedFiles(tmp_path, 256)
    assert again.read_newest() == {(PRODUCER, 7): 400}
    assert again.missing(PRODUCER, 7, 390, 400) == MissingBatches(PRODUCER, 7, 391, 400, 20, True)
    assert again.missing(PRODUCER, 7, 0, 400) == MissingBatches(PRODUCER, 7, 1, 400, 512, False)
    assert AcknowledgedFiles(tmp_path, 4).read_newest() == {}, "a file for 256 shards is not read"


def test_batch_hits_are_counted_by_its_head():
    for hits in (0, 1, 15, 16, 1000):
        assert Batch(0, "", 1, encode_batch([b"\xc0"] * hits)).hits == hits
