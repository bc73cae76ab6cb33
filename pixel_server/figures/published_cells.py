"""Cells of one dimension and week that a shared key may read. Pure.

Readers also see the visits of each day, and may know on which days a name has no visits: a page may be new on
Saturday. So the cells of a week must not reveal a part of a day. The rule: take any days of the week, and
subtract from their visits each shown cell whose visits all lie on these days. The rest is 0 or at least
`min_cell` visits. Every group of visits that is a sum or a difference of shown figures is such a rest, or has
such a rest as its part (a table of days and names is a flow in a network), so no such group is small.

Example, with `min_cell` 5: on Saturday `/new` has 5 visits and `/` has 3; on Sunday `/` has 5. The cells of
the week are `/new` 5 and `/` 8, but Saturday less `/new` is 3. So only `(other)`, 13 visits, is shown.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from pixel_server.counters.labels import OTHER
from pixel_server.figures.disclosure import Cell, Cells, add_cells, subtract_cell

Column = tuple[Cell, ...]
"""The cells of a name, one for each day."""
Table = Mapping[str, Column]
"""The columns of a dimension, by name."""


class Day(NamedTuple):
    """A day whose figures are shown, or all the other days of the week together.

    cells: the cells of one dimension. whole: the cell of the whole day.
    """

    cells: Cells
    whole: Cell


class Published(NamedTuple):
    """shown: the columns that are shown, with `(other)`. small: columns in `(other)` with few visits.

    withheld: the most that can belong to names without being in their shown columns; see `_withheld`.
    """

    shown: Table
    small: Table
    withheld: Cell

    def cells(self) -> dict[str, Cell]:
        """Returns the sum of each shown column."""
        return {name: add_cells(column) for name, column in self.shown.items()}


def publish(days: Sequence[Day], min_cell: int, adds_uncounted: bool) -> Published:
    """Returns the columns of one dimension and week that may be shown. days: the days of the week.

    adds_uncounted: whether few visits that are in no cell go into `(other)`. If not, `(other)` is withheld
    together with them, also if there are none. In a mail campaign, opens by machines are in no cell: the
    cells count people.
    """
    if add_cells(day.whole for day in days)[1] < min_cell:
        return Published({}, {}, (0, 0))
    names = {name: None for day in days for name in day.cells}
    columns = {name: tuple(day.cells.get(name, (0, 0)) for day in days) for name in names}
    table = {name: column for name, column in columns.items() if days_of(column)}
    small = {name: column for name, column in table.items() if visits(column) < min_cell and name != OTHER}
    shown = {name: column for name, column in table.items() if name not in small and name != OTHER}
    none: Column = ((0, 0),) * len(days)
    other = add_columns([none, *small.values(), table.get(OTHER, none)])
    uncounted = tuple(_uncounted(day) for day in days)
    if adds_uncounted and visits(uncounted) < min_cell:
        other, uncounted = add_columns([other, uncounted]), none
    while True:
        is_other_shown = visits(other) >= min_cell and (adds_uncounted or visits(uncounted) >= min_cell)
        hidden = [other, uncounted] if is_other_shown else [add_columns([other, uncounted])]
        revealing = _revealing_days([*shown.values(), *hidden], min_cell)
        if revealing is None:
            break
        if not shown:
            return Published({}, {}, add_cells([*other, *uncounted]))
        inside = [name for name, column in shown.items() if days_of(column) <= revealing]
        smallest = min(inside or shown, key=lambda name: (visits(shown[name]), name))
        other = add_columns([other, shown.pop(smallest)])
    withheld = add_cells([*other, *uncounted]) if adds_uncounted else _withheld(other, uncounted, min_cell)
    if is_other_shown:
        return Published({**shown, OTHER: other}, small, withheld)
    return Published(shown, {}, withheld)


def _withheld(other: Column, uncounted: Column, min_cell: int) -> Cell:
    """Returns the largest number of opens by people that a reader must think is withheld in a week.

    If few opens are by machines, perhaps none, this is all that is not shown, because the reader sees only
    the sum of both. Otherwise it is `other`, or `min_cell` - 1 if `other` is smaller, perhaps 0.
    """
    if visits(uncounted) < min_cell:
        return add_cells([*other, *uncounted])
    return add_cells(other) if visits(other) >= min_cell else (min_cell - 1, min_cell - 1)


def _uncounted(day: Day) -> Cell:
    """Returns the views and visits of a day that are in no cell."""
    views, visits = add_cells(day.cells.values())
    return max(0, day.whole[0] - views), max(0, day.whole[1] - visits)


def _revealing_days(columns: Collection[Column], min_cell: int) -> frozenset[int] | None:
    """Returns the numbers of days that have a small rest (see the top of this file), or None if no day has.

    columns: all visits of the week. What is in no shown cell is a column too: the whole less the shown cells.
    If a column itself is small, all days are returned.
    """
    by_days: dict[frozenset[int], Column] = {}
    for column in columns:
        days = days_of(column)
        if days and visits(column) < min_cell:
            return frozenset(range(len(column)))
        by_days[days] = add_columns([by_days[days], column]) if days in by_days else column
    for chosen in _sets_of_days(by_days, min_cell):
        partly = [column for days, column in by_days.items() if not days <= chosen]
        rest = add_cells(column[day] for column in partly for day in chosen)
        if any(rest) and rest[1] < min_cell:
            return chosen
    return None


def _sets_of_days(by_days: Mapping[frozenset[int], Column], min_cell: int) -> Iterator[frozenset[int]]:
    """Yields each set of days whose rest may be small.

    A column with visits on each day is a part of the rest of any fewer days. So a day is left out if it has
    enough visits in this column.
    """
    every: frozenset[int] = frozenset().union(*by_days)
    lasting = by_days.get(every)
    candidates = [day for day in every if lasting is None or lasting[day][1] < min_cell]
    for size in range(1, min(len(candidates), len(every) - 1) + 1):
        yield from map(frozenset, combinations(candidates, size))


def days_of(column: Column) -> frozenset[int]:
    """Returns the numbers of the days on which a column is not empty."""
    return frozenset(day for day, cell in enumerate(column) if any(cell))


def visits(column: Column) -> int:
    """Returns the visits of a column on all days."""
    return sum(cell[1] for cell in column)


def add_columns(columns: Iterable[Column]) -> Column:
    """Returns the sum of columns, day by day."""
    return tuple(add_cells(cells) for cells in zip(*columns, strict=True))


def subtract(column: Column, part: Column) -> Column:
    """Returns a column less a part of it, day by day."""
    return tuple(map(subtract_cell, column, part))
