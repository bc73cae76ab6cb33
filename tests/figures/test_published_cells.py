"""Published cells of weeks and months: no group of few visits follows from them and the shown days."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, combinations
from typing import TypeVar

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pixel_server.counters.labels import OTHER
from pixel_server.figures import disclosure, shared_breakdowns
from pixel_server.figures.disclosure import Cell, Cells
from pixel_server.figures.published_cells import Day, publish
from pixel_server.figures.shared_breakdowns import Breakdown, Month, Week
from tests.figures.linear_span import follows, span
from tests.properties import examples

T = TypeVar("T")

LEAST = 5
NAMES = ("a", "b", "c", OTHER, None)
"""Names of cells. None is the name of visits that are in no cell."""
Counts = dict[str | None, int]
"""Visits of a day by name."""


def one_week(*days: Counts, adds_uncounted: bool = True) -> dict[str, tuple[int, ...]]:
    """Returns the visits of each published name, by day."""
    table = [Day({name: (n, n) for name, n in day.items() if name}, (total(day),) * 2) for day in days]
    shown = publish(table, LEAST, adds_uncounted).shown
    return {name: tuple(visits for _, visits in column) for name, column in shown.items()}


def total(day: Counts) -> int:
    return sum(day.values())


@pytest.mark.parametrize(
    ("days", "shown"),
    [
        ([{"/": 3, "/new": 5}, {"/": 5}], {OTHER: (8, 5)}),
        ([{"/": 5, "/new": 5}, {"/": 5}], {"/": (5, 5), "/new": (5, 0)}),
        ([{"/": 9, "/new": 5, "x": 1}, {"/": 9}], {"/": (9, 9), OTHER: (6, 0)}),
        ([{"/": 2, "b": 2, "/new": 9}, {"/": 9}, {"b": 9}], {OTHER: (13, 9, 9)}),
        ([{"/": 30, "/new": 5, "b": 1}, {"/": 30, "b": 5}], {"/": (30, 30), "/new": (5, 0), "b": (1, 5)}),
        ([{"a": 6, None: 2}, {None: 10}], {}),
        ([{"a": 6, None: 5}, {None: 10}], {"a": (6, 0)}),
    ],
)
def test_published_cells_and_days_never_differ_by_few_visits(
    days: list[Counts], shown: dict[str, tuple[int, ...]]
) -> None:
    assert one_week(*days) == shown


@pytest.mark.parametrize(
    ("days", "shown"),
    [
        ([{"a": 9, "b": 4, None: 1}], {"a": (9,)}),
        ([{"a": 9, "b": 3, None: 1}], {}),
        ([{"a": 9, "b": 6, "c": 3, None: 1}], {"a": (9,)}),
        ([{"a": 9, "b": 3, "c": 2, None: 5}], {"a": (9,), OTHER: (5,)}),
        ([{"a": 9, "b": 3, "c": 2}], {"a": (9,)}),
    ],
)
def test_published_cells_without_uncounted_visits_count_none_of_them(
    days: list[Counts], shown: dict[str, tuple[int, ...]]
) -> None:
    assert one_week(*days, adds_uncounted=False) == shown


@pytest.mark.parametrize(
    ("day", "withheld"),
    [
        ({"a": 9, "b": 6}, 0),
        ({"a": 9, "b": 3, "c": 2}, 5),
        ({"a": 9, "b": 3, "c": 2, None: 4}, 9),
        ({"a": 9, "b": 3, "c": 2, None: 5}, 5),
        ({"a": 9, "b": 3, None: 50}, 4),
        ({"a": 9, None: 50}, 4),
        ({"a": 9, "b": 3, None: 1}, 13),
        ({"a": 2, "b": 2}, 0),
    ],
)
def test_published_cells_of_opens_tell_the_most_that_is_withheld(day: Counts, withheld: int) -> None:
    """A reader cannot tell 0 opens by machines from a few, nor 0 withheld opens by people from a few."""
    cells = {name: (n, n) for name, n in day.items() if name}
    found = publish([Day(cells, (total(day),) * 2)], LEAST, adds_uncounted=False)
    assert found.withheld == (withheld, withheld)


def test_published_cells_of_a_busy_week_are_all_shown() -> None:
    week: list[Counts] = [{"a": 40, "b": 12, "c": number % 2} for number in range(7)]
    week[3]["new"] = 9
    week[2]["c"] = 6
    assert one_week(*week).keys() == {"a", "b", "c", "new"}


Places = dict[tuple[int, str | None], int]
"""The bit of each visit's day and name. A name without a visit on a day has no bit: readers may know it."""


def groups(weeks: list[list[Counts]], places: Places) -> Iterator[int]:
    """Yields the bits of each group of few visits: any names on any days that are shown, or one by one."""
    days = [day for week in weeks for day in week]
    for numbers in _some(range(len(days))):
        for names in _some(NAMES):
            cells = [(number, name) for number in numbers for name in names if days[number].get(name)]
            if 0 < sum(days[number][name] for number, name in cells) < LEAST:
                yield sum(1 << places[cell] for cell in cells)


def _some(of: Sequence[T]) -> Iterator[tuple[T, ...]]:
    """Yields each choice of one or more of these."""
    return chain.from_iterable(combinations(of, size) for size in range(1, len(of) + 1))


def told(weeks: list[list[Counts]], places: Places, adds_uncounted: bool) -> set[int]:
    """Returns the bits of each figure in the answers: the days, each week alone, and the whole month."""
    first, month, cells, sums = 0, [], {}, set()
    for days in weeks:
        names = [f"202603{number + 1:02}" for number in range(first, first + len(days))]
        wholes: dict[str, Cell] = {}
        for number, (day, name) in enumerate(zip(days, names, strict=True), first):
            bits = {label: 1 << places[number, label] for label, n in day.items() if n}
            cells[name] = {label: (bits[label], day[label]) for label in bits if label is not None}
            wholes[name] = sum(bits.values()), total(day)
            if total(day) >= LEAST:
                sums.add(wholes[name][0])
        first += len(days)
        if 0 < sum(total(day) for day in days if total(day) < LEAST) < LEAST:
            wholes = {name: whole for name, whole in wholes.items() if whole[1] >= LEAST}
        month.append(Week(names[0], names[-1], wholes))
    for asked in (*(Month((week,), False) for week in month), Month(tuple(month), True)):
        found = shared_breakdowns.month_breakdown(asked, cells, LEAST, adds_uncounted)
        assert all(visits >= LEAST for _, visits in found.cells.values())
        assert_is_within_limits(asked, cells, found)
        sums |= {views for views, _ in found.cells.values()}
        if adds_uncounted:  # else it is a sum of other figures, or LEAST - 1
            sums.add(found.withheld[0])
        sums.add(disclosure.add_cells(week.whole for week in asked.weeks)[0])
    return sums


def assert_is_within_limits(asked: Month, cells: Mapping[str, Cells], found: Breakdown) -> None:
    """Checks that each name has at least what is shown, and at most what is withheld besides."""
    of_days = disclosure.add_up(cells[day] for day in asked.days())
    for name in of_days.keys() - {OTHER}:
        visits, shown = of_days[name][1], found.cells.get(name, (0, 0))[1]
        assert shown <= visits <= shown + found.withheld[1]


numbers = st.sampled_from([0, 0, 0, 1, 2, 3, LEAST, 2 * LEAST])
a_day = st.fixed_dictionaries(dict.fromkeys(NAMES, numbers))
a_month = st.lists(st.lists(a_day, min_size=1, max_size=3), min_size=1, max_size=2)


@settings(max_examples=examples(100))
@example(weeks=[[{"a": 1, "b": 1, OTHER: 6}, {"a": 2, "b": 9}], [{"a": 2, OTHER: 9}]], adds_uncounted=True)
@given(weeks=a_month, adds_uncounted=st.booleans())
def test_published_cells_of_a_month_reveal_no_few_visits(
    weeks: list[list[Counts]], adds_uncounted: bool
) -> None:
    days = [day for week in weeks for day in week]
    cells = [(number, name) for number, day in enumerate(days) for name, n in day.items() if n]
    places = {cell: place for place, cell in enumerate(cells)}
    rows = span(told(weeks, places, adds_uncounted))
    assert not [bits for bits in groups(weeks, places) if follows(bits, rows)]
