"""The made-up newsletter: two thousand mails on one morning, and the image requests of two weeks."""

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
"""Seconds from the start of the first day to the first mail."""
MAILS_PER_SECOND = 4
MAX_SECONDS_TO_OPEN = 12 * DAY
"""Seconds after its mail within which an open lies."""

_HOURS = (1, 1, 1, 1, 2, 5, 11, 16, 18, 16, 14, 13, 15, 13, 12, 12, 13, 14, 15, 16, 14, 10, 5, 2)
"""Relative likelihood of an open, by the hour of the day in UTC."""

_CLIENTS = (
    *((27, "apple"), (30, "gmail"), (4, "yahoo"), (17, "outlook"), (4, "thunderbird")),
    *((8, "phone"), (10, "webmail")),
)
_OPENS = {
    "apple": 0.08,  # opens in a browser, besides the prefetch
    "gmail": 0.36,
    "yahoo": 0.3,
    "outlook": 0.33,
    "thunderbird": 0.5,
    "phone": 0.42,
    "webmail": 0.36,
}
"""Share of the readers who open the mail, by their client."""
_AGENTS = {
    **{"apple": cast.BROWSERS, "webmail": cast.BROWSERS, "phone": cast.PHONE_APPS},
    **{"outlook": cast.OUTLOOK, "thunderbird": cast.THUNDERBIRD},
}
_PREFETCHED_SHARE = 0.93
"""Share of Apple's clients that load all images by machine."""
_SCANNED_SHARE = 0.24
"""Share of Outlook's clients that are behind a mail gateway."""
_UNNAMED_SHARE = 0.02
"""Share of openers whose program sends no user agent."""
_FORWARDED_SHARE = 0.012
"""Share of openers who forward the mail."""


class Opening(NamedTuple):
    """One request for a mail's image. at: ms. reader: a number from 0. verdict: what the request truly is."""

    at: int
    reader: int
    verdict: Class
    agent: str
    address: bytes
    referrer: str = ""
    language: str = ""


def sent_at(start: int, reader: int) -> int:
    """Returns when the mail to a reader is sent, in seconds. start: of the first day, seconds."""
    return start + SENT + reader // MAILS_PER_SECOND


def openings(start: int, seed: int) -> list[Opening]:
    """Returns all openings, ordered by time. start: of the first day, seconds.

    The openings with the verdict `own` are of the sender's test mails, before the mailing.
    """
    rng = Random(f"mailing {seed}")  # noqa: S311 - no secret
    bounced = set(rng.sample(range(READERS), BOUNCED))
    openings = list(_test_mails(rng, start))
    for reader in range(READERS):
        if reader not in bounced:
            openings += _openings_of_mail(rng, reader, sent_at(start, reader))
    return sorted(openings)


def _test_mails(rng: Random, start: int) -> Iterator[Opening]:
    for agents in (cast.THUNDERBIRD, cast.OUTLOOK, cast.PHONE_APPS, cast.BROWSERS):
        who = cast.person(rng, agents)
        yield _by_person(who, start + SENT - rng.randrange(600, 3600), 0, "own")


def _openings_of_mail(rng: Random, reader: int, sent: int) -> Iterator[Opening]:
    """Yields all requests for the image of one mail."""
    client = cast.weighted(rng, _CLIENTS)
    if client == "apple" and rng.random() < _PREFETCHED_SHARE:
        yield _machine(rng, sent + _spread(rng, 2400, 1.2), reader, "prefetch", cast.APPLE, cast.APPLE_PREFIX)
    if client == "outlook" and rng.random() < _SCANNED_SHARE:
        yield from _scanned(rng, reader, sent)
    if rng.random() >= _OPENS[client]:
        return
    at = _moment(rng, sent, 2.4 * 3600, 1.7)
    if client == "gmail" and rng.random() < 0.06:
        yield _prefetched_by_gmail(rng, at - 20, reader)
    unnamed = rng.random() < _UNNAMED_SHARE
    who = cast.person(rng, _AGENTS.get(client, cast.BROWSERS))
    while at < sent + MAX_SECONDS_TO_OPEN:
        if client == "gmail":
            yield _machine(rng, at, reader, "proxy", cast.GMAIL, cast.GMAIL_PREFIX)
        elif client == "yahoo":
            yield _machine(rng, at, reader, "proxy", cast.YAHOO, cast.YAHOO_PREFIX)
        elif unnamed:
            yield _by_person(who._replace(agent="", language=""), at, reader, "unknown")
        else:
            yield _by_person(who, at, reader, "person")
        if rng.random() < 0.7:
            break
        at = _moment(rng, at, 9 * 3600, 1.8)  # the next look at the same mail
    if rng.random() < _FORWARDED_SHARE:
        for _ in range(rng.randrange(3, 9)):
            other = cast.person(rng, rng.choice((cast.BROWSERS, cast.OUTLOOK, cast.PHONE_APPS)))
            yield _by_person(other, _moment(rng, at, 20 * 3600, 1.0), reader, "person")


def _scanned(rng: Random, reader: int, sent: int) -> Iterator[Opening]:
    """Yields the requests of a gateway: a known network, a very early request, or several machines."""
    kind = rng.random()
    if kind < 0.5:
        agent = cast.user_agent(rng, cast.BROWSERS)
        network = rng.choice(cast.GATEWAYS)
        yield _machine(rng, sent + rng.randrange(2, 90), reader, "scanner", agent, network)
    elif kind < 0.8:
        who = cast.person(rng, cast.BROWSERS)
        yield _by_person(who, sent + rng.randrange(1, 4), reader, "scanner")
    else:
        at = sent + rng.randrange(10, 40)
        for _ in range(3):
            at += rng.randrange(1, 9)
            yield _by_person(cast.person(rng, cast.BROWSERS), at, reader, "scanner")


def _prefetched_by_gmail(rng: Random, at: int, reader: int) -> Opening:
    opening = _machine(rng, at, reader, "prefetch", cast.GMAIL_PREFETCH, cast.GMAIL_PREFIX)
    return opening._replace(referrer="http://mail.google.com/")


def _machine(rng: Random, at: int, reader: int, verdict: Class, agent: str, network: str) -> Opening:
    return Opening(at * 1000 + rng.randrange(1000), reader, verdict, agent, cast.address(rng, network))


def _by_person(who: Person, at: int, reader: int, verdict: Class) -> Opening:
    return Opening(at * 1000, reader, verdict, who.agent, who.address, "", who.language)


def _moment(rng: Random, after: int, median: float, sigma: float) -> int:
    """Returns when a person looks, in seconds: about `median` seconds after `after`, rarely at night."""
    for _ in range(50):
        at = after + _spread(rng, median, sigma)
        if rng.random() * max(_HOURS) < _HOURS[at // 3600 % 24]:
            break
    return at


def _spread(rng: Random, median: float, sigma: float) -> int:
    """Returns a duration in seconds, drawn from a log-normal distribution, at least one minute."""
    return int(min(max(60.0, rng.lognormvariate(log(median), sigma)), MAX_SECONDS_TO_OPEN))
