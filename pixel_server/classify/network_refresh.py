"""Makes a new list of networks from what its source publishes, after it was checked.

A list is taken whole or not at all. If anything is wrong with the new list, the old list stays, and the error
is one line.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from socket import AF_INET, AF_INET6, inet_ntop

from pixel_server.classify import network_fetch
from pixel_server.classify.network_feeds import PUBLISHED, RANDOM_ID, PublishedList
from pixel_server.classify.networks import (
    ADDRESS_BITS,
    FAMILIES,
    Family,
    NetworksError,
    Range,
    merge_ranges,
    parse_network,
)

MIN_PREFIX_LENGTH: dict[Family, int] = {4: 8, 6: 16}
"""Prefix length of the widest network that a list may have, by family. A whole list may hold no more
addresses than one such network. A larger list is a mistake, and would make people count as machines."""
MIN_SHARE_OF_LAST = 0.7
"""Smallest share of the ranges of the list in use that a new list must have, unless the operator accepts a
smaller list. So half a list never replaces a whole list."""

Ranges = dict[Family, list[Range]]


@dataclass(frozen=True, slots=True)
class NewList:
    """A list that was read and checked, and not stored yet.

    rows: number of networks as published. ranges: number of ranges after adjacent and overlapping networks
    are merged. text: content of the list's file.
    """

    name: str
    rows: int
    ranges: int
    date: date
    text: bytes


def make_list(
    name: str, today: date, files: Sequence[Path] = (), *, last_ranges: int, accept_smaller: bool = False
) -> NewList:
    """Returns a new list, fetched from its source, or read from files of the same format if any are given.

    today: the date to give to a fetched list. A list from files gets the date of its oldest file.
    last_ranges: number of ranges of the list in use. accept_smaller: whether the new list may be much
    smaller. Raises NetworksError with the reason if the new list cannot be used, and KeyError if no list of
    this name is published.
    """
    published = PUBLISHED[name]
    rows: list[_Row] = []
    if files:
        for path in files:
            data, file_date = _read_file(path)
            today = min(today, file_date)
            rows += _parse_rows(str(path), published, data)
    else:
        for urls in published.parts:
            rows += _fetch_part(urls, published)
    if not published.min_rows <= len(rows) <= published.max_rows:
        expected = f"{published.min_rows:,} to {published.max_rows:,}"
        raise NetworksError(f"{name}: {len(rows):,} rows, where {expected} are expected")
    ranges = {family: merge_ranges(row for kind, row in rows if kind == family) for family in FAMILIES}
    _check_addresses(name, ranges)
    count = sum(map(len, ranges.values()))
    if count < MIN_SHARE_OF_LAST * last_ranges and not accept_smaller:
        raise NetworksError(
            f"{name}: only {count:,} ranges, and the list in use has {last_ranges:,}; if that is right, run "
            f"`pixel-server networks refresh {name} --accept-smaller`"
        )
    head = [
        f"# source: {published.source}{' (from a file)' if files else ''}",
        f"# date: {today}",
        f"# licence: {published.licence}",
    ]
    text = "\n".join([*head, *_written(ranges), ""])
    return NewList(name, len(rows), count, today, text.encode())


_Row = tuple[Family, Range]


def _fetch_part(urls: Sequence[str], published: PublishedList) -> list[_Row]:
    """Returns the networks of the first address that gives a usable response.

    Raises NetworksError with the reasons of all addresses if none does.
    """
    errors = []
    for address in urls:
        url = address.replace(RANDOM_ID, str(uuid.uuid4()))
        try:
            return _parse_rows(url, published, network_fetch.fetch(url, published.other_hosts))
        except NetworksError as error:
            errors.append(str(error))
    raise NetworksError("; ".join(errors))


def _read_file(path: Path) -> tuple[bytes, date]:
    """Returns the content of a file, and the UTC day on which the file was last changed.

    Raises NetworksError if the file cannot be read or is too large.
    """
    try:
        with path.open("rb") as file:
            data = file.read(network_fetch.MAX_BYTES + 1)
            changed_at = os.fstat(file.fileno()).st_mtime
    except OSError as error:
        raise NetworksError(f"{path}: {error.strerror}") from None
    if len(data) > network_fetch.MAX_BYTES:
        raise NetworksError(f"{path}: more than {network_fetch.MAX_BYTES >> 20} MB")
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
            rows.append((family, (first, last)))
            if len(rows) > published.max_rows:
                raise ValueError(f"more than {published.max_rows:,} rows")
    except ValueError as error:
        raise NetworksError(f"{url_or_file}: {place}{error}") from None
    if not rows:
        raise NetworksError(f"{url_or_file}: no rows")
    return rows


def _range(network: str) -> Range:
    _, first, last = parse_network(network)
    return first, last


_NOT_PUBLIC: dict[Family, list[Range]] = {
    4: [
        _range(network)
        for network in (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
            *("172.16.0.0/12", "192.168.0.0/16", "224.0.0.0/3"),
        )
    ],
    6: [(0, _range("2000::/3")[0] - 1), (_range("2000::/3")[1] + 1, (1 << 128) - 1)],
}
"""Addresses that are no public server's (RFC 6890), by family. A list with such an address is a mistake: it
could make every hit behind a proxy count as a machine's."""


def _check_addresses(name: str, ranges: Ranges) -> None:
    """Raises NetworksError if a list holds too many addresses, or addresses that are not public."""
    for family, merged in ranges.items():
        for low, high in _NOT_PUBLIC[family]:
            for first, last in merged:
                if first <= high and last >= low:
                    network = next(_networks(family, first, last))
                    raise NetworksError(f"{name}: {network} is not a public network")
        if sum(last - first + 1 for first, last in merged) > _max_addresses(family):
            raise NetworksError(
                f"{name}: holds more IPv{family} addresses than a /{MIN_PREFIX_LENGTH[family]}"
            )


def _max_addresses(family: Family) -> int:
    return 1 << (ADDRESS_BITS[family] - MIN_PREFIX_LENGTH[family])


def _written(ranges: Ranges) -> Iterator[str]:
    """Yields the fewest networks that hold the same addresses, in order."""
    for family, merged in ranges.items():
        for first, last in merged:
            yield from _networks(family, first, last)


def _networks(family: Family, first: int, last: int) -> Iterator[str]:
    """Yields a range as networks: `192.0.2.0/24`, `192.0.3.0/25` for 192.0.2.0 to 192.0.3.127."""
    bits, socket_family = ADDRESS_BITS[family], AF_INET if family == 4 else AF_INET6
    while first <= last:
        host_bits = (last - first + 1).bit_length() - 1
        if first:
            host_bits = min(host_bits, (first & -first).bit_length() - 1)
        address = inet_ntop(socket_family, first.to_bytes(bits // 8, "big"))
        yield f"{address}/{bits - host_bits}"
        first += 1 << host_bits
