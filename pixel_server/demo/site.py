"""The made-up web site: a tea shop with a dozen pages, and its visits of two weeks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from math import log
from random import Random
from typing import NamedTuple

from pixel_server.demo import cast
from pixel_server.demo.cast import Person
from pixel_server.times import DAY

DAYS, VISITS = 14, 720
CRAWLED_PER_DAY = 4
"""Pages that a search engine fetches in a day."""
HOST = "https://tea.example"

_PAGES = (
    *((26, "/"), (12, "/teas"), (11, "/teas/sencha"), (8, "/teas/assam"), (7, "/teas/earl-grey")),
    *((10, "/brewing"), (5, "/brewing/cold"), (5, "/journal"), (9, "/journal/first-flush")),
    *((3, "/about"), (3, "/delivery"), (1, "/contact")),
)
_NEWSLETTER_QUERY = "?utm_source=newsletter&utm_medium=email&utm_campaign=demo-newsletter"
_SOURCES = (
    *((30, ("https://www.google.com/", "")), (4, ("https://www.bing.com/", ""))),
    *((6, ("https://duckduckgo.com/", "")), (3, ("https://www.ecosia.org/", "")), (25, ("", ""))),
    *((5, ("https://www.reddit.com/", "")), (3, ("https://www.facebook.com/", ""))),
    *((3, ("https://www.instagram.com/", "?utm_source=instagram&utm_medium=social&utm_campaign=tea-week")),),
    *((7, ("https://www.google.com/", "?utm_source=google&utm_medium=cpc&utm_campaign=tea-week")),),
    *(
        (4, ("https://steep.example/reviews", "")),
        (3, ("", _NEWSLETTER_QUERY)),
        (2, ("https://mail.google.com/", _NEWSLETTER_QUERY)),
    ),
)
"""Weight, referrer and query of each kind of link to the site."""
_NEWSLETTER_SHARES = (0.34, 0.16, 0.08)
"""Share of the visits that the newsletter brings, on the first, second and third day."""
_WEEKDAYS = (1.1, 1.15, 1.1, 1.05, 0.95, 0.6, 0.7)
_HOURS = (2, 1, 1, 1, 1, 3, 7, 12, 15, 16, 15, 14, 16, 15, 14, 14, 14, 13, 14, 17, 18, 15, 9, 5)
_BOUNCE_SHARE = 0.46
"""Share of the visits that see one page."""
_NO_SCRIPT_SHARE = 0.04
"""Share of the visits without JavaScript."""
_RETURN_SHARE = 0.32
"""Share of the visits by visitors who were there before."""
_UNREPORTED_SHARE = 0.08
"""Share of the visits whose last page does not report how long it was seen."""
_MIN_SECONDS_BETWEEN_VISITS = 3 * 3600
"""Seconds between the visits of one visitor, at least."""


class Step(NamedTuple):
    """One view of a page, or the report of how long the page was seen.

    at: ms. visitor: a number, -1 for a crawler. visit: a number for each visitor, from 1. view: a number, -1
    without JavaScript. spent: ms for a report, -1 for a view. is_new: whether this is the visitor's first
    view.
    """

    at: int
    visitor: int
    visit: int
    view: int
    page: str
    referrer: str
    who: Person
    spent: int = -1
    is_new: bool = False


class _Visitor(NamedTuple):
    """A visitor so far. visits: their number. last: seconds of the last step."""

    who: Person
    visits: int
    last: int


def steps(start: int, seed: int) -> list[Step]:
    """Returns all steps, ordered by time. start: midnight of the first day in UTC, seconds."""
    rng = Random(f"site {seed}")  # noqa: S311 - no secret
    known: list[_Visitor] = []
    steps: list[Step] = []
    views = 0
    for day, visits in enumerate(_visits_by_day(rng, start)):
        for at in sorted(start + day * DAY + _second_of_day(rng) for _ in range(visits)):
            visitor = _visitor(rng, known, at)
            known[visitor] = known[visitor]._replace(visits=known[visitor].visits + 1)
            visit = list(_visit(rng, at, visitor, known[visitor], _source(rng, day), views))
            known[visitor] = known[visitor]._replace(last=visit[-1].at // 1000)
            views += len(visit)
            steps += visit
        steps += _crawled(rng, start + day * DAY)
    return sorted(steps)


def _visits_by_day(rng: Random, start: int) -> list[int]:
    """Returns the number of visits of each day."""
    first = datetime.fromtimestamp(start, UTC).weekday()
    weights = [_WEEKDAYS[(first + day) % 7] * rng.uniform(0.85, 1.15) for day in range(DAYS)]
    return [round(VISITS * weight / sum(weights)) for weight in weights]


def _second_of_day(rng: Random) -> int:
    return cast.weighted(rng, list(zip(_HOURS, range(24), strict=True))) * 3600 + rng.randrange(3600)


def _source(rng: Random, day: int) -> tuple[str, str]:
    if day < len(_NEWSLETTER_SHARES) and rng.random() < _NEWSLETTER_SHARES[day]:
        return "", _NEWSLETTER_QUERY
    return cast.weighted(rng, _SOURCES)


def _visitor(rng: Random, known: list[_Visitor], at: int) -> int:
    """Returns the number of a known visitor, or adds one whose address and browser no other visitor has."""
    away = [i for i, visitor in enumerate(known) if visitor.last < at - _MIN_SECONDS_BETWEEN_VISITS]
    if away and rng.random() < _RETURN_SHARE:
        return rng.choice(away)
    taken = {visitor.who[1:3] for visitor in known}
    who = cast.person(rng, cast.BROWSERS)
    while who[1:3] in taken:
        who = cast.person(rng, cast.BROWSERS)
    known.append(_Visitor(who, 0, 0))
    return len(known) - 1


def _visit(
    rng: Random, at: int, visitor: int, seen: _Visitor, source: tuple[str, str], views: int
) -> Iterator[Step]:
    """Yields the views and reports of a visit. at: seconds. views: the number of earlier views."""
    referrer, query = source
    ms = at * 1000 + rng.randrange(1000)
    pages = 1 if rng.random() < _BOUNCE_SHARE else min(9, 2 + int(rng.expovariate(0.7)))
    has_no_script = rng.random() < _NO_SCRIPT_SHARE
    page = cast.weighted(rng, _PAGES)
    for number in range(pages):
        view = -1 if has_no_script else views + number
        url = HOST + page + (query if number == 0 else "")
        is_new = seen.visits == 1 and number == 0
        yield Step(ms, visitor, seen.visits, view, url, referrer, seen.who, is_new=is_new)
        stayed = int(min(max(3.0, rng.lognormvariate(log(38), 1.0)), 900) * 1000)
        spent = int(stayed * rng.uniform(0.7, 1.0))
        is_reported = number < pages - 1 or rng.random() >= _UNREPORTED_SHARE
        if not has_no_script and is_reported:
            yield Step(ms + stayed, visitor, seen.visits, view, url, "", seen.who, spent=spent)
        ms += stayed + 200
        referrer = url
        page = rng.choice([name for _, name in _PAGES if name != page])


def _crawled(rng: Random, start: int) -> Iterator[Step]:
    """Yields the pages that a search engine fetches in a day."""
    for _ in range(CRAWLED_PER_DAY):
        who = Person("US", cast.address(rng, cast.GOOGLEBOT_PREFIX), cast.GOOGLEBOT, "")
        at = (start + rng.randrange(DAY)) * 1000
        yield Step(at, -1, 0, -1, HOST + cast.weighted(rng, _PAGES), "", who)
