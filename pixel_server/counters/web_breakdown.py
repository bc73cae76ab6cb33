"""Views and visits of a web campaign by page, country, referrer and other dimensions, packed by local day.

Each campaign, shard and local day has one Redis hash. A field is a dimension. A value is msgpack of
[format, {name: [views, visits]}]: `[1, {"/about": [5, 2]}]`.

In each dimension the counts add up to all views and all visits of the day. A view counts under its own page,
country, browser, system, device and language. It also counts under the entry page, exit page, referrer and
UTM fields of its visit. A visit counts under the names of its first view, and under its own exit page.

Strangers choose the names, so a dimension holds at most MAX_NAMES. If there are more, the names with the
fewest views are merged into `(other)`. When such a name comes back, it starts again from 0, so its count
lacks its earlier views.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from pixel_server.counters.labels import OTHER, UNKNOWN
from pixel_server.counters.stored_format import refuse_newer

FORMAT = 1
MAX_NAMES, KEPT_NAMES = 400, 300
"""Largest number of names of a dimension, day and shard, and the number that is kept when there are more."""
NONE = "(none)"
"""Name of a page, referrer or UTM field that a view or visit does not have."""

CountsByName = dict[str, list[int]]
"""[views, visits] by name. Append only: stored counts are read by these two positions."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, CountsByName]).decode


class VisitorTraits(NamedTuple):
    """The traits of a visitor. Each field is a dimension, and holds a name to count, such as "Firefox"."""

    country: str = UNKNOWN
    browser: str = UNKNOWN
    system: str = UNKNOWN
    device: str = UNKNOWN
    language: str = UNKNOWN


class Source(NamedTuple):
    """The source of a visit. Each field is a dimension, and holds the name under which the visit counts.

    referrer: a host, or NONE if the referrer was missing or on the same site. Append only: stored visits hold
    these fields by position.
    """

    referrer: str = NONE
    utm_source: str = NONE
    utm_medium: str = NONE
    utm_campaign: str = NONE
    utm_term: str = NONE
    utm_content: str = NONE

    @property
    def utm_campaign_fields(self) -> tuple[str, str, str]:
        """The UTM fields that name the advertising campaign. Another campaign begins a new visit."""
        return self.utm_source, self.utm_medium, self.utm_campaign


Entry = tuple[str, Source]
"""An entry page and its source."""
VISITOR_DIMENSIONS = VisitorTraits._fields
ENTRY_DIMENSIONS = ("entry_page", *Source._fields)
PAGE, EXIT = "page", "exit_page"
DIMENSIONS = (PAGE, *VISITOR_DIMENSIONS, *ENTRY_DIMENSIONS, EXIT)
"""Names of all dimensions, which are the fields of the stored hash."""


def _zeros() -> list[int]:
    return [0, 0]


_NO_COUNTS = [0, 0]


@dataclass(slots=True)
class DayCounts:
    """[views, visits] of a day while a roll-up counts them. `by_dimension` spreads them over the dimensions.

    pages, exits: by page. traits: by the visitor's traits. entries: by entry page and source.
    """

    pages: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(_zeros))
    exits: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(_zeros))
    traits: defaultdict[VisitorTraits, list[int]] = field(default_factory=lambda: defaultdict(_zeros))
    entries: defaultdict[Entry, list[int]] = field(default_factory=lambda: defaultdict(_zeros))


def pack(counts_by_name: CountsByName) -> bytes:
    """Returns the stored bytes of a dimension."""
    return _encode((FORMAT, counts_by_name))


def unpack(value: bytes | None) -> CountsByName:
    """Returns the counts in the stored bytes of a dimension, or {} for None. Raises NewerFormat."""
    if value is None:
        return {}
    refuse_newer(value, FORMAT, "breakdown of views")
    return _decode(value)[1]


def add(counts_by_name: CountsByName, changes: Mapping[str, list[int]]) -> None:
    """Adds changes to views and visits, and keeps the number of names within MAX_NAMES.

    A change may be negative. If a count would fall below 0, `(other)` is lowered instead, because some counts
    of the name were merged into `(other)`.
    """
    shortfall = [0, 0]
    for name, (views, visits) in changes.items():
        counts = counts_by_name.get(name)
        if counts is None:
            counts = counts_by_name[name] = [0, 0]
        counts[0] += views
        counts[1] += visits
        if counts[0] < 0 or counts[1] < 0:
            for i in (0, 1):
                shortfall[i] += min(0, counts[i])
                counts[i] = max(0, counts[i])
    _add_to_other(counts_by_name, shortfall)
    for name in (*changes, OTHER):
        if counts_by_name.get(name) == _NO_COUNTS:
            del counts_by_name[name]
    if len(counts_by_name) > MAX_NAMES:
        order = sorted(
            counts_by_name,
            key=lambda name: (name != OTHER, -counts_by_name[name][0], -counts_by_name[name][1], name),
        )
        merged = [counts_by_name.pop(name) for name in order[KEPT_NAMES:]]
        _add_to_other(counts_by_name, [sum(counts) for counts in zip(*merged, strict=True)])


def by_dimension(day: DayCounts) -> dict[str, CountsByName]:
    """Returns the counts of a day in each dimension, without names whose counts are both 0."""
    dimensions: dict[str, CountsByName] = {name: {} for name in DIMENSIONS}
    dimensions[PAGE], dimensions[EXIT] = day.pages, day.exits
    for traits, counts in day.traits.items():
        _spread(dimensions, VISITOR_DIMENSIONS, traits, counts)
    for (entry, source), counts in day.entries.items():
        if counts != _NO_COUNTS:
            _spread(dimensions, ENTRY_DIMENSIONS, (entry, *source), counts)
    return {
        dimension: {name: counts for name, counts in counts_by_name.items() if counts != _NO_COUNTS}
        for dimension, counts_by_name in dimensions.items()
    }


def _spread(
    dimensions: dict[str, CountsByName], fields: tuple[str, ...], names: tuple[str, ...], counts: list[int]
) -> None:
    """Adds counts to one name in each dimension of `fields`. names: in the order of `fields`."""
    views, visits = counts
    for dimension, name in zip(fields, names, strict=True):
        counts_by_name = dimensions[dimension]
        sums = counts_by_name.get(name)
        if sums is None:
            counts_by_name[name] = [views, visits]
        else:
            sums[0] += views
            sums[1] += visits


def _add_to_other(counts_by_name: CountsByName, changes: list[int]) -> None:
    if changes != [0, 0]:
        other = counts_by_name.setdefault(OTHER, [0, 0])
        counts_by_name[OTHER] = [max(0, other[i] + changes[i]) for i in (0, 1)]
