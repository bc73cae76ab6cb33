"""Heartbeats of a worker."""

from __future__ import annotations

from pixel_server.store import hosts, keys
from tests.redis_states import full
from workers import heartbeat


def test_progress_worker_stalled_sends_no_heartbeat(client, settings, secrets, monkeypatch):
    progress = heartbeat.Progress(settings, secrets)
    with full(client):
        progress.step(client)
    assert client.zcard(keys.WORKERS) == 1
    (host,) = hosts.parse(client.hgetall(keys.HOSTS))
    assert (host.kind, host.has_spool, host.settings["PIXEL_SHARDS"]) == (
        "worker",
        False,
        hosts.fingerprints(settings, secrets, "web")["PIXEL_SHARDS"],
    )
    client.delete(keys.WORKERS)
    monkeypatch.setattr(heartbeat, "STALLED_SECONDS", 0.0)
    progress.step(client)
    assert client.zcard(keys.WORKERS) == 0
