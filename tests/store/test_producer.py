"""Producers in the store: how many a shard keeps."""

from __future__ import annotations

from pixel_server.store import keys, producer
from pixel_server.store.client import connect


def test_prune_too_many_producers_drops_those_idle_longest(redis_url: str):
    now = 1_800_000_000_000
    ids = [producer.new_id((now - days * 86_400_000) / 1000) for days in (20, 15, 10, 8, 1, 0)]
    with connect(redis_url) as client:
        for name, days in zip(ids, (20, 15, 10, 8, 1, 0), strict=True):
            client.hset(keys.producers(0), name, f"1 {now - days * 86_400_000}")
        assert producer.prune(client, 0, idle_since_ms=now - producer.IDLE_MS, max_producers=3) == 3
        kept = {name.decode() for name in client.hkeys(keys.producers(0))}
    assert kept == {*ids[3:], "floor"}
