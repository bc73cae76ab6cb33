"""Facts that a mail service reported on one recipient's mails in one campaign, in two bytes.

The stored bytes are the format and the facts: `b"\\x01\\x03"` is format 1, and DELIVERED and BOUNCED_HARD. A
fact that is known stays known. So facts can come in any order, and a fact that comes again changes nothing.

Each recipient has one state, which follows from the facts:

    bounced_hard  if BOUNCED_HARD is known: a mail server may take a mail and send it back later
    delivered     else if DELIVERED, COMPLAINED or UNSUBSCRIBED is known: nobody complains of a mail that
                  did not arrive
    bounced_soft  else: a mail that is refused for now is often delivered at a later try

A campaign's totals (`keys.total`) hold the number of recipients in each state, and the numbers of recipients
with the facts COMPLAINED and UNSUBSCRIBED.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

from pixel_server.counters.stored_format import NewerFormat

FORMAT = 1

Kind = Literal["delivered", "bounced_hard", "bounced_soft", "complained", "unsubscribed"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""Kinds of facts, and names of the totals that count them."""
DELIVERED, BOUNCED_HARD, BOUNCED_SOFT, COMPLAINED, UNSUBSCRIBED = 1, 2, 4, 8, 16
"""Facts. Stored records hold these values, so a fact keeps its value for ever."""
FACTS: dict[Kind, int] = dict(
    zip(KINDS, (DELIVERED, BOUNCED_HARD, BOUNCED_SOFT, COMPLAINED, UNSUBSCRIBED), strict=True)
)
"""The fact of each kind."""


def state(facts: int) -> Kind | None:
    """Returns the state that follows from the facts, or None if no fact is known."""
    if facts & BOUNCED_HARD:
        return "bounced_hard"
    if facts & (DELIVERED | COMPLAINED | UNSUBSCRIBED):
        return "delivered"
    return "bounced_soft" if facts else None


def totals(facts: int) -> Iterator[Kind]:
    """Yields the totals that count a recipient with these facts."""
    if found := state(facts):
        yield found
    if facts & COMPLAINED:
        yield "complained"
    if facts & UNSUBSCRIBED:
        yield "unsubscribed"


def unpack(value: bytes | None) -> int:
    """Returns the facts in stored bytes, 0 for None. Raises NewerFormat if a newer version wrote them."""
    if value is None:
        return 0
    if len(value) != 2 or value[0] > FORMAT:
        raise NewerFormat(f"delivery of format {value[:1].hex()}, this version reads {FORMAT}")
    return value[1]


def names(facts: int) -> list[Kind]:
    """Returns the kinds of the facts, in the order of KINDS."""
    return [kind for kind, fact in FACTS.items() if facts & fact]
