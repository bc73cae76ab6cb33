"""Disclosure control: the figures that a key of the scope `read:CAMPAIGN` may read. Pure.

A day of the campaign's zone is published an hour after its end, if all its hits are counted by then, and if
it has at least `min_cell` visits (mail: opens). Every total is a sum of published days. So the difference of
two answers is a sum of published days too, and a withheld figure cannot be computed from answers. Breakdowns
and the open rate are sums of other units (see `shared_breakdowns`, `shared_open_rate`), chosen so that these
sums and the days shown never differ by a small number. Two things are not prevented: late hits, from a spool,
change a published day; and a client that sends hits can make a cell as large as it likes. The rules for cells
follow from this. A cell has the counts of one name.

- Cells below `min_cell` go into `(other)`. So do visits of the week that are in no cell, if they are few.
  In mails, `(other)` is withheld instead: opens by machines are in no cell, and the cells count people.
- The days and the cells of a week never differ by a small number; see `published_cells`.
- If a figure is part of another figure, neither the part nor the rest of the other figure may be small.
- No dimension may reveal what another withholds. The kind of a referrer follows from its host, so kinds are
  summed from published hosts. Many systems and browsers imply a device, and a page nearly implies an entry
  page. In mails a client implies a device, and a missing country implies a proxy, which is a client. Of such
  dimensions only one is shown.
- This file names every figure that is shown. A new figure is not shared until it is added here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from pixel_server.campaigns.campaign import Campaign
from pixel_server.counters.labels import OTHER
from pixel_server.figures import ranges
from pixel_server.figures.ranges import Range
from pixel_server.problems import Problem
from pixel_server.times import iso

PUBLISH_DELAY_SECONDS = 3600
"""Seconds from the end of a day until it is published. By then the hits of web processes are stored."""
_AS_OF_SECONDS = 60
"""Seconds to which `as_of` is rounded down, so that it does not tell when single hits were counted."""
DEFAULT_DAYS = 365
"""Number of days of totals if the query has no range."""
DIMENSIONS = {
    "email": ("client",),
    "web": ("page", "referrer", "referrer_kind", "utm_source", "country", "device"),
}
"""Shared dimensions of breakdowns, by kind of campaign."""
FIELDS = ("id", "name", "kind", "time_zone")
"""Shared fields of a campaign."""
_FIGURES = {"email": ("opens", "unique_opens"), "web": ("views", "visits", "unique_visitors")}
"""Shared figures, by kind of campaign."""
_WHOLE = {"email": "opens", "web": "visits"}
"""Name of the figure that counts all of a day, by kind of campaign."""
_PARTS = ("unique_opens", "unique_visitors")
"""Names of figures that count a part of what the figure in _WHOLE counts."""

Cell = tuple[int, int]
"""(views, visits) of a name; for mail, (opens, opens)."""
Cells = Mapping[str, Cell]


def parse(query: Mapping[str, str], campaign: Campaign, oldest: str, now: float) -> Range:
    """Returns the range of a query: whole days up to yesterday, by default the last DEFAULT_DAYS.

    oldest: the first day kept, such as `"20261124"`. Raises Problem 403 for another interval or zone, and 422
    as `ranges.parse` does.
    """
    is_by_day = query.get("interval", "day") == "day" and "since_sending" not in query
    if not is_by_day or query.get("tz", campaign.time_zone) != campaign.time_zone:
        raise Problem(403, f"a shared key reads whole days in {campaign.time_zone} only")
    today = datetime.fromtimestamp(now, campaign.zone).date()
    ends = {name: query[name] for name in ("from", "to") if name in query}
    if not ends:
        first = max(oldest, (today - timedelta(days=DEFAULT_DAYS)).strftime("%Y%m%d"))
        ends["from"] = min(first, (today - timedelta(days=1)).strftime("%Y%m%d"))
    return ranges.parse({"to": today.isoformat(), **ends}, campaign.time_zone, now)


def check(dimensions: Collection[str], shown: Collection[str]) -> None:
    """Raises Problem 403 if a dimension is not among the shown ones."""
    if not set(dimensions) <= set(shown):
        raise Problem(403, f"a shared key reads breakdowns by {', '.join(shown)} only")


def figures(answer: Mapping[str, Any], campaign: Campaign, time_range: Range, until: float) -> dict[str, Any]:
    """Returns the shared part of an answer of `stats.read` for a range of days.

    until: time (s) before which every hit is counted. Days that are published later are withheld.
    """
    ends = [*time_range.starts()[1:], time_range.end]
    withheld = dict.fromkeys(_FIGURES[campaign.kind])
    series = [
        {
            "start": item["start"],
            **(shown_day(item, campaign) if end + PUBLISH_DELAY_SECONDS <= until else withheld),
        }
        for item, end in zip(answer["series"], ends, strict=True)
    ]
    totals = {name: _total([item[name] for item in series]) for name in _FIGURES[campaign.kind]}
    if campaign.kind == "web" and campaign.identity != "cookieless":
        totals["unique_visitors"] = None  # the sum would count a visitor of two days twice
    return {
        "campaign": campaign.id,
        "from": ranges.show(time_range.start, time_range.zone),
        "to": ranges.show(time_range.end, time_range.zone),
        "interval": time_range.interval,
        "time_zone": time_range.zone.key,
        "as_of": iso(int(until) // _AS_OF_SECONDS * _AS_OF_SECONDS),
        **({"sent_at": campaign.sent_at and iso(campaign.sent_at)} if campaign.kind == "email" else {}),
        "min_cell": campaign.min_cell,
        "totals": totals,
        "series": series,
        "estimates": {name: error for name, error in answer["estimates"].items() if name in totals},
    }


def shown_day(item: Mapping[str, Any], campaign: Campaign) -> dict[str, int | None]:
    """Returns the figures of a published day. All of them are None if the day is withheld or not known."""
    names = _FIGURES[campaign.kind]
    whole: int | None = item[_WHOLE[campaign.kind]]
    if whole is None or whole < campaign.min_cell:
        return dict.fromkeys(names)
    figures: dict[str, int | None] = {name: item[name] for name in names}
    for name in _PARTS:
        part = figures.get(name)
        if part is not None and (part < campaign.min_cell or is_small(whole - part, campaign.min_cell)):
            figures[name] = None
    return figures


def is_small(rest: int, min_cell: int) -> bool:
    """Returns whether a rest is small but not 0. A rest may be negative if a part is an estimate."""
    return rest != 0 and abs(rest) < min_cell


def _total(days: Sequence[int | None]) -> int | None:
    known = [figure for figure in days if figure is not None]
    return sum(known) if known else None


def whole_cell(item: Mapping[str, Any], kind: str) -> Cell | None:
    """Returns the sum of all cells of a day, or None if it is not known. item: an item of stats' `series`."""
    whole: int | None = item[_WHOLE[kind]]
    first: int | None = item["views"] if kind == "web" else whole
    return None if first is None or whole is None else (first, whole)


def sum_by_kind(hosts: Cells, kind_of: Callable[[str], str]) -> dict[str, Cell]:
    """Returns the cells of published hosts summed by kind. `(other)` stays a name of its own."""
    return add_up({name if name == OTHER else kind_of(name): cell} for name, cell in hosts.items())


def add_up(days: Iterable[Cells]) -> dict[str, Cell]:
    """Returns the sums of the cells of published days."""
    sums: dict[str, Cell] = {}
    for cells in days:
        for name, cell in cells.items():
            sums[name] = add_cells((sums.get(name, (0, 0)), cell))
    return sums


def ranked(cells: Cells, max_names: int) -> list[tuple[str, Cell]]:
    """Returns the `max_names` cells with the most visits, in falling order, then `(other)` with the rest."""
    order = sorted((name for name in cells if name != OTHER), key=lambda name: (-cells[name][1], name))
    rest = add_cells([cells.get(OTHER, (0, 0)), *(cells[name] for name in order[max_names:])])
    first = [(name, cells[name]) for name in order[:max_names]]
    return [*first, (OTHER, rest)] if any(rest) else first


def add_cells(cells: Iterable[Cell]) -> Cell:
    """Returns the sum of cells."""
    views = visits = 0
    for cell in cells:
        views, visits = views + cell[0], visits + cell[1]
    return views, visits


def subtract_cell(cell: Cell, part: Cell) -> Cell:
    """Returns a cell less a part of it."""
    return cell[0] - part[0], cell[1] - part[1]
