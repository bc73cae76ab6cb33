"""The made-up web site: a tea shop with a dozen pages, and two weeks of visits to it."""

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
"""Number of pages that a search engine fetches in a day."""
HOST = "https://tea.example"

_PAGES = (
    *((26, "/"), (12, "/teas"), (11, "/teas/sencha"), (8, "/teas/assam"), (7, "/teas/earl-grey")),
    *((10, "/brewing"), (5, "/brewing/cold"), (5, "/journal"), (9, "/journal/first-flush")),
    *((3, "/about"), (3, "/delivery"), (1, "/contact")),
)
"""Weight and path of each page."""
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
"""Weight of each source of visits, with the referrer and the query of the first view."""
_NEWSLETTER_SHARES = (0.34, 0.16, 0.08)
"""Share of the visits that come from the newsletter, on the first, second and third day."""
_WEEKDAYS = (1.1, 1.15, 1.1, 1.05, 0.95, 0.6, 0.7)
"""Relative number of visits by weekday, from Monday."""
_HOURS = (2, 1, 1, 1, 1, 3, 7, 12, 15, 16, 15, 14, 16, 15, 14, 14, 14, 13, 14, 17, 18, 15, 9, 5)
"""Relative number of visits by hour of the day, in UTC."""
_BOUNCE_SHARE = 0.46
"""Share of the visits with one page only."""
_NO_SCRIPT_SHARE = 0.04
"""Share of the visits without JavaScript."""
_RETURN_SHARE = 0.32
"""Probability that an earlier visitor makes the next visit, not a new visitor. If all earlier visitors made a
visit within _MIN_SECONDS_BETWEEN_VISITS, a new visitor makes the next visit."""
_UNREPORTED_SHARE = 0.08
"""Share of the visits whose last page does not report how long it was seen."""
_MIN_SECONDS_BETWEEN_VISITS = 3 * 3600
"""Smallest number of seconds between two visits of the same visitor."""


class Step(NamedTuple):
    """A view of a page, or a report of the time for which the page was seen.

    at_ms: ms since 1970. visitor: number of the visitor, -1 for a crawler. visit: number of the visit, from 1
    for each visitor. view: number of the view, -1 without JavaScript. page: URL of the page. spent_ms:
    reported time, -1 for a view. is_new: whether this is the visitor's first view.
    """

    at_ms: int
    visitor: int
    visit: int
    view: int
    page: str
    referrer: str
    person: Person
    spent_ms: int = -1
    is_new: bool = False


class _Visitor(NamedTuple):
    """A visitor. visits: number of visits so far. last_seconds: time of the last step, in s since 1970."""

    person: Person
    visits: int
    last_seconds: int


def steps(start: int, seed: int) -> list[Step]:
    """Returns all steps, ordered by time. start: start of the first day, in s since 1970."""
    rng = Random(f"site {seed}")  # noqa: S311 - no secret
    visitors: list[_Visitor] = []
    steps: list[Step] = []
    first_view = 0
    for day, visits in enumerate(_visits_by_day(rng, start)):
        for at in sorted(start + day * DAY + _second_of_day(rng) for _ in range(visits)):
            number = _choose_visitor(rng, visitors, at)
            visitor = visitors[number]._replace(visits=visitors[number].visits + 1)
            visit = list(_visit(rng, at, number, visitor, _source(rng, day), first_view))
            visitors[number] = visitor._replace(last_seconds=visit[-1].at_ms // 1000)
            first_view += len(visit)
            steps += visit
        steps += _crawled(rng, start + day * DAY)
    return sorted(steps)


def _visits_by_day(rng: Random, start: int) -> list[int]:
    """Returns the number of visits of each day."""
    first_weekday = datetime.fromtimestamp(start, UTC).weekday()
    weights = [_WEEKDAYS[(first_weekday + day) % 7] * rng.uniform(0.85, 1.15) for day in range(DAYS)]
    return [round(VISITS * weight / sum(weights)) for weight in weights]


def _second_of_day(rng: Random) -> int:
    return cast.weighted(rng, list(zip(_HOURS, range(24), strict=True))) * 3600 + rng.randrange(3600)


def _source(rng: Random, day: int) -> tuple[str, str]:
    """Returns (referrer, query) of the first view of a visit."""
    if day < len(_NEWSLETTER_SHARES) and rng.random() < _NEWSLETTER_SHARES[day]:
        return "", _NEWSLETTER_QUERY
    return cast.weighted(rng, _SOURCES)


def _choose_visitor(rng: Random, visitors: list[_Visitor], at: int) -> int:
    """Returns the number of the visitor who makes a visit: an earlier visitor, or a new one.

    at: start of the visit, in s since 1970. An earlier visitor is chosen only if that visitor's last visit is
    more than _MIN_SECONDS_BETWEEN_VISITS ago. A new visitor is added to `visitors`, with an address and
    browser that no other visitor has.
    """
    latest = at - _MIN_SECONDS_BETWEEN_VISITS
    away = [number for number, visitor in enumerate(visitors) if visitor.last_seconds < latest]
    if away and rng.random() < _RETURN_SHARE:
        return rng.choice(away)
    taken = {(visitor.person.address, visitor.person.agent) for visitor in visitors}
    person = cast.person(rng, cast.BROWSERS)
    while (person.address, person.agent) in taken:
        person = cast.person(rng, cast.BROWSERS)
    visitors.append(_Visitor(person, 0, 0))
    return len(visitors) - 1


def _visit(
    rng: Random, at: int, number: int, visitor: _Visitor, source: tuple[str, str], first_view: int
) -> Iterator[Step]:
    """Yields the views and reports of a visit.

    at: seconds since 1970. number: number of the visitor. source: see `_source`. first_view: number of the
    visit's first view.
    """
    referrer, query = source
    at_ms = at * 1000 + rng.randrange(1000)
    pages = 1 if rng.random() < _BOUNCE_SHARE else min(9, 2 + int(rng.expovariate(0.7)))
    has_no_script = rng.random() < _NO_SCRIPT_SHARE
    page = cast.weighted(rng, _PAGES)
    for position in range(pages):
        view = -1 if has_no_script else first_view + position
        url = HOST + page + (query if position == 0 else "")
        is_new = visitor.visits == 1 and position == 0
        yield Step(at_ms, number, visitor.visits, view, url, referrer, visitor.person, is_new=is_new)
        stayed_ms = int(min(max(3.0, rng.lognormvariate(log(38), 1.0)), 900) * 1000)
        spent_ms = int(stayed_ms * rng.uniform(0.7, 1.0))
        is_reported = position < pages - 1 or rng.random() >= _UNREPORTED_SHARE
        if not has_no_script and is_reported:
            report_ms = at_ms + stayed_ms
            yield Step(report_ms, number, visitor.visits, view, url, "", visitor.person, spent_ms=spent_ms)
        at_ms += stayed_ms + 200
        referrer = url
        page = rng.choice([path for _, path in _PAGES if path != page])


def _crawled(rng: Random, start: int) -> Iterator[Step]:
    """Yields the pages that a search engine fetches in a day."""
    for _ in range(CRAWLED_PER_DAY):
        crawler = Person("US", cast.address(rng, cast.GOOGLEBOT_PREFIX), cast.GOOGLEBOT, "")
        at_ms = (start + rng.randrange(DAY)) * 1000
        yield Step(at_ms, -1, 0, -1, HOST + cast.weighted(rng, _PAGES), "", crawler)
