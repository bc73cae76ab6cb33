"""The lists of networks that their owners publish: where, in which form, and how one is taken over.

A list is taken over whole or not at all: everything is read and checked first, then written beside the old
one, fsynced and renamed. What is wrong with it is one line, and the old list stays.
"""

from __future__ import annotations

import os
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError

import msgspec

from pixel_server import files
from pixel_server.classify.networks import Family, NetworksError, Range, merge, parse

MOST_BYTES = 64 << 20
"""Of one answer or file."""
PAUSE = 30.0
"""Seconds that a server may be silent."""
WITHIN = 300.0
"""Seconds that one answer may take."""

WIDEST: Mapping[Family, int] = {4: 8, 6: 16}
"""Prefix lengths. No row is wider, and all of a list together holds no more addresses than one such network:
what holds more is a mistake, and would make a machine of everybody."""
_SIZE: Mapping[Family, int] = {4: 32, 6: 128}

_Texts = Iterator[tuple[str, str]]
"""("row 7: ", network) as it is written."""
_Row = tuple[str, Family, Range]


@dataclass(frozen=True, slots=True)
class Published:
    """source: as people are told. urls: the list is what all of them hold. least, most: rows."""

    source: str
    urls: tuple[str, ...]
    rows: Callable[[bytes], _Texts]
    least: int
    most: int
    licence: str


@dataclass(frozen=True, slots=True)
class Taken:
    """A list that was taken over. ranges: how many its rows are, those that touch being one."""

    name: str
    rows: int
    ranges: int
    date: date


def _csv(data: bytes) -> _Texts:
    """A geofeed (RFC 8805): the network is the first column."""
    for number, line in enumerate(data.decode("utf-8-sig", errors="replace").split("\n"), 1):
        text = line.strip()
        if text and not text.startswith("#"):
            yield f"row {number}: ", text.partition(",")[0].strip()


class _Prefix(msgspec.Struct, rename="camel"):
    ipv4_prefix: str = ""
    ipv6_prefix: str = ""


class _Prefixes(msgspec.Struct):
    prefixes: list[_Prefix]


def _json(data: bytes) -> _Texts:
    """{"prefixes": [{"ipv4Prefix": ...} or {"ipv6Prefix": ...}, ...]}"""
    try:
        found = msgspec.json.decode(data, type=_Prefixes).prefixes
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"no list of prefixes: {error}") from None
    for number, prefix in enumerate(found):
        both = prefix.ipv4_prefix, prefix.ipv6_prefix
        for text in [text for text in both if text] or [""]:
            yield f"prefixes[{number}]: ", text


_APPLE = "https://mask-api.icloud.com/egress-ip-ranges.csv"
_GOOGLE = "https://developers.google.com/static/search/apis/ipranges/"

PUBLISHED: Mapping[str, Published] = {
    "apple": Published(
        _APPLE,
        (_APPLE,),
        _csv,
        least=50_000,  # it had some 285,000 in 2026
        most=2_000_000,
        licence="as published by Apple",
    ),
    "google": Published(
        _GOOGLE,
        (
            f"{_GOOGLE}googlebot.json",
            f"{_GOOGLE}special-crawlers.json",
            f"{_GOOGLE}user-triggered-fetchers.json",
            f"{_GOOGLE}user-triggered-fetchers-google.json",
        ),
        _json,
        least=100,  # they had some 1,600 in 2026
        most=100_000,
        licence="as published by Google",
    ),
}


def take(name: str, directory: Path, files: Sequence[Path] = (), today: date | None = None) -> Taken:
    """Takes over the list of this name into the directory, from its URLs or from files of the same form.

    today: the date of what comes from URLs, in UTC; what comes from files is as old as the oldest of them.
    NetworksError: it was not taken over, and why. KeyError: no list of this name is published.
    """
    published = PUBLISHED[name]
    day = today or datetime.now(UTC).date()
    rows: list[_Row] = []
    for origin in files or published.urls:
        if isinstance(origin, Path):
            data, changed = _read(origin)
            day = min(day, changed)
        else:
            data = fetch(origin)
        rows += _checked(str(origin), published, data)
    if not published.least <= len(rows) <= published.most:
        expected = f"{published.least:,} to {published.most:,}"
        raise NetworksError(f"{name}: {len(rows):,} rows, where {expected} are expected")
    ranges = _ranges(name, rows)
    source = published.source + (" (from a file)" if files else "")
    head = [f"# source: {source}", f"# date: {day}", f"# licence: {published.licence}"]
    _swap(directory / f"{name}.txt", "\n".join([*head, *(text for text, _, _ in rows), ""]))
    return Taken(name, len(rows), ranges, day)


def fetch(url: str) -> bytes:
    """What an https URL answers, past no proxy. NetworksError: nothing, too much, or not all of it."""
    request = urllib.request.Request(url, headers={"User-Agent": "pixel-server"})  # noqa: S310 - https alone
    deadline = time.monotonic() + WITHIN
    whole = bytearray()
    try:
        with closing(_opener.open(request, timeout=PAUSE)) as answer:
            while part := answer.read1(1 << 16):
                whole += part
                if len(whole) > MOST_BYTES:
                    raise ValueError(f"more than {MOST_BYTES >> 20} MB")
                if time.monotonic() > deadline:
                    raise ValueError(f"took longer than {WITHIN:.0f} s")
            if answer.length:  # read1 does not mind a connection that ends early
                raise ValueError("ended before all of it was there")
    except (OSError, HTTPException, ValueError) as error:
        why = error.reason if type(error) is URLError else error
        reason = " ".join(str(why).split()) or type(why).__name__
        raise NetworksError(f"{url}: {reason[:200]}") from None
    return bytes(whole)


def opener(handler: urllib.request.BaseHandler) -> urllib.request.OpenerDirector:
    """One that knows this handler's scheme and no other, redirected or not, and no proxy."""
    made = urllib.request.OpenerDirector()
    for each in (
        handler,
        urllib.request.UnknownHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        made.add_handler(each)
    return made


_opener = opener(urllib.request.HTTPSHandler())


def _swap(path: Path, text: str) -> None:
    """Writes a file whole or not at all. NetworksError: not at all; what was there stays."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, text.encode())
    except OSError as error:
        raise NetworksError(f"{path}: {error.strerror}") from None


def _read(path: Path) -> tuple[bytes, date]:
    """(what is in it, the day on which it was last written)."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
            written = os.fstat(file.fileno()).st_mtime
    except OSError as error:
        raise NetworksError(f"{path}: {error.strerror}") from None
    if len(data) > MOST_BYTES:
        raise NetworksError(f"{path}: more than {MOST_BYTES >> 20} MB")
    return data, datetime.fromtimestamp(written, UTC).date()


def _checked(origin: str, published: Published, data: bytes) -> list[_Row]:
    """The networks in it, each of which can be read and is not too wide; at least one."""
    rows: list[_Row] = []
    at = ""
    try:
        for place, text in published.rows(data):
            at = place
            family, first, last = parse(text)
            if last - first >= _most(family):
                raise ValueError(f"{text!r} is wider than /{WIDEST[family]}")
            rows.append((text, family, (first, last)))
            if len(rows) > published.most:
                raise ValueError(f"more than {published.most:,} rows")
    except ValueError as error:
        raise NetworksError(f"{origin}: {at}{error}") from None
    if not rows:
        raise NetworksError(f"{origin}: no rows")
    return rows


def _ranges(name: str, rows: Sequence[_Row]) -> int:
    """How many ranges they are, those that touch being one. NetworksError: together they hold too much."""
    number = 0
    for family in WIDEST:
        merged = merge(each for _, its, each in rows if its == family)
        if sum(last - first + 1 for first, last in merged) > _most(family):
            raise NetworksError(f"{name}: holds more of IPv{family} than a /{WIDEST[family]}")
        number += len(merged)
    return number


def _most(family: Family) -> int:
    return 1 << (_SIZE[family] - WIDEST[family])
