"""The made-up newsletter: two thousand mails on one morning, and what fetches their images in a fortnight."""

from __future__ import annotations

from collections.abc import Iterator
from math import log
from random import Random
from typing import NamedTuple

from pixel_server.demo import cast
from pixel_server.demo.cast import Person
from pixel_server.times import DAY
from pixel_server.verdicts import Class

READERS, BOUNCED = 2000, 37
SENT = 8 * 3600 + 30 * 60
"""Seconds after the beginning of the first day; so many a second go out from then on:"""
A_SECOND = 4
LONGEST = 12 * DAY
"""Seconds after its mail that an open may lie."""

_HOURS = (1, 1, 1, 1, 2, 5, 11, 16, 18, 16, 14, 13, 15, 13, 12, 12, 13, 14, 15, 16, 14, 10, 5, 2)
"""How likely a mail is looked at, by the hour of UTC."""

_CLIENTS = (
    *((27, "apple"), (30, "gmail"), (4, "yahoo"), (17, "outlook"), (4, "thunderbird")),
    *((8, "phone"), (10, "webmail")),
)
_OPENS = {
    "apple": 0.08,  # seen by a person in a browser too
    "gmail": 0.36,
    "yahoo": 0.3,
    "outlook": 0.33,
    "thunderbird": 0.5,
    "phone": 0.42,
    "webmail": 0.36,
}
"""How many of those with each client open the mail."""
_AGENTS = {
    **{"apple": cast.BROWSERS, "webmail": cast.BROWSERS, "phone": cast.PHONES},
    **{"outlook": cast.OUTLOOK, "thunderbird": cast.THUNDERBIRD},
}
_PREFETCHED, _CHECKED, _UNNAMED, _FORWARDED = 0.93, 0.24, 0.02, 0.012
"""Of Apple's: loaded by machine. Of Outlook's: through a gateway. Of people: with a program that nobody
knows; who send the mail on."""


class Opening(NamedTuple):
    """A mail's image is fetched. at: ms. reader: by number. verdict: what it really is."""

    at: int
    reader: int
    verdict: Class
    agent: str
    address: bytes
    referrer: str = ""
    language: str = ""


def sent_at(start: int, reader: int) -> int:
    """When the mail to a reader goes out, seconds. start: of the first day."""
    return start + SENT + reader // A_SECOND


def openings(start: int, seed: int) -> list[Opening]:
    """All of the fortnight, by time. start: of the first day, seconds.

    Verdict `own`: the sender's trial mails, before the mailing.
    """
    rng = Random(f"mailing {seed}")  # noqa: S311 - no secret
    bounced = set(rng.sample(range(READERS), BOUNCED))
    found = list(_trials(rng, start))
    for reader in range(READERS):
        if reader not in bounced:
            found += _fetched(rng, reader, sent_at(start, reader))
    return sorted(found)


def _trials(rng: Random, start: int) -> Iterator[Opening]:
    for agents in (cast.THUNDERBIRD, cast.OUTLOOK, cast.PHONES, cast.BROWSERS):
        who = cast.person(rng, agents)
        yield _by(who, start + SENT - rng.randrange(600, 3600), 0, "own")


def _fetched(rng: Random, reader: int, sent: int) -> Iterator[Opening]:
    """What fetches the image of one mail."""
    client = cast.weighted(rng, _CLIENTS)
    if client == "apple" and rng.random() < _PREFETCHED:
        yield _machine(rng, sent + _spread(rng, 2400, 1.2), reader, "prefetch", cast.APPLE, cast.APPLE_AT)
    if client == "outlook" and rng.random() < _CHECKED:
        yield from _checked(rng, reader, sent)
    if rng.random() >= _OPENS[client]:
        return
    at = _moment(rng, sent, 2.4 * 3600, 1.7)
    if client == "gmail" and rng.random() < 0.06:
        yield _prefetched_by_gmail(rng, at - 20, reader)
    unnamed = rng.random() < _UNNAMED
    who = cast.person(rng, _AGENTS.get(client, cast.BROWSERS))
    while at < sent + LONGEST:
        if client == "gmail":
            yield _machine(rng, at, reader, "proxy", cast.GMAIL, cast.GMAIL_AT)
        elif client == "yahoo":
            yield _machine(rng, at, reader, "proxy", cast.YAHOO, cast.YAHOO_AT)
        elif unnamed:
            yield _by(who._replace(agent="", language=""), at, reader, "unknown")
        else:
            yield _by(who, at, reader, "person")
        if rng.random() < 0.7:
            break
        at = _moment(rng, at, 9 * 3600, 1.8)  # looked at once more
    if rng.random() < _FORWARDED:
        for _ in range(rng.randrange(3, 9)):
            other = cast.person(rng, rng.choice((cast.BROWSERS, cast.OUTLOOK, cast.PHONES)))
            yield _by(other, _moment(rng, at, 20 * 3600, 1.0), reader, "person")


def _checked(rng: Random, reader: int, sent: int) -> Iterator[Opening]:
    """A gateway looks at the mail as it comes: one that is known, one that is quick, or several machines."""
    kind = rng.random()
    if kind < 0.5:
        agent = cast.program(rng, cast.BROWSERS)
        network = rng.choice(cast.GATEWAYS)
        yield _machine(rng, sent + rng.randrange(2, 90), reader, "scanner", agent, network)
    elif kind < 0.8:
        who = cast.person(rng, cast.BROWSERS)
        yield _by(who, sent + rng.randrange(1, 4), reader, "scanner")
    else:
        at = sent + rng.randrange(10, 40)
        for _ in range(3):
            at += rng.randrange(1, 9)
            yield _by(cast.person(rng, cast.BROWSERS), at, reader, "scanner")


def _prefetched_by_gmail(rng: Random, at: int, reader: int) -> Opening:
    found = _machine(rng, at, reader, "prefetch", cast.GMAIL_PREFETCH, cast.GMAIL_AT)
    return found._replace(referrer="http://mail.google.com/")


def _machine(rng: Random, at: int, reader: int, verdict: Class, agent: str, network: str) -> Opening:
    return Opening(at * 1000 + rng.randrange(1000), reader, verdict, agent, cast.address(rng, network))


def _by(who: Person, at: int, reader: int, verdict: Class) -> Opening:
    return Opening(at * 1000, reader, verdict, who.agent, who.address, "", who.language)


def _moment(rng: Random, after: int, median: float, sigma: float) -> int:
    """When somebody looks: about so long (s) after this instant, and rather by day than by night."""
    for _ in range(50):
        at = after + _spread(rng, median, sigma)
        if rng.random() * max(_HOURS) < _HOURS[at // 3600 % 24]:
            break
    return at


def _spread(rng: Random, median: float, sigma: float) -> int:
    return int(min(max(60.0, rng.lognormvariate(log(median), sigma)), LONGEST))
