"""A throttle for wrong API keys and sign-in links. It never refuses a right key.

A key is checked first. Only the answer to a wrong key is delayed, and the delay grows with the number of
wrong keys from the same address. So a stranger who shares the operator's address, as all clients do behind a
proxy that the settings do not name, cannot lock anyone out. Each process counts for itself.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from starlette.requests import Request

FREE_FAILURES = 5
"""Failures of an address that are answered without delay."""
STEP_SECONDS, MAX_DELAY_SECONDS = 0.25, 2.0
"""Seconds of delay for each further failure, and at most."""
FORGET_SECONDS = 60.0
"""Seconds after its last failure until an address is forgotten."""
MAX_ADDRESSES = 10_000
"""Addresses remembered, some 2 MB. Beyond it, the address that failed longest ago is forgotten."""
MAX_DELAYED = 100
"""Answers delayed at the same time. Further failures are answered at once, with 429."""
RETRY_SECONDS = 2
"""Seconds that an answer with 429 says to wait."""

AddressOf = Callable[[Request], bytes]
delay = asyncio.sleep


def _peer(request: Request) -> bytes:
    return request.client.host.encode() if request.client else b""


class Throttle:
    """Counts failures by address. An IPv6 address counts as its /64, the range of one household.

    address_of: returns the client's address, packed, honouring trusted proxies.
    """

    def __init__(self, address_of: AddressOf = _peer) -> None:
        self._address_of = address_of
        self._failures: OrderedDict[bytes, tuple[int, float]] = OrderedDict()
        self._delayed = 0

    async def failed(self, request: Request, now: float) -> bool:
        """Notes a failure at a time (s), and waits as long as its answer must be delayed.

        Returns False if too many answers are being delayed. The caller then answers 429 at once.
        """
        seconds = self.note(self._address_of(request), now)
        if not seconds:
            return True
        if self._delayed >= MAX_DELAYED:
            return False
        self._delayed += 1
        try:
            await delay(seconds)
        finally:
            self._delayed -= 1
        return True

    def note(self, address: bytes, now: float) -> float:
        """Notes a failure of an address. Returns the seconds that its answer must be delayed."""
        household = address[:8] if len(address) == 16 else address
        count, last = self._failures.pop(household, (0, now))
        count = 1 if abs(now - last) >= FORGET_SECONDS else count + 1
        self._failures[household] = count, now
        if len(self._failures) > MAX_ADDRESSES:
            self._failures.popitem(last=False)
        return min(MAX_DELAY_SECONDS, STEP_SECONDS * max(0, count - FREE_FAILURES))
