"""The job that sees to it that a worker sends the events of webhooks."""

from __future__ import annotations

from workers import courier
from workers.context import context, is_known_store


def run() -> None:
    """Runs the job: starts this worker's courier, unless a courier of another worker is at work.

    The courier is a thread: a job that waited for an endpoint would keep its worker from counting hits.
    """
    store, settings, secrets = context()
    if is_known_store(store):
        courier.wake(settings, secrets)
