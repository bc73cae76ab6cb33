"""What views and visits of a web campaign break down into, packed by local day.

A hash a campaign, shard and local day; a field a dimension: msgpack of [format, {name: [views, visits]}]. In
each dimension both add up to all views and all visits of the day: a view is counted under its own page,
country, browser, system, device and language, and under its visit's entry page, exit page, referrer and
campaign; a visit under what it began with, and the page that it ended on.

Names are chosen by strangers, so there are MOST of them at most, and those with the fewest views go into
`(other)`. One that comes again begins anew: beyond MOST names, a count may lack what it had before.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote

import msgspec

from pixel_server.counters.labels import OTHER, UNKNOWN
from pixel_server.counters.series import refuse_newer

FORMAT = 1
MOST, LEFT = 400, 300
"""Names of one dimension, day and shard: of more, LEFT stay."""
MOST_NAME = 160
"""Bytes of a name; of a longer one, the first."""
NONE = "(none)"

Names = dict[str, list[int]]
"""[views, visits] by name. Append only: stored counts are read by these two positions."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, Names]).decode


class Reader(NamedTuple):
    """Who looks at a page: a name in each dimension. Its fields are the dimensions' names."""

    country: str = UNKNOWN
    browser: str = UNKNOWN
    system: str = UNKNOWN
    device: str = UNKNOWN
    language: str = UNKNOWN


class Source(NamedTuple):
    """Where a visit came from. Its fields are the dimensions' names.

    referrer: a host; NONE for one of the site's own, or if there was none. Stored in visits: append only.
    """

    referrer: str = NONE
    utm_source: str = NONE
    utm_medium: str = NONE
    utm_campaign: str = NONE


Entry = tuple[str, tuple[str, str, str, str]]
"""An entry page, and its source."""
OF_READER = Reader._fields
OF_SOURCE = Source._fields
OF_ENTRY = ("entry_page", *OF_SOURCE)
PAGE, EXIT = "page", "exit_page"
DIMENSIONS = (PAGE, *OF_READER, *OF_ENTRY, EXIT)


def _none() -> list[int]:
    return [0, 0]


@dataclass(slots=True)
class Counted:
    """[views, visits] of a day, as they come: what is counted together stands together, until `spread`.

    entries: by entry page and source, as OF_ENTRY.
    """

    pages: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(_none))
    exits: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(_none))
    readers: defaultdict[Reader, list[int]] = field(default_factory=lambda: defaultdict(_none))
    entries: defaultdict[Entry, list[int]] = field(default_factory=lambda: defaultdict(_none))


def pack(names: Names) -> bytes:
    return _encode((FORMAT, names))


def unpack(value: bytes | None) -> Names:
    """NewerFormat: a newer version wrote it."""
    if value is None:
        return {}
    refuse_newer(value, FORMAT, "breakdown of views")
    return _decode(value)[1]


def add(names: Names, changes: Mapping[str, list[int]]) -> None:
    """Adds to views and visits. What is to be taken from a name that went into `(other)` is taken there."""
    rest = [0, 0]
    for name, (views, visits) in changes.items():
        known = names.get(name)
        if known is None:
            known = names[name] = [0, 0]
        known[0] += views
        known[1] += visits
        if known[0] < 0 or known[1] < 0:
            for i in (0, 1):
                rest[i] += min(0, known[i])
                known[i] = max(0, known[i])
    _to_other(names, rest)
    for name in (*changes, OTHER):
        if names.get(name) == _NOTHING:
            del names[name]
    if len(names) > MOST:
        order = sorted(names, key=lambda name: (name != OTHER, -names[name][0], -names[name][1], name))
        few = [names.pop(name) for name in order[LEFT:]]
        _to_other(names, [sum(counts) for counts in zip(*few, strict=True)])


def spread(counted: Counted) -> dict[str, Names]:
    """What is counted in each dimension, without what is nothing."""
    found: dict[str, Names] = {name: {} for name in DIMENSIONS}
    found[PAGE], found[EXIT] = counted.pages, counted.exits
    for reader, counts in counted.readers.items():
        _spread(found, OF_READER, reader, counts)
    for (entry, source), counts in counted.entries.items():
        if counts != _NOTHING:
            _spread(found, OF_ENTRY, (entry, *source), counts)
    return {
        dimension: {one: counts for one, counts in names.items() if counts != _NOTHING}
        for dimension, names in found.items()
    }


_NOTHING = [0, 0]


def _spread(
    found: dict[str, Names], dimensions: tuple[str, ...], names: tuple[str, ...], counts: list[int]
) -> None:
    views, visits = counts
    for dimension, one in zip(dimensions, names, strict=True):
        column = found[dimension]
        known = column.get(one)
        if known is None:
            column[one] = [views, visits]
        else:
            known[0] += views
            known[1] += visits


def _to_other(names: Names, counts: list[int]) -> None:
    if counts != [0, 0]:
        other = names.setdefault(OTHER, [0, 0])
        names[OTHER] = [max(0, other[i] + counts[i]) for i in (0, 1)]


@lru_cache(4096)
def page(url: str) -> str:
    """The path of a page's address, without query and fragment. A name."""
    _, path, _ = _parts(url)
    return name(path) if path else UNKNOWN


@lru_cache(4096)
def source(url: str, referrer: str) -> Source:
    """Where the view of a page came from: by its referrer, and the UTM fields in its own address."""
    own, _, query = _parts(url)
    host, _, _ = _parts(referrer)
    shown = NONE if not host or host == own else host if host == OTHER else name(host)
    if "utm_" not in query:
        return Source(shown) if shown != NONE else _DIRECT
    try:
        found = dict(reversed(parse_qsl(query, max_num_fields=100)))
    except ValueError:
        found = {}
    return Source(shown, *(name(found.get(field, "").strip()) or NONE for field in OF_SOURCE[1:]))


_DIRECT = Source()
_OURS = (OTHER, NONE, UNKNOWN)
"""Names that no stranger gives."""
_unfit = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]").sub
_language = re.compile(r"\s*([A-Za-z]{2,3})(?![A-Za-z])").match
_host = re.compile(r"[a-z0-9._~-]{1,253}|\[[0-9a-f:.]{2,45}\]").fullmatch


def name(text: str) -> str:
    """What a stranger sent, as it is kept: without control characters and such that turn text around, cut."""
    if not text.isprintable():
        text = _unfit("\ufffd", text)
    cut = text.encode("utf-8", "replace")[:MOST_NAME].decode("utf-8", "ignore")
    return cut.strip("()") if cut in _OURS else cut


@lru_cache(1024)
def language(accept: str) -> str:
    """The first language of an `Accept-Language`, without its region: two or three letters."""
    found = _language(accept)
    return found[1].lower() if found else UNKNOWN


def forget() -> None:
    """Lets go of what was seen last: addresses have queries, which are kept nowhere."""
    for cached in (page, source, language, _parts):
        cached.cache_clear()


@lru_cache(4096)
def _parts(url: str) -> tuple[str, str, str]:
    """(host, path, query) of an address; "" for what it has not. Never fails, whatever it is given."""
    host, path = "", url
    scheme, mark, rest = url.partition("://")
    if mark and scheme.isascii() and scheme.replace("-", "").isalnum():
        end = len(rest)
        for stop in "/?#":
            if (at := rest.find(stop)) >= 0:
                end = min(end, at)
        host, path = rest[:end], rest[end:] or "/"
        host = host.rpartition("@")[2].lower()
        host = host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
        if not _host(host):
            host = OTHER
        path = path if path.startswith("/") else "/" + path
    path, _, _ = path.partition("#")
    path, _, query = path.partition("?")
    if path and not path.startswith("/"):
        path = ""
    return host.removesuffix(".").removeprefix("www."), unquote(path) if "%" in path else path, query
