"""Slows down whoever tries wrong API keys and sign-in links; never refuses a right one.

A key is looked at before anything else. Only the answer to a wrong one is held back, the longer the more
wrong ones came from the same address. So a stranger who shares the operator's address, as all clients do
behind a proxy that is not named, can lock nobody out. Each process counts for itself.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from starlette.requests import Request

FREE = 5
"""Failures of an address whose answers are not held back."""
STEP, LONGEST = 0.25, 2.0
"""Seconds that an answer is held back: for each further failure, and at most."""
FORGET = 60.0
"""Seconds after its last failure until an address is forgotten."""
KNOWN = 10_000
"""Addresses that are remembered, some 2 MB; of more, those that failed longest ago are forgotten."""
MOST_HELD = 100
"""Answers held back at the same time; further failures are answered at once, with 429."""
RETRY = 2
"""Seconds that such an answer says to wait."""

AddressOf = Callable[[Request], bytes]
hold = asyncio.sleep


def _peer(request: Request) -> bytes:
    return request.client.host.encode() if request.client else b""


class Brake:
    """Counts failures by address. An IPv6 address stands for its /64, which is what one household has.

    address_of: returns the client's address, packed, honouring trusted proxies.
    """

    def __init__(self, address_of: AddressOf = _peer) -> None:
        self._address_of = address_of
        self._failures: OrderedDict[bytes, tuple[int, float]] = OrderedDict()
        self._held = 0

    async def failed(self, request: Request, now: float) -> bool:
        """Notes a failure at this time (s), and holds its answer back.

        Returns False if too many answers are held back: this one is then to be 429.
        """
        delay = self.note(self._address_of(request), now)
        if not delay:
            return True
        if self._held >= MOST_HELD:
            return False
        self._held += 1
        try:
            await hold(delay)
        finally:
            self._held -= 1
        return True

    def note(self, address: bytes, now: float) -> float:
        """Notes a failure of this address. Returns for how many seconds its answer is to be held back."""
        who = address[:8] if len(address) == 16 else address
        count, last = self._failures.pop(who, (0, now))
        count = 1 if abs(now - last) >= FORGET else count + 1
        self._failures[who] = count, now
        if len(self._failures) > KNOWN:
            self._failures.popitem(last=False)
        return min(LONGEST, STEP * max(0, count - FREE))
