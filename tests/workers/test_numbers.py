"""The numbers that workers publish for `/metrics`."""

from __future__ import annotations

import signal
import time
from types import SimpleNamespace

import pytest

from pixel_server.store import jobs
from tests.properties.crashing_rollup import store_in_batches
from tests.properties.test_bursts import READER, MailHit, Part
from workers import rollup, worker
from workers.numbers import WorkNumbers


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> WorkNumbers:
    """Returns the numbers of this process, which begin at 0."""
    own = WorkNumbers()
    for module in (rollup, worker):
        monkeypatch.setattr(module, "WORK", own)
    return own


def test_numbers_of_a_pass_have_its_hits_and_its_bursts(client, settings, secrets, work):
    apart = MailHit(at=600, recipient=2, address=9, agent=READER, method="GET", part=Part.SINGLE, minted=0)
    burst = [
        MailHit(at=n, recipient=1, address=n, agent=READER, method="GET", part=Part.SINGLE, minted=0)
        for n in (1, 2, 3)
    ]
    store_in_batches(client, [story.hit() for story in (*burst, apart)], [2])
    rollup.drain_shards(client, settings, secrets, [0, 1], time.monotonic() + 60, time.time)
    counters = work.gather("worker").counters
    assert counters["pixel_hits_counted_total"] == {"": 4}
    assert counters["pixel_burst_hits_total"] == {"": 3}
    assert counters["pixel_rollup_passes_total"] == {"counted": 1, "empty": 1}
    assert sum(n for name, n in counters["pixel_rollup_pass_seconds"].items() if name != "sum") == 1


def test_numbers_of_jobs_tell_failed_from_done(queue_client, work, monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    queue = jobs.queue(queue_client)
    for name in ("time.monotonic", "time.no_such_function", "time.monotonic"):
        queue.enqueue(name, result_ttl=0, failure_ttl=1)
    own = worker.Worker([queue], connection=queue_client)
    own.progress = SimpleNamespace(note=lambda: None)
    own.work(burst=True, logging_level="CRITICAL")
    assert work.gather("worker").counters["pixel_jobs_total"] == {"done": 2, "failed": 1}
