"""A throttle for wrong API keys and sign-in links. It never refuses a right key.

A key is checked first. Only the answer to a wrong key is delayed, and the delay grows with the number of
wrong keys from the same address. So a stranger with the operator's address cannot lock the operator out.
(Behind a proxy that PIXEL_TRUSTED_PROXIES does not name, all clients seem to have the proxy's
address.) Each process counts for itself.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from starlette.requests import Request

FREE_FAILURES = 5
"""Number of failures of an address that are answered without a delay."""
STEP_SECONDS, MAX_DELAY_SECONDS = 0.25, 2.0
"""Seconds that each further failure adds to the delay, and the longest delay."""
FORGET_SECONDS = 60.0
"""Seconds from the last failure of an address until the address is forgotten."""
MAX_ADDRESSES = 10_000
"""Largest number of remembered addresses, about 2 MB. The address idle for longest is forgotten first."""
MAX_DELAYED = 100
"""Largest number of answers delayed at the same time. Further failures are answered 429 at once."""
RETRY_SECONDS = 2
"""Seconds to wait, in the header `Retry-After` of an answer with 429."""

ClientAddressFunction = Callable[[Request], bytes]
delay = asyncio.sleep  # tests replace it


def _peer_address(request: Request) -> bytes:
    return request.client.host.encode() if request.client else b""


class Throttle:
    """Counts failures by address. An IPv6 address counts as its /64, the range of one household.

    client_address: returns the client's address, packed, honouring trusted proxies.
    """

    def __init__(self, client_address: ClientAddressFunction = _peer_address) -> None:
        self._client_address = client_address
        self._failures: OrderedDict[bytes, tuple[int, float]] = OrderedDict()
        self._delayed = 0

    async def delay_failure(self, request: Request, now: float) -> bool:
        """Counts a failure, and waits until it may be answered. now: seconds.

        Returns False, without a wait, if too many answers are being delayed. The caller then answers 429.
        """
        seconds = self.count_failure(self._client_address(request), now)
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

    def count_failure(self, address: bytes, now: float) -> float:
        """Counts a failure of an address. Returns the seconds by which to delay the answer."""
        network = address[:8] if len(address) == 16 else address
        count, last = self._failures.pop(network, (0, now))
        count = 1 if abs(now - last) >= FORGET_SECONDS else count + 1
        self._failures[network] = count, now
        if len(self._failures) > MAX_ADDRESSES:
            self._failures.popitem(last=False)
        return min(MAX_DELAY_SECONDS, STEP_SECONDS * max(0, count - FREE_FAILURES))
