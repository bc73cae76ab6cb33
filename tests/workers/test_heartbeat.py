"""Heartbeats of a worker."""

from __future__ import annotations

from pixel_server.store import keys
from tests.redis_states import full
from workers import heartbeat


def test_progress_worker_stalled_sends_no_heartbeat(client, settings, monkeypatch):
    progress = heartbeat.Progress(settings)
    with full(client):
        progress.step(client)
    assert client.zcard(keys.WORKERS) == 1
    client.delete(keys.WORKERS)
    monkeypatch.setattr(heartbeat, "STALLED_SECONDS", 0.0)
    progress.step(client)
    assert client.zcard(keys.WORKERS) == 0
