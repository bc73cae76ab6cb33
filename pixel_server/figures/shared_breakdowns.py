"""Breakdowns that a key of the scope `read:CAMPAIGN` may read: by closed week, and by closed month. Pure.

Small cells go into `(other)` once a week and not once a day: a device with two opens a day would be withheld
each day, and the shares of the other devices would be wrong. Whatever its range, every answer is a sum of the
same units, so that the difference of two answers reveals nothing small:

- A week that lies in two months is two units, so that months are sums of units too. A unit counts in a range
  only if all its days lie in the range, are kept, and are published.
- A unit's cells are sums over all its days. The days with fewer than `min_cell` visits are left out if these
  days have fewer than `min_cell` visits together.
- In a whole month, a name is also shown with its small cells if these have `min_cell` visits together, so
  that they come from two units or more. On the days on which the name has visits in a unit, `(other)` must
  keep other visits: some on each day, and at least `min_cell` together. So in each unit the small cell is
  known only together with another unknown cell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any, NamedTuple

from pixel_server.campaigns.campaign import Campaign
from pixel_server.counters.labels import OTHER
from pixel_server.figures import disclosure, published_cells
from pixel_server.figures.disclosure import Cell, Cells
from pixel_server.figures.published_cells import Column, Day, Published
from pixel_server.figures.ranges import Range

_ONE_DAY = timedelta(days=1)


class Week(NamedTuple):
    """A closed week, or the part of a week that lies in one month.

    first, last: its first and last day (`"20261124"`). days: the days whose cells are counted, each with the
    sum of all its cells.
    """

    first: str
    last: str
    days: Mapping[str, Cell]

    @property
    def whole(self) -> Cell:
        """The sum of all cells of the counted days."""
        return disclosure.add_cells(self.days.values())


class Breakdown(NamedTuple):
    """Cells of one dimension, with `(other)`.

    withheld: the most that can belong to names without being in their cells, so each cell of a name is the
    least that the name has. It holds `(other)`, and what is in no cell.
    """

    cells: dict[str, Cell]
    withheld: Cell


def add_up(breakdowns: Sequence[Breakdown]) -> Breakdown:
    """Returns the sums of breakdowns of successive ranges."""
    cells = disclosure.add_up(each.cells for each in breakdowns)
    return Breakdown(cells, disclosure.add_cells(each.withheld for each in breakdowns))


class Month(NamedTuple):
    """Weeks of one month. is_whole: whether `weeks` covers the whole month."""

    weeks: tuple[Week, ...]
    is_whole: bool

    def days(self) -> list[str]:
        """Returns the days whose cells are counted."""
        return [day for week in self.weeks for day in week.days]


def closed_months(
    series: Sequence[Mapping[str, Any]], campaign: Campaign, time_range: Range, until: float
) -> list[Month]:
    """Returns the closed weeks of a range of days, by month. Months without a closed week are left out.

    series: from an answer of `stats.read`. until: time (s) before which every hit is counted.
    """
    ends = [*time_range.starts()[1:], time_range.end]
    by_month: dict[str, list[Week]] = {}
    days: list[tuple[date, Cell | None]] = []
    for item, end in zip(series, ends, strict=True):
        day = date.fromisoformat(item["start"][:10])
        if day.weekday() == 0 or day.day == 1:
            days = []
        is_published = end + disclosure.PUBLISH_DELAY_SECONDS <= until
        days.append((day, disclosure.whole_cell(item, campaign.kind) if is_published else None))
        if day.weekday() == 6 or (day + _ONE_DAY).day == 1:
            if week := _week(days, campaign.min_cell):
                by_month.setdefault(week.first[:6], []).append(week)
            days = []
    return [Month(tuple(weeks), _are_whole_month(weeks)) for weeks in by_month.values()]


def _week(days: Sequence[tuple[date, Cell | None]], min_cell: int) -> Week | None:
    """Returns the week of these days, or None if a day is not known, or if the first days are missing."""
    known = [(day, cell) for day, cell in days if cell is not None]
    if len(known) < len(days) or not (days[0][0].weekday() == 0 or days[0][0].day == 1):
        return None
    small = [(day, cell) for day, cell in known if cell[1] < min_cell]
    if 0 < sum(cell[1] for _, cell in small) < min_cell:
        known = [(day, cell) for day, cell in known if cell[1] >= min_cell]
    return Week(_name(days[0][0]), _name(days[-1][0]), {_name(day): cell for day, cell in known})


def _name(day: date) -> str:
    return day.strftime("%Y%m%d")


def _are_whole_month(weeks: Sequence[Week]) -> bool:
    """Returns whether these successive weeks begin and end with their month."""
    last = date.fromisoformat(weeks[-1].last)
    return weeks[0].first.endswith("01") and (last + _ONE_DAY).day == 1


def breakdowns(
    months: Sequence[Month],
    cells_of_day: Mapping[str, Mapping[str, Cells]],
    min_cell: int,
    kind_of: Callable[[str], str],
) -> dict[str, Breakdown]:
    """Returns the breakdown of these months by each dimension.

    cells_of_day: `{"20261124": {dimension: cells}}`, with each day of the weeks; `referrer_kind` is computed
    from `referrer`. kind_of: returns the kind of a host.
    """
    parts: dict[str, list[Breakdown]] = {}
    for month in months:
        for dimension in {name: None for day in month.days() for name in cells_of_day[day]}:
            if dimension not in disclosure.DIMENSIONS["web"] or dimension == "referrer_kind":
                continue
            of_dimension = {day: cells_of_day[day].get(dimension, {}) for day in month.days()}
            of_month = month_breakdown(month, of_dimension, min_cell, adds_uncounted=True)
            parts.setdefault(dimension, []).append(of_month)
            if dimension == "referrer":
                kinds = Breakdown(disclosure.sum_by_kind(of_month.cells, kind_of), of_month.withheld)
                parts.setdefault("referrer_kind", []).append(kinds)
    return {dimension: add_up(of_months) for dimension, of_months in parts.items()}


def month_breakdown(
    month: Month, cells_of_day: Mapping[str, Cells], min_cell: int, adds_uncounted: bool
) -> Breakdown:
    """Returns the breakdown of the weeks of a month by one dimension.

    cells_of_day: by day, `"20261124"`. adds_uncounted: see `published_cells.publish`.
    """
    published = [
        published_cells.publish(_shown_days(week, cells_of_day, min_cell), min_cell, adds_uncounted)
        for week in month.weeks
    ]
    sums = disclosure.add_up(week.cells() for week in published)
    withheld = disclosure.add_cells(week.withheld for week in published)
    if month.is_whole:
        for name, cell in _regained(published, min_cell).items():
            sums[name] = disclosure.add_cells((sums.get(name, (0, 0)), cell))
            sums[OTHER] = disclosure.subtract_cell(sums[OTHER], cell)
            withheld = disclosure.subtract_cell(withheld, cell)
    return Breakdown(sums, withheld)


def _shown_days(week: Week, cells_of_day: Mapping[str, Cells], min_cell: int) -> list[Day]:
    """Returns the days of a week that are shown, then the withheld days as one."""
    days = {day: Day(cells_of_day[day], whole) for day, whole in week.days.items()}
    withheld = [day for day in days.values() if day.whole[1] < min_cell]
    shown = [day for day in days.values() if day.whole[1] >= min_cell]
    if withheld:
        cells = disclosure.add_up(day.cells for day in withheld)
        shown.append(Day(cells, disclosure.add_cells(day.whole for day in withheld)))
    return shown


def _regained(weeks: Sequence[Published], min_cell: int) -> dict[str, Cell]:
    """Returns the sums of small cells that may be shown for a month; see the top of this file."""
    small: dict[str, dict[int, Column]] = {}
    for number, week in enumerate(weeks):
        for name, column in week.small.items():
            small.setdefault(name, {})[number] = column
    sums = {
        name: disclosure.add_cells(cell for column in columns.values() for cell in column)
        for name, columns in small.items()
    }
    left = {number: week.shown[OTHER] for number, week in enumerate(weeks) if week.small}
    regained: dict[str, Cell] = {}
    for name in sorted(sums, key=lambda name: (-sums[name][1], name)):
        columns = small[name]
        still_left = {
            number: published_cells.subtract(left[number], column) for number, column in columns.items()
        }
        is_hidden = all(_hides(still_left[number], column, min_cell) for number, column in columns.items())
        if sums[name][1] >= min_cell and is_hidden:
            regained[name] = sums[name]
            left |= still_left
    return regained


def _hides(left: Column, small: Column, min_cell: int) -> bool:
    """Returns whether what is left in `(other)` hides a small column that is not in it any more."""
    cells = [left[day] for day in published_cells.days_of(small)]
    return all(any(cell) for cell in cells) and sum(cell[1] for cell in cells) >= min_cell


def covered(months: Sequence[Month]) -> dict[str, str] | None:
    """Returns the days that are covered, `{"from": "2026-11-02", "to": "2026-11-30"}`; None without weeks."""
    weeks = [week for month in months for week in month.weeks]
    if not weeks:
        return None
    end = date.fromisoformat(weeks[-1].last) + _ONE_DAY
    return {"from": date.fromisoformat(weeks[0].first).isoformat(), "to": end.isoformat()}


def whole(months: Sequence[Month]) -> int:
    """Returns the number of visits (mail: opens) in the shown weeks."""
    return sum(week.whole[1] for month in months for week in month.weeks)
