"""Who failed to sign in too often: counted in this process, of a bounded number of addresses."""

from __future__ import annotations

from collections import OrderedDict
from math import ceil

MOST = 10
"""Failures of one address before it must wait."""
WAIT = 60.0
"""Seconds."""
KNOWN = 10_000
"""Addresses that are remembered, some 2 MB; of more, those that failed longest ago are forgotten."""


class Attempts:
    """Failures by address. An IPv6 address stands for its /64, which is what one household has."""

    def __init__(self) -> None:
        self._failures: OrderedDict[bytes, tuple[int, float]] = OrderedDict()

    def wait(self, address: bytes, now: float) -> int:
        """Seconds until this address may try again; 0: now."""
        count, last = self._failures.get(_who(address), (0, 0.0))
        left = last + WAIT - now
        if left <= 0:
            self._failures.pop(_who(address), None)
        return ceil(left) if count >= MOST and left > 0 else 0

    def failed(self, address: bytes, now: float) -> None:
        who = _who(address)
        count, _ = self._failures.pop(who, (0, 0.0))
        self._failures[who] = count + 1, now
        if len(self._failures) > KNOWN:
            self._failures.popitem(last=False)

    def succeeded(self, address: bytes) -> None:
        self._failures.pop(_who(address), None)


def _who(address: bytes) -> bytes:
    return address[:8] if len(address) == 16 else address
