"""Refreshes the lists of networks that the networks' owners publish, from the addresses in PUBLISHED.

A list is refreshed whole or not at all: the new list is read and checked before its file replaces the old
file. If anything is wrong with the new list, the old list stays, and the error is one line.
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
"""Largest number of bytes of a response or file."""
SILENCE_TIMEOUT_SECONDS = 30.0
"""Seconds of silence after which a download fails."""
ANSWER_TIMEOUT_SECONDS = 300.0
"""Seconds after which a download fails, even if the server still sends."""

MIN_PREFIX_LENGTH: Mapping[Family, int] = {4: 8, 6: 16}
"""Prefix length of the widest network that a list may have, by family. A whole list may hold no more
addresses than one such network. A larger list is a mistake, and would make people count as machines."""
_ADDRESS_BITS: Mapping[Family, int] = {4: 32, 6: 128}

_WrittenNetworks = Iterator[tuple[str, str]]
"""Networks as text, each with its place in the response or file: `("row 7: ", "192.0.2.0/24")`."""
_Row = tuple[str, Family, Range]
"""A network as text, its family and its range."""


@dataclass(frozen=True, slots=True)
class PublishedList:
    """A list that the owner of its networks publishes.

    source: text that tells people where the list comes from. urls: addresses whose contents
    together make the list. parse: yields the networks of a response. min_rows, max_rows: bounds of a
    plausible number of rows.
    """

    source: str
    urls: tuple[str, ...]
    parse: Callable[[bytes], _WrittenNetworks]
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


def _parse_csv(data: bytes) -> _WrittenNetworks:
    """Yields the networks in the first column of a geofeed (RFC 8805)."""
    for number, line in enumerate(data.decode("utf-8-sig", errors="replace").split("\n"), 1):
        text = line.strip()
        if text and not text.startswith("#"):
            yield f"row {number}: ", text.partition(",")[0].strip()


class _Prefix(msgspec.Struct, rename="camel"):
    ipv4_prefix: str = ""
    ipv6_prefix: str = ""


class _Prefixes(msgspec.Struct):
    prefixes: list[_Prefix]


def _parse_json(data: bytes) -> _WrittenNetworks:
    """Yields the networks of `{"prefixes": [{"ipv4Prefix": "192.0.2.0/24"}, {"ipv6Prefix": ...}]}`."""
    try:
        prefixes = msgspec.json.decode(data, type=_Prefixes).prefixes
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"is not a list of prefixes: {error}") from None
    for number, prefix in enumerate(prefixes):
        texts = prefix.ipv4_prefix, prefix.ipv6_prefix
        for text in [text for text in texts if text] or [""]:
            yield f"prefixes[{number}]: ", text


_APPLE = "https://mask-api.icloud.com/egress-ip-ranges.csv"
_GOOGLE = "https://developers.google.com/static/search/apis/ipranges/"

PUBLISHED: Mapping[str, PublishedList] = {
    "apple": PublishedList(
        _APPLE,
        (_APPLE,),
        _parse_csv,
        min_rows=50_000,  # some 285,000 in 2026
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
        min_rows=100,  # some 1,600 in 2026
        max_rows=100_000,
        licence="as published by Google",
    ),
}
"""Published lists by their names."""


def refresh(
    name: str, directory: Path, files: Sequence[Path] = (), today: date | None = None
) -> RefreshedList:
    """Refreshes a list in the directory, from its URLs, or from files of the same format if any are given.

    today: the date to give to a list from URLs, by default today in UTC. A list from files gets the date of
    its oldest file. Raises NetworksError with the reason if the list was not refreshed, and KeyError if no
    list of this name is published.
    """
    published = PUBLISHED[name]
    list_date = today or datetime.now(UTC).date()
    rows: list[_Row] = []
    for url_or_file in files or published.urls:
        if isinstance(url_or_file, Path):
            data, file_date = _read_file(url_or_file)
            list_date = min(list_date, file_date)
        else:
            data = fetch(url_or_file)
        rows += _parse_rows(str(url_or_file), published, data)
    if not published.min_rows <= len(rows) <= published.max_rows:
        expected = f"{published.min_rows:,} to {published.max_rows:,}"
        raise NetworksError(f"{name}: {len(rows):,} rows, where {expected} are expected")
    ranges = _count_ranges(name, rows)
    source = published.source + (" (from a file)" if files else "")
    head = [f"# source: {source}", f"# date: {list_date}", f"# licence: {published.licence}"]
    _replace(directory / f"{name}.txt", "\n".join([*head, *(text for text, _, _ in rows), ""]))
    return RefreshedList(name, len(rows), ranges, list_date)


def fetch(url: str) -> bytes:
    """Returns the body at an https URL. Does not use a proxy.

    Raises NetworksError if there is no response, or if the response is an error, too large, too late or
    incomplete.
    """
    request = urllib.request.Request(url, headers={"User-Agent": "pixel-server"})  # noqa: S310 - the opener knows https only
    deadline = time.monotonic() + ANSWER_TIMEOUT_SECONDS
    body = bytearray()
    try:
        with closing(_opener.open(request, timeout=SILENCE_TIMEOUT_SECONDS)) as response:
            while chunk := response.read1(1 << 16):
                body += chunk
                if len(body) > MAX_BYTES:
                    raise ValueError(f"more than {MAX_BYTES >> 20} MB")
                if time.monotonic() > deadline:
                    raise ValueError(f"took longer than {ANSWER_TIMEOUT_SECONDS:.0f} s")
            if response.length:  # read1 raises nothing if the connection ends early
                raise ValueError("ended early")
    except (OSError, HTTPException, ValueError) as error:
        cause = error.reason if type(error) is URLError else error
        reason = " ".join(str(cause).split()) or type(cause).__name__
        raise NetworksError(f"{url}: {reason[:200]}") from None
    return bytes(body)


def opener(handler: urllib.request.BaseHandler) -> urllib.request.OpenerDirector:
    """Returns an opener that knows only this handler's scheme, also after a redirect, and uses no proxy."""
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
    """Replaces a file whole or not at all. Raises NetworksError if the file was not replaced."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, text.encode())
    except OSError as error:
        raise NetworksError(f"{path}: {error.strerror}") from None


def _read_file(path: Path) -> tuple[bytes, date]:
    """Returns the content of a file, and the UTC day on which the file was last changed.

    Raises NetworksError if the file cannot be read or is too large.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
            changed_at = os.fstat(file.fileno()).st_mtime
    except OSError as error:
        raise NetworksError(f"{path}: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise NetworksError(f"{path}: more than {MAX_BYTES >> 20} MB")
    return data, datetime.fromtimestamp(changed_at, UTC).date()


def _parse_rows(url_or_file: str, published: PublishedList, data: bytes) -> list[_Row]:
    """Returns the networks of a response or file. url_or_file: named in errors.

    Raises NetworksError if there are no networks or too many, or if a network cannot be read or is too wide.
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
        raise NetworksError(f"{url_or_file}: {place}{error}") from None
    if not rows:
        raise NetworksError(f"{url_or_file}: no rows")
    return rows


def _count_ranges(name: str, rows: Sequence[_Row]) -> int:
    """Returns the number of ranges of a list, after adjacent and overlapping rows are merged.

    Raises NetworksError if the rows hold too many addresses in total.
    """
    count = 0
    for family in MIN_PREFIX_LENGTH:
        merged = merge_ranges(row_range for _, row_family, row_range in rows if row_family == family)
        if sum(last - first + 1 for first, last in merged) > _max_addresses(family):
            raise NetworksError(
                f"{name}: holds more IPv{family} addresses than a /{MIN_PREFIX_LENGTH[family]}"
            )
        count += len(merged)
    return count


def _max_addresses(family: Family) -> int:
    return 1 << (_ADDRESS_BITS[family] - MIN_PREFIX_LENGTH[family])
