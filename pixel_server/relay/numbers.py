"""The numbers that a relay publishes for `/metrics`.

They are counted in memory, and written to a file by a thread of their own. So neither Redis nor a scrape can
slow a mail.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import Literal, get_args

from pixel_server.metrics.numbers import Numbers, Values
from pixel_server.relay.reply import Reply

Reason = Literal[
    "signed",
    "mode",
    "campaign",
    "no-link",
    "recipients",
    "size",
    "text",
    "has-pixel",
    "unreadable",
    "failed",
]
"""Why a mail got no pixel.

signed: it is signed or encrypted. mode: the mode is off. campaign: it names no campaign, several, or a text
that is not an id. no-link: no link can be made for its campaign. recipients: it has several. size: it is
above a limit. text: it has no HTML. has-pixel: it has a pixel already. unreadable: it is malformed, or its
`X-Pixel-Mode` is. failed: this program has a fault.
"""


class RelayNumbers:
    """Counts the mails, refusals and connections of this process. Several threads may note at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._mails = Counter[str](
            dict.fromkeys(("pixel|", *(f"no-pixel|{name}" for name in get_args(Reason))), 0)
        )
        self._refusals = Counter[str](
            {f"{by}|{kind}": 0 for by in ("relay", "next") for kind in ("4xx", "5xx")}
        )
        self._connections = Counter[str](taken=0, refused=0)
        self._bytes = self._failures = 0

    def note_mail(self, reason: Reason | None, size: int) -> None:
        """Notes a mail that the next server took. reason: why it has no pixel, or None. size: in bytes."""
        with self._lock:
            self._mails["pixel|" if reason is None else f"no-pixel|{reason}"] += 1
            self._bytes += size

    def note_refusal(self, by: Literal["relay", "next"], answer: Reply) -> None:
        """Notes a command or a mail that was refused. by: who refused it."""
        with self._lock:
            self._refusals[f"{by}|{answer.code // 100}xx"] += 1

    def note_failure(self) -> None:
        """Notes that the next server could not be reached, or broke off."""
        with self._lock:
            self._failures += 1

    def note_connection(self, outcome: Literal["taken", "refused"]) -> None:
        with self._lock:
            self._connections[outcome] += 1

    def gather(self, open_connections: int) -> Numbers:
        """Returns the numbers. open_connections: number of clients that are connected."""
        with self._lock:
            counters: dict[str, Values] = {
                "pixel_relay_mails_total": dict(self._mails),
                "pixel_relay_bytes_total": {"": self._bytes},
                "pixel_relay_refusals_total": dict(self._refusals),
                "pixel_relay_next_failures_total": {"": self._failures},
                "pixel_relay_connections_total": dict(self._connections),
            }
        return Numbers("relay", counters, {"pixel_relay_connections": {"": open_connections}})
