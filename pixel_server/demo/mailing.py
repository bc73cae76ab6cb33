"""The made-up newsletter: two thousand mails on one morning, and two weeks of requests for their images."""

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
FIRST_MAIL_SECONDS = 8 * 3600 + 30 * 60
"""Seconds from the start of the first day to the first mail."""
MAILS_PER_SECOND = 4
MAX_SECONDS_TO_OPEN = 12 * DAY
"""Largest number of seconds from a mail to an open of it."""

_HOURS = (1, 1, 1, 1, 2, 5, 11, 16, 18, 16, 14, 13, 15, 13, 12, 12, 13, 14, 15, 16, 14, 10, 5, 2)
"""Relative likelihood of an open, by the hour of the day in UTC."""

_CLIENTS = (
    *((27, "apple"), (30, "gmail"), (4, "yahoo"), (17, "outlook"), (4, "thunderbird")),
    *((8, "phone"), (10, "webmail")),
)
"""Weight and name of each mail client."""
_OPENED_SHARE = {
    "apple": 0.08,  # opens in a browser, in addition to the prefetch
    "gmail": 0.36,
    "yahoo": 0.3,
    "outlook": 0.33,
    "thunderbird": 0.5,
    "phone": 0.42,
    "webmail": 0.36,
}
"""Share of the readers who open the mail, by client."""
_AGENTS = {
    **{"apple": cast.BROWSERS, "webmail": cast.BROWSERS, "phone": cast.PHONE_APPS},
    **{"outlook": cast.OUTLOOK, "thunderbird": cast.THUNDERBIRD},
}
"""Weights and user agents of people's programs, by client."""
_PREFETCHED_SHARE = 0.93
"""Share of the readers with Apple's client for whom the client loads all images by machine."""
_SCANNED_SHARE = 0.24
"""Share of the readers with Outlook who are behind a mail gateway."""
_UNNAMED_SHARE = 0.02
"""Share of readers whose program sends no user agent, among those who open the mail other than with Gmail or
Yahoo."""
_FORWARDED_SHARE = 0.012
"""Share of readers who forward the mail, among those who open it."""


class Opening(NamedTuple):
    """A request for a mail's image.

    at_ms: ms since 1970. reader: number from 0. verdict: the verdict that the server should reach.
    """

    at_ms: int
    reader: int
    verdict: Class
    agent: str
    address: bytes
    referrer: str = ""
    language: str = ""


def sent_at(start: int, reader: int) -> int:
    """Returns the time of sending a reader's mail. start: start of the first day. Both are s since 1970."""
    return start + FIRST_MAIL_SECONDS + reader // MAILS_PER_SECOND


def openings(start: int, seed: int) -> list[Opening]:
    """Returns all openings, ordered by time. start: start of the first day, in s since 1970.

    The openings with the verdict `own` are those of the sender's test mails, before the mailing.
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
        editor = cast.person(rng, agents)
        yield _by_person(editor, start + FIRST_MAIL_SECONDS - rng.randrange(600, 3600), 0, "own")


def _openings_of_mail(rng: Random, reader: int, sent: int) -> Iterator[Opening]:
    """Yields all requests for the image of one mail."""
    client = cast.weighted(rng, _CLIENTS)
    if client == "apple" and rng.random() < _PREFETCHED_SHARE:
        yield _by_machine(
            rng, sent + _spread(rng, 2400, 1.2), reader, "prefetch", cast.APPLE, cast.APPLE_PREFIX
        )
    if client == "outlook" and rng.random() < _SCANNED_SHARE:
        yield from _scanned(rng, reader, sent)
    if rng.random() >= _OPENED_SHARE[client]:
        return
    at = _moment(rng, sent, 2.4 * 3600, 1.7)
    if client == "gmail" and rng.random() < 0.06:
        yield _prefetched_by_gmail(rng, at - 20, reader)
    is_unnamed = rng.random() < _UNNAMED_SHARE
    person = cast.person(rng, _AGENTS.get(client, cast.BROWSERS))
    while at < sent + MAX_SECONDS_TO_OPEN:
        if client == "gmail":
            yield _by_machine(rng, at, reader, "proxy", cast.GMAIL, cast.GMAIL_PREFIX)
        elif client == "yahoo":
            yield _by_machine(rng, at, reader, "proxy", cast.YAHOO, cast.YAHOO_PREFIX)
        elif is_unnamed:
            yield _by_person(person._replace(agent="", language=""), at, reader, "unknown")
        else:
            yield _by_person(person, at, reader, "person")
        if rng.random() < 0.7:
            break
        at = _moment(rng, at, 9 * 3600, 1.8)  # the next look at the same mail
    if rng.random() < _FORWARDED_SHARE:
        for _ in range(rng.randrange(3, 9)):
            friend = cast.person(rng, rng.choice((cast.BROWSERS, cast.OUTLOOK, cast.PHONE_APPS)))
            yield _by_person(friend, _moment(rng, at, 20 * 3600, 1.0), reader, "person")


def _scanned(rng: Random, reader: int, sent: int) -> Iterator[Opening]:
    """Yields the requests of a gateway. There are three kinds of gateway: it sends its request from its own
    network, it sends its request within seconds of the mail, or it sends requests from three machines.
    """
    kind = rng.random()
    if kind < 0.5:
        agent = cast.user_agent(rng, cast.BROWSERS)
        network = rng.choice(cast.GATEWAYS)
        yield _by_machine(rng, sent + rng.randrange(2, 90), reader, "scanner", agent, network)
    elif kind < 0.8:
        machine = cast.person(rng, cast.BROWSERS)
        yield _by_person(machine, sent + rng.randrange(1, 4), reader, "scanner")
    else:
        at = sent + rng.randrange(10, 40)
        for _ in range(3):
            at += rng.randrange(1, 9)
            yield _by_person(cast.person(rng, cast.BROWSERS), at, reader, "scanner")


def _prefetched_by_gmail(rng: Random, at: int, reader: int) -> Opening:
    opening = _by_machine(rng, at, reader, "prefetch", cast.GMAIL_PREFETCH, cast.GMAIL_PREFIX)
    return opening._replace(referrer="http://mail.google.com/")


def _by_machine(rng: Random, at: int, reader: int, verdict: Class, agent: str, prefix: str) -> Opening:
    return Opening(at * 1000 + rng.randrange(1000), reader, verdict, agent, cast.address(rng, prefix))


def _by_person(person: Person, at: int, reader: int, verdict: Class) -> Opening:
    return Opening(at * 1000, reader, verdict, person.agent, person.address, "", person.language)


def _moment(rng: Random, after: int, median: float, sigma: float) -> int:
    """Returns a random time, in s since 1970: about `median` seconds after `after`, and rarely at night."""
    for _ in range(50):
        at = after + _spread(rng, median, sigma)
        if rng.random() * max(_HOURS) < _HOURS[at // 3600 % 24]:
            break
    return at


def _spread(rng: Random, median: float, sigma: float) -> int:
    """Returns a random duration in seconds, from a log-normal distribution, of at least one minute."""
    return int(min(max(60.0, rng.lognormvariate(log(median), sigma)), MAX_SECONDS_TO_OPEN))
