"""The made-up web site: a tea shop of a dozen pages, and who visits it in a fortnight."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from math import log
from random import Random
from typing import NamedTuple

from pixel_server.demo import cast
from pixel_server.demo.cast import Person
from pixel_server.times import DAY

DAYS, VISITS, CRAWLED = 14, 720, 4
"""CRAWLED: pages that a search engine fetches a day."""
HOST = "https://tea.example"

_PAGES = (
    *((26, "/"), (12, "/teas"), (11, "/teas/sencha"), (8, "/teas/assam"), (7, "/teas/earl-grey")),
    *((10, "/brewing"), (5, "/brewing/cold"), (5, "/journal"), (9, "/journal/first-flush")),
    *((3, "/about"), (3, "/delivery"), (1, "/contact")),
)
_LETTER = "?utm_source=newsletter&utm_medium=email&utm_campaign=demo-newsletter"
_SOURCES = (
    *((30, ("https://www.google.com/", "")), (4, ("https://www.bing.com/", ""))),
    *((6, ("https://duckduckgo.com/", "")), (3, ("https://www.ecosia.org/", "")), (25, ("", ""))),
    *((5, ("https://www.reddit.com/", "")), (3, ("https://www.facebook.com/", ""))),
    *((3, ("https://www.instagram.com/", "?utm_source=instagram&utm_medium=social&utm_campaign=tea-week")),),
    *((7, ("https://www.google.com/", "?utm_source=google&utm_medium=cpc&utm_campaign=tea-week")),),
    *(
        (4, ("https://steep.example/reviews", "")),
        (3, ("", _LETTER)),
        (2, ("https://mail.google.com/", _LETTER)),
    ),
)
"""Referrer, and what the link to the site has in its query."""
_LETTER_SHARE = (0.34, 0.16, 0.08)
"""Of the visits of the first days, those that the newsletter brings."""
_WEEK = (1.1, 1.15, 1.1, 1.05, 0.95, 0.6, 0.7)
_HOURS = (2, 1, 1, 1, 1, 3, 7, 12, 15, 16, 15, 14, 16, 15, 14, 14, 14, 13, 14, 17, 18, 15, 9, 5)
_BOUNCES, _PLAIN, _RETURNS, _SILENT = 0.46, 0.04, 0.32, 0.08
"""Shares: of visits, those of one page, and those without script; of visitors, those who were there before;
of last pages, those that are closed without a report."""
_APART = 3 * 3600
"""Seconds between two visits of one visitor at least."""


class Step(NamedTuple):
    """A page is viewed, or reports how long it was. at: ms. visitor: by number, -1: a crawler. visit: of this
    visitor, from 1. view: by number, -1: without script. spent: ms, -1: a view. is_new: the first of all."""

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
    who: Person
    visits: int
    last: int


def steps(start: int, seed: int) -> list[Step]:
    """All of the fortnight, by time. start: of the first day, seconds; a midnight of UTC."""
    rng = Random(f"site {seed}")  # noqa: S311 - no secret
    known: list[_Visitor] = []
    found: list[Step] = []
    views = 0
    for day, number in enumerate(_numbers(rng, start)):
        for at in sorted(start + day * DAY + _time(rng) for _ in range(number)):
            visitor = _visitor(rng, known, at)
            known[visitor] = known[visitor]._replace(visits=known[visitor].visits + 1)
            made = list(_visit(rng, at, visitor, known[visitor], _source(rng, day), views))
            known[visitor] = known[visitor]._replace(last=made[-1].at // 1000)
            views += len(made)
            found += made
        found += _crawled(rng, start + day * DAY)
    return sorted(found)


def _numbers(rng: Random, start: int) -> list[int]:
    """How many visits each day has."""
    first = datetime.fromtimestamp(start, UTC).weekday()
    weights = [_WEEK[(first + day) % 7] * rng.uniform(0.85, 1.15) for day in range(DAYS)]
    return [round(VISITS * weight / sum(weights)) for weight in weights]


def _time(rng: Random) -> int:
    return cast.weighted(rng, list(zip(_HOURS, range(24), strict=True))) * 3600 + rng.randrange(3600)


def _source(rng: Random, day: int) -> tuple[str, str]:
    if day < len(_LETTER_SHARE) and rng.random() < _LETTER_SHARE[day]:
        return "", _LETTER
    return cast.weighted(rng, _SOURCES)


def _visitor(rng: Random, known: list[_Visitor], at: int) -> int:
    """Somebody who was there before, or somebody new: address and browser together are nobody else's."""
    before = [i for i, one in enumerate(known) if one.last < at - _APART]
    if before and rng.random() < _RETURNS:
        return rng.choice(before)
    taken = {one.who[1:3] for one in known}
    who = cast.person(rng, cast.BROWSERS)
    while who[1:3] in taken:
        who = cast.person(rng, cast.BROWSERS)
    known.append(_Visitor(who, 0, 0))
    return len(known) - 1


def _visit(
    rng: Random, at: int, visitor: int, seen: _Visitor, source: tuple[str, str], views: int
) -> Iterator[Step]:
    """Its views and reports. at: s. views: those there were before."""
    referrer, query = source
    ms = at * 1000 + rng.randrange(1000)
    pages = 1 if rng.random() < _BOUNCES else min(9, 2 + int(rng.expovariate(0.7)))
    is_plain = rng.random() < _PLAIN
    page = cast.weighted(rng, _PAGES)
    for number in range(pages):
        view = -1 if is_plain else views + number
        url = HOST + page + (query if number == 0 else "")
        is_new = seen.visits == 1 and number == 0
        yield Step(ms, visitor, seen.visits, view, url, referrer, seen.who, is_new=is_new)
        stayed = int(min(max(3.0, rng.lognormvariate(log(38), 1.0)), 900) * 1000)
        spent = int(stayed * rng.uniform(0.7, 1.0))
        is_told = number < pages - 1 or rng.random() >= _SILENT
        if not is_plain and is_told:
            yield Step(ms + stayed, visitor, seen.visits, view, url, "", seen.who, spent=spent)
        ms += stayed + 200
        referrer = url
        page = rng.choice([name for _, name in _PAGES if name != page])


def _crawled(rng: Random, start: int) -> Iterator[Step]:
    """A search engine looks at some pages on a day."""
    for _ in range(CRAWLED):
        who = Person("US", cast.address(rng, cast.GOOGLEBOT_AT), cast.GOOGLEBOT, "")
        at = (start + rng.randrange(DAY)) * 1000
        yield Step(at, -1, 0, -1, HOST + cast.weighted(rng, _PAGES), "", who)
