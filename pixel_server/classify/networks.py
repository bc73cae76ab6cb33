"""Named lists of IP networks. Each list holds the networks of one company's machines. For example,
`cisco` holds the networks of Cisco Secure Email.

A list is a file NAME.txt in UTF-8. Its head gives the list's source, date and licence:

    # source: https://...
    # date: 2026-06-17
    # licence: CC BY 4.0

Each further line is a network (`192.0.2.0/24`, `2001:db8::/32`) or an address. Text after a `#` is a comment.
Of each list, the first of these files is used: the operator's own in `<PIXEL_DATA_DIR>/networks`, the
refreshed one in `<PIXEL_DATA_DIR>/networks-refreshed` (see `network_store`), the shipped one in
`data/networks`.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import itertools
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from socket import AF_INET, AF_INET6, inet_pton
from typing import Literal, NamedTuple

from pixel_server.addresses import MAPPED
from pixel_server.logs import Log
from pixel_server.settings import Settings

log = Log(__name__)

SHIPPED = Path(__file__).parent / "data" / "networks"
"""Directory of the shipped lists."""

_HEAD = re.compile(r"#\s*(source|date|licence):\s*(.*)")

Family = Literal[4, 6]
FAMILIES: tuple[Family, ...] = (4, 6)
ADDRESS_BITS: Mapping[Family, int] = {4: 32, 6: 128}
Range = tuple[int, int]
"""First and last address of a range, as numbers."""

Owner = Literal["operator", "refreshed", "shipped"]
"""Where a list is from."""

Stamp = tuple[tuple[str, int, int], ...]
"""(path, mtime in ns, size in bytes) of each file of the operator and each refreshed file."""

_Edges = tuple[list[int], list[tuple[str, ...]]]
"""(edges, sets). An edge is an address, as a number, that is in other lists than the address before it. The
sets are the names of the lists that hold the addresses before the first edge, between two edges, and from
the last edge on.

With the edges `[10, 20]` and the sets `[(), ("apple",), ()]`, "apple" holds the addresses 10 to 19.
"""


class NetworksError(ValueError):
    """A list cannot be used. The message has no line break. It names the file and, if it can, the line."""

    is_loggable = True


@dataclass(frozen=True, slots=True)
class NetworkList:
    """A description of a list, without its networks.

    ranges: number of ranges, after adjacent and overlapping networks are merged.
    """

    name: str
    ranges: int
    source: str
    date: datetime.date
    licence: str
    owner: Owner

    def age_days(self, today: datetime.date) -> int:
        """Returns the age of the list in days."""
        return max(0, (today - self.date).days)


@dataclass(frozen=True, slots=True)
class Networks:
    """All lists, in memory.

    lists: their descriptions, sorted by name. version: eight hexadecimal digits that change whenever a
    network is added to a list or removed: `"5c1f09ab"`. stamp: the stamp of the files when they were read.
    """

    lists: tuple[NetworkList, ...]
    version: str
    stamp: Stamp
    _directories: _Directories = field(repr=False)
    _v4: _Edges = field(repr=False)
    _v6: _Edges = field(repr=False)

    @classmethod
    def load(cls, own: Path | None = None, refreshed: Path | None = None) -> Networks:
        """Returns all lists. own, refreshed: directories of the operator's lists and of refreshed lists.

        Raises NetworksError for the first list that cannot be used. A refreshed list that cannot be used is
        left out, and the error is logged.
        """
        directories = own, refreshed
        stamp = _stamp(directories)
        digest = hashlib.blake2b(digest_size=4)
        lists = []
        ranges: dict[Family, dict[str, list[Range]]] = {4: {}, 6: {}}
        for name in list_names():
            read = _read_first(name, directories)
            lists.append(read.description)
            ranges[4][name], ranges[6][name] = read.ranges[4], read.ranges[6]
            digest.update(read.digest)
        version = digest.hexdigest()
        return cls(tuple(lists), version, stamp, directories, _edges(ranges[4]), _edges(ranges[6]))

    def have_changed(self) -> bool:
        """Returns whether the files have changed since they were read. Calls stat on each file.

        Raises NetworksError if stat fails.
        """
        return _stamp(self._directories) != self.stamp

    def reloaded(self) -> Networks:
        """Returns all lists, read from the same directories again. Raises NetworksError as `load` does."""
        return Networks.load(*self._directories)

    def names(self, address: bytes) -> tuple[str, ...]:
        """Returns the names of the lists that hold an address of 4 or 16 bytes, sorted.

        An IPv4-mapped address counts as IPv4. Returns () for b"".
        """
        size = len(address)
        if size == 4 or (size == 16 and address.startswith(MAPPED)):
            edges, sets = self._v4
            return sets[bisect_right(edges, int.from_bytes(address[-4:], "big"))]
        if size == 16:
            edges, sets = self._v6
            return sets[bisect_right(edges, int.from_bytes(address, "big"))]
        return ()


def load_networks(settings: Settings) -> Networks:
    """Returns all lists of a data directory. Raises NetworksError if one of them cannot be used."""
    return Networks.load(settings.networks_directory, settings.refreshed_networks_directory)


@cache
def list_names() -> tuple[str, ...]:
    """Returns the names of all lists, sorted."""
    return tuple(sorted(path.stem for path in SHIPPED.glob("*.txt")))


def list_times(settings: Settings) -> dict[str, float]:
    """Returns the date of each list in seconds since 1970, by name. Reads only the heads of the files.

    Leaves out a list without a date. Raises OSError.
    """
    times = {}
    directories = settings.networks_directory, settings.refreshed_networks_directory
    for name in list_names():
        path, _ = next(_files(name, directories))
        with path.open(encoding="utf-8-sig") as file:
            for line in itertools.takewhile(lambda line: line.startswith("#"), file):
                match = _HEAD.match(line.strip())
                if match and match[1] == "date":
                    with contextlib.suppress(ValueError):
                        day = _parse_day(match[2])
                        times[name] = datetime.datetime(
                            day.year, day.month, day.day, tzinfo=datetime.UTC
                        ).timestamp()
                    break
    return times


def parse_network(text: str) -> tuple[Family, int, int]:
    """Returns the family of a network or an address, and its first and last address as numbers.

    Raises ValueError if the text is not a network, or has bits set beyond its prefix length, which shows that
    the address or the length is mistyped.
    """
    address, slash, length = text.partition("/")
    try:
        packed = inet_pton(AF_INET6 if ":" in address else AF_INET, address)
    except (OSError, ValueError):
        raise ValueError(f"{text[:60]!r} is not a network") from None
    address_bits = len(packed) * 8
    prefix_bits = address_bits
    if slash:
        prefix_bits = int(length) if re.fullmatch("[0-9]{1,3}", length) else 999
    if prefix_bits > address_bits:
        raise ValueError(f"{text[:60]!r} is not a network")
    first = int.from_bytes(packed, "big")
    host_mask = (1 << (address_bits - prefix_bits)) - 1
    if first & host_mask:
        raise ValueError(f"{text[:60]!r} has bits set beyond its length")
    if address_bits == 32:
        return 4, first, first | host_mask
    if prefix_bits >= 96 and packed.startswith(MAPPED):
        return 4, first & 0xFFFFFFFF, (first | host_mask) & 0xFFFFFFFF
    return 6, first, first | host_mask


def merge_ranges(ranges: Iterable[Range]) -> list[Range]:
    """Returns the ranges sorted, after adjacent and overlapping ranges are merged."""
    merged: list[Range] = []
    start, end = -1, -2
    for first, last in sorted(ranges):
        if first > end + 1:
            if end >= start:
                merged.append((start, end))
            start, end = first, last
        elif last > end:
            end = last
    if end >= start:
        merged.append((start, end))
    return merged


_Directories = tuple[Path | None, Path | None]
"""Directories of the operator's lists and of refreshed lists. None stands for a directory that is not set."""


def _files(name: str, directories: _Directories) -> Iterator[tuple[Path, Owner]]:
    """Yields the files of a list that exist, with their owners. The first is the file to use."""
    own, refreshed = directories
    owners: tuple[tuple[Path | None, Owner], ...] = (
        *((own, "operator"), (refreshed, "refreshed")),
        (SHIPPED, "shipped"),
    )
    for directory, owner in owners:
        if directory is not None and (path := directory / f"{name}.txt").exists():
            yield path, owner


def _stamp(directories: _Directories) -> Stamp:
    """Returns the stamp of the files. Raises NetworksError if stat fails."""
    entries = []
    for directory in filter(None, directories):
        for name in list_names():
            path = directory / f"{name}.txt"
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise NetworksError(f"{path}: {error.strerror}") from None
            entries.append((str(path), status.st_mtime_ns, status.st_size))
    return tuple(entries)


class _ReadList(NamedTuple):
    """A list that was read. digest: of its networks, as they are written in the file."""

    description: NetworkList
    ranges: dict[Family, list[Range]]
    digest: bytes


def _read_first(name: str, directories: _Directories) -> _ReadList:
    """Returns the first list of this name, but leaves out a refreshed list that cannot be used.

    Raises NetworksError if a list of the operator, or a shipped list, cannot be used.
    """
    for path, owner in _files(name, directories):
        try:
            return _read_list(path, owner)
        except NetworksError as error:
            if owner != "refreshed":
                raise
            log.error(
                "networks-list-left-out",
                "this refreshed list of networks is left out: %(error)s",
                error=error,
            )
    raise NetworksError(f"{SHIPPED}: has no list {name!r}")


def _read_list(path: Path, owner: Owner) -> _ReadList:
    """Returns a list's description, merged ranges and digest. Raises NetworksError if it cannot be used."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise NetworksError(f"{path}: {error.strerror}") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise NetworksError(f"{path}:{number}: must be UTF-8 text") from None
    head: dict[str, str] = {}
    list_date: datetime.date | None = None
    digest = hashlib.blake2b(path.stem.encode(), digest_size=8)
    ranges: dict[Family, list[Range]] = {4: [], 6: []}
    for number, line in enumerate(text.split("\n"), 1):
        network, comment, _ = line.partition("#")
        try:
            if network := network.strip():
                family, first, last = parse_network(network)
                ranges[family].append((first, last))
                digest.update(network.encode() + b" ")
            elif comment and (match := _HEAD.match(line.strip())) and match[1] not in head:
                head[match[1]] = match[2]
                if match[1] == "date":
                    list_date = _parse_day(match[2])
        except ValueError as error:
            raise NetworksError(f"{path}:{number}: {error}") from None
    if not head.get("source") or list_date is None:
        missing = "# date: YYYY-MM-DD" if list_date is None else "# source: ..."
        raise NetworksError(f"{path}:1: its head has no line `{missing}`")
    ranges = {4: merge_ranges(ranges[4]), 6: merge_ranges(ranges[6])}
    count = len(ranges[4]) + len(ranges[6])
    description = NetworkList(path.stem, count, head["source"], list_date, head.get("licence", ""), owner)
    return _ReadList(description, ranges, digest.digest())


def _parse_day(text: str) -> datetime.date:
    if not re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        raise ValueError(f"{text[:60]!r} is not a date YYYY-MM-DD")
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a day") from None


def _edges(lists: Mapping[str, list[Range]]) -> _Edges:
    """Returns the edges of all lists together, so that one binary search answers for all lists.

    lists: merged ranges, by the list's name.
    """
    changes: defaultdict[int, int] = defaultdict(int)
    order = sorted(lists)
    for bit, name in enumerate(order):
        for first, last in lists[name]:
            changes[first] ^= 1 << bit
            changes[last + 1] ^= 1 << bit
    edges = sorted(changes)
    bits = 0
    sets: list[tuple[str, ...]] = [()]
    names_by_bits: dict[int, tuple[str, ...]] = {0: ()}
    for edge in edges:
        bits ^= changes[edge]
        if bits not in names_by_bits:
            names_by_bits[bits] = tuple(name for bit, name in enumerate(order) if bits >> bit & 1)
        sets.append(names_by_bits[bits])
    return edges, sets
