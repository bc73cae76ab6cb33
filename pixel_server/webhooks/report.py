"""How each endpoint fares: for `/readyz`, `/metrics`, and whoever lists endpoints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis
from pixel_server.webhooks import queue, storage
from pixel_server.webhooks.endpoint import Endpoint
from pixel_server.webhooks.queue import Length
from pixel_server.webhooks.storage import State

FAILING_SECONDS = 3600
"""Seconds for which an endpoint may fail before the operator is warned."""
LATE_SECONDS = 60
"""Seconds by which a request may be late before the operator is warned."""


class Report(NamedTuple):
    """An endpoint with its queue and its state. now: Redis's time, s."""

    endpoint: Endpoint
    length: Length
    state: State
    now: float

    @property
    def failing_seconds(self) -> float:
        """Seconds since the first try that failed after the last success, 0 if the last try succeeded."""
        return max(0.0, self.now - self.state.failing_since / 1000) if self.state.failing_since else 0.0

    @property
    def late_seconds(self) -> float:
        """Seconds by which the request that is due first is late, 0 if it is not due or not to be sent."""
        if not self.endpoint.is_enabled or self.length.oldest is None:
            return 0.0
        due = max(self.length.oldest, self.state.paused_until) / 1000
        return max(0.0, self.now - due)


async def read(store: AsyncRedis, now: float) -> list[Report]:
    """Returns a report on each endpoint, oldest first. now: Redis's time, s."""
    return await _read(store, await storage.list_all(store), now)


async def read_one(store: AsyncRedis, endpoint: Endpoint, now: float) -> Report:
    """Returns a report on an endpoint. now: Redis's time, s."""
    [found] = await _read(store, [endpoint], now)
    return found


async def _read(store: AsyncRedis, endpoints: Sequence[Endpoint], now: float) -> list[Report]:
    if not endpoints:
        return []
    lengths = await queue.read_lengths(store, [endpoint.id for endpoint in endpoints])
    pipe = store.pipeline(transaction=False)
    for endpoint in endpoints:
        pipe.hgetall(keys.hook_state(endpoint.id))
    states = map(storage.parse_state, await pipe.execute())
    return [
        Report(endpoint, lengths[endpoint.id], state, now)
        for endpoint, state in zip(endpoints, states, strict=True)
    ]


def warnings(reports: Iterable[Report]) -> list[str]:
    """Returns a line for the operator on each endpoint that needs attention."""
    lines = []
    for report in reports:
        name = f"webhook {report.endpoint.id}"
        if report.endpoint.disabled_because:
            lines.append(f"{name} is disabled, because it {report.endpoint.disabled_because}")
        elif report.failing_seconds > FAILING_SECONDS:
            lines.append(
                f"{name} has failed for {report.failing_seconds / 3600:.0f} h: {report.state.error}; what it "
                "does not take within a day is set aside"
            )
        if report.length.aside:
            lines.append(
                f"{name}: {report.length.aside:,} requests are set aside; send them again, or delete it"
            )
        if report.late_seconds > LATE_SECONDS:
            lines.append(f"{name}: a request is {report.late_seconds:.0f} s late, no worker sends it")
    return lines
