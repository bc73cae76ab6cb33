"""Lists of networks that their owners publish: where and in which form, and how such a list is refreshed.

A list is refreshed whole or not at all. All of it is read and checked before the new file replaces the old
one. If something is wrong with it, the error is one line, and the old list stays.
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
from pixel_server.classify.networks import Family, NetworksError, Range, merge_ranges, parse_network

MAX_BYTES = 64 << 20
"""Largest number of bytes of an answer or file."""
SILENCE_TIMEOUT_SECONDS = 30.0
"""Seconds for which a server may send nothing."""
ANSWER_TIMEOUT_SECONDS = 300.0
"""Seconds that a whole answer may take."""

MIN_PREFIX_LENGTH: Mapping[Family, int] = {4: 8, 6: 16}
"""Prefix length of the widest network that a list may have. A whole list may hold no more addresses than such
a network: a list that holds more is a mistake, and people in it would be taken for machines."""
_ADDRESS_BITS: Mapping[Family, int] = {4: 32, 6: 128}

_Texts = Iterator[tuple[str, str]]
"""Networks as they are written, each with its place: `("row 7: ", "192.0.2.0/24")`."""
_Row = tuple[str, Family, Range]
"""A network as it is written, its family and its range."""


@dataclass(frozen=True, slots=True)
class PublishedList:
    """A list that its owner publishes.

    source: the origin that people are shown. urls: their contents together are the list. parse: yields the
    networks of an answer. min_rows, max_rows: the number of rows to expect.
    """

    source: str
    urls: tuple[str, ...]
    parse: Callable[[bytes], _Texts]
    min_rows: int
    max_rows: int
    licence: str


@dataclass(frozen=True, slots=True)
class RefreshedList:
    """A list that was refreshed. ranges: number of ranges after adjacent and overlapping rows are merged."""

    name: str
    rows: int
    ranges: int
    date: date


def _parse_csv(data: bytes) -> _Texts:
    """Yields the networks of a geofeed (RFC 8805), which are its first column."""
    for number, line in enumerate(data.decode("utf-8-sig", errors="replace").split("\n"), 1):
        text = line.strip()
        if text and not text.startswith("#"):
            yield f"row {number}: ", text.partition(",")[0].strip()


class _Prefix(msgspec.Struct, rename="camel"):
    ipv4_prefix: str = ""
    ipv6_prefix: str = ""


class _Prefixes(msgspec.Struct):
    prefixes: list[_Prefix]


def _parse_json(data: bytes) -> _Texts:
    """Yields the networks of `{"prefixes": [{"ipv4Prefix": "192.0.2.0/24"}, {"ipv6Prefix": ...}]}`."""
    try:
        prefixes = msgspec.json.decode(data, type=_Prefixes).prefixes
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"is not a list of prefixes: {error}") from None
    for number, prefix in enumerate(prefixes):
        both = prefix.ipv4_prefix, prefix.ipv6_prefix
        for text in [text for text in both if text] or [""]:
            yield f"prefixes[{number}]: ", text


_APPLE = "https://mask-api.icloud.com/egress-ip-ranges.csv"
_GOOGLE = "https://developers.google.com/static/search/apis/ipranges/"

PUBLISHED: Mapping[str, PublishedList] = {
    "apple": PublishedList(
        _APPLE,
        (_APPLE,),
        _parse_csv,
        min_rows=50_000,  # it had some 285,000 in 2026
        max_rows=2_000_000,
        licence="as published by Apple",
    ),
    "google": PublishedList(
        _GOOGLE,
        (
            f"{_GOOGLE}googlebot.json",
            f"{_GOOGLE}special-crawlers.json",
            f"{_GOOGLE}user-triggered-fetchers.json",
            f"{_GOOGLE}user-triggered-fetchers-google.json",
        ),
        _parse_json,
        min_rows=100,  # they had some 1,600 in 2026
        max_rows=100_000,
        licence="as published by Google",
    ),
}
"""Published lists by their names."""


def refresh(
    name: str, directory: Path, files: Sequence[Path] = (), today: date | None = None
) -> RefreshedList:
    """Refreshes the list of this name in the directory, from its URLs or from files of the same form.

    today: the date of a list from URLs, in UTC. A list from files has the date of its oldest file. Raises
    NetworksError with the reason if the list was not refreshed, and KeyError if no such list is published.
    """
    published = PUBLISHED[name]
    day = today or datetime.now(UTC).date()
    rows: list[_Row] = []
    for origin in files or published.urls:
        if isinstance(origin, Path):
            data, written = _read_file(origin)
            day = min(day, written)
        else:
            data = fetch(origin)
        rows += _parse_rows(str(origin), published, data)
    if not published.min_rows <= len(rows) <= published.max_rows:
        expected = f"{published.min_rows:,} to {published.max_rows:,}"
        raise NetworksError(f"{name}: {len(rows):,} rows, where {expected} are expected")
    ranges = _count_ranges(name, rows)
    source = published.source + (" (from a file)" if files else "")
    head = [f"# source: {source}", f"# date: {day}", f"# licence: {published.licence}"]
    _replace(directory / f"{name}.txt", "\n".join([*head, *(text for text, _, _ in rows), ""]))
    return RefreshedList(name, len(rows), ranges, day)


def fetch(url: str) -> bytes:
    """Returns the answer of an https URL, without a proxy.

    Raises NetworksError if there is no answer, or if it is too large, too late or incomplete.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "pixel-server"})  # noqa: S310 - https alone
    deadline = time.monotonic() + ANSWER_TIMEOUT_SECONDS
    whole = bytearray()
    try:
        with closing(_opener.open(request, timeout=SILENCE_TIMEOUT_SECONDS)) as answer:
            while part := answer.read1(1 << 16):
                whole += part
                if len(whole) > MAX_BYTES:
                    raise ValueError(f"more than {MAX_BYTES >> 20} MB")
                if time.monotonic() > deadline:
                    raise ValueError(f"took longer than {ANSWER_TIMEOUT_SECONDS:.0f} s")
            if answer.length:  # read1 raises nothing if the connection ends early
                raise ValueError("ended before all of it was there")
    except (OSError, HTTPException, ValueError) as error:
        cause = error.reason if type(error) is URLError else error
        reason = " ".join(str(cause).split()) or type(cause).__name__
        raise NetworksError(f"{url}: {reason[:200]}") from None
    return bytes(whole)


def opener(handler: urllib.request.BaseHandler) -> urllib.request.OpenerDirector:
    """Returns an opener for this handler's scheme alone, also after a redirect, and without a proxy."""
    director = urllib.request.OpenerDirector()
    for part in (
        handler,
        urllib.request.UnknownHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        director.add_handler(part)
    return director


_opener = opener(urllib.request.HTTPSHandler())


def _replace(path: Path, text: str) -> None:
    """Replaces a file whole or not at all. Raises NetworksError if it was not replaced."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, text.encode())
    except OSError as error:
        raise NetworksError(f"{path}: {error.strerror}") from None


def _read_file(path: Path) -> tuple[bytes, date]:
    """Returns the content of a file, and the UTC day on which it was written. Raises NetworksError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
            written = os.fstat(file.fileno()).st_mtime
    except OSError as error:
        raise NetworksError(f"{path}: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise NetworksError(f"{path}: more than {MAX_BYTES >> 20} MB")
    return data, datetime.fromtimestamp(written, UTC).date()


def _parse_rows(origin: str, published: PublishedList, data: bytes) -> list[_Row]:
    """Returns the networks of an answer or file, at least one.

    Raises NetworksError if a network cannot be read or is too wide. origin: the URL or file, for errors.
    """
    rows: list[_Row] = []
    place = ""
    try:
        for place, text in published.parse(data):  # noqa: B007 - for the error
            family, first, last = parse_network(text)
            if last - first >= _max_addresses(family):
                raise ValueError(f"{text!r} is wider than /{MIN_PREFIX_LENGTH[family]}")
            rows.append((text, family, (first, last)))
            if len(rows) > published.max_rows:
                raise ValueError(f"more than {published.max_rows:,} rows")
    except ValueError as error:
        raise NetworksError(f"{origin}: {place}{error}") from None
    if not rows:
        raise NetworksError(f"{origin}: no rows")
    return rows


def _count_ranges(name: str, rows: Sequence[_Row]) -> int:
    """Returns the number of ranges after adjacent and overlapping rows are merged.

    Raises NetworksError if the rows hold too many addresses in total.
    """
    count = 0
    for family in MIN_PREFIX_LENGTH:
        merged = merge_ranges(ends for _, family_of_row, ends in rows if family_of_row == family)
        if sum(last - first + 1 for first, last in merged) > _max_addresses(family):
            raise NetworksError(f"{name}: holds more of IPv{family} than a /{MIN_PREFIX_LENGTH[family]}")
        count += len(merged)
    return count


def _max_addresses(family: Family) -> int:
    return 1 << (_ADDRESS_BITS[family] - MIN_PREFIX_LENGTH[family])
