"""Named lists of IP networks: whose machine an address is.

A list is a file NAME.txt, UTF-8. Its head says where it is from, from which day, and under which licence:

    # source: https://...
    # date: 2026-06-17
    # licence: CC BY 4.0

Then one network a line (`192.0.2.0/24`, `2001:db8::/32`, or one address); what follows a `#` is a comment.
The lists are those in `data/networks`, each replaced by the operator's file of that name in
`<PIXEL_DATA_DIR>/networks`, if there is one.
"""

from __future__ import annotations

import datetime
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from socket import AF_INET, AF_INET6, inet_pton
from typing import Literal

from pixel_server.addresses import MAPPED

SHIPPED = Path(__file__).parent / "data" / "networks"

_HEAD = re.compile(r"#\s*(source|date|licence):\s*(.*)")

Family = Literal[4, 6]
Range = tuple[int, int]
"""First and last address as numbers, both in it."""

Stamp = tuple[tuple[str, int, int], ...]
"""(name, mtime in ns, size in bytes) of each of the operator's files."""

_Edges = tuple[list[int], list[tuple[str, ...]]]
"""Where the lists that hold an address change, and which hold it: before the first edge, from it on, ..."""


class NetworksError(ValueError):
    """A list that cannot be used; the message is one line that names the file, and the line in it."""


@dataclass(frozen=True, slots=True)
class NetworkList:
    """What is known of a list. ranges: how many, those that touch being one. own: the operator's."""

    name: str
    ranges: int
    source: str
    date: datetime.date
    licence: str
    own: bool

    def days(self, today: datetime.date) -> int:
        """Its age."""
        return max(0, (today - self.date).days)


@dataclass(frozen=True, slots=True)
class Networks:
    """All lists, in memory. lists: by name. stamp: of the operator's files as they were read."""

    lists: tuple[NetworkList, ...]
    stamp: Stamp
    _directory: Path | None = field(repr=False)
    _v4: _Edges = field(repr=False)
    _v6: _Edges = field(repr=False)

    @classmethod
    def load(cls, directory: Path | None = None) -> Networks:
        """Those shipped, and the operator's in their place. NetworksError: the first that cannot be used."""
        stamp = _stamp(directory)
        own = {name for name, _, _ in stamp}
        lists = []
        ranges: dict[Family, dict[str, list[Range]]] = {4: {}, 6: {}}
        for name in shipped():
            home = directory if directory and name in own else SHIPPED
            about, found = _read(home / f"{name}.txt", name in own)
            lists.append(about)
            ranges[4][name], ranges[6][name] = found[4], found[6]
        return cls(tuple(lists), stamp, directory, _edges(ranges[4]), _edges(ranges[6]))

    def changed(self) -> bool:
        """Whether the operator's files are others by now; a stat of each. NetworksError: not to be told."""
        return _stamp(self._directory) != self.stamp

    def names(self, address: bytes) -> tuple[str, ...]:
        """The lists that hold it, sorted. address: 4 or 16 bytes; an IPv4-mapped one is IPv4. b"": none."""
        size = len(address)
        if size == 4 or (size == 16 and address.startswith(MAPPED)):
            edges, names = self._v4
            return names[bisect_right(edges, int.from_bytes(address[-4:], "big"))]
        if size == 16:
            edges, names = self._v6
            return names[bisect_right(edges, int.from_bytes(address, "big"))]
        return ()


@cache
def shipped() -> tuple[str, ...]:
    """The names of all lists, sorted."""
    return tuple(sorted(path.stem for path in SHIPPED.glob("*.txt")))


def parse(text: str) -> tuple[Family, int, int]:
    """A network or an address: (4 or 6, first, last).

    ValueError: it is none, or it has bits set beyond its length, so that one of the two is a slip.
    """
    address, slash, length = text.partition("/")
    try:
        packed = inet_pton(AF_INET6 if ":" in address else AF_INET, address)
    except (OSError, ValueError):
        raise ValueError(f"{text[:60]!r} is not a network") from None
    size = len(packed) * 8
    bits = size
    if slash:
        bits = int(length) if re.fullmatch("[0-9]{1,3}", length) else 999
    if bits > size:
        raise ValueError(f"{text[:60]!r} is not a network")
    first = int.from_bytes(packed, "big")
    rest = (1 << (size - bits)) - 1
    if first & rest:
        raise ValueError(f"{text[:60]!r} has bits set beyond its length")
    if size == 32:
        return 4, first, first | rest
    if bits >= 96 and packed.startswith(MAPPED):
        return 4, first & 0xFFFFFFFF, (first | rest) & 0xFFFFFFFF
    return 6, first, first | rest


def merge(ranges: Iterable[Range]) -> list[Range]:
    """Sorted, and those that overlap or touch made one."""
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


def _stamp(directory: Path | None) -> Stamp:
    found = []
    if directory is None:
        return ()
    for name in shipped():
        path = directory / f"{name}.txt"
        try:
            about = path.stat()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise NetworksError(f"{path}: {error.strerror}") from None
        found.append((name, about.st_mtime_ns, about.st_size))
    return tuple(found)


def _read(path: Path, own: bool) -> tuple[NetworkList, dict[Family, list[Range]]]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise NetworksError(f"{path}: {error.strerror}") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise NetworksError(f"{path}:{line}: must be UTF-8 text") from None
    head: dict[str, str] = {}
    day: datetime.date | None = None
    found: dict[Family, list[Range]] = {4: [], 6: []}
    for number, written in enumerate(text.split("\n"), 1):
        network, comment, _ = written.partition("#")
        try:
            if network := network.strip():
                family, first, last = parse(network)
                found[family].append((first, last))
            elif comment and (match := _HEAD.match(written.strip())) and match[1] not in head:
                head[match[1]] = match[2]
                if match[1] == "date":
                    day = _day(match[2])
        except ValueError as error:
            raise NetworksError(f"{path}:{number}: {error}") from None
    if not head.get("source") or day is None:
        lacks = "# date: YYYY-MM-DD" if day is None else "# source: ..."
        raise NetworksError(f"{path}:1: its head has no line `{lacks}`")
    found = {4: merge(found[4]), 6: merge(found[6])}
    ranges = len(found[4]) + len(found[6])
    return NetworkList(path.stem, ranges, head["source"], day, head.get("licence", ""), own), found


def _day(text: str) -> datetime.date:
    if not re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        raise ValueError(f"{text[:60]!r} is not a date YYYY-MM-DD")
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a day") from None


def _edges(lists: Mapping[str, list[Range]]) -> _Edges:
    """lists: merged ranges by name. One search through the edges then answers for all lists."""
    turns: defaultdict[int, int] = defaultdict(int)
    order = sorted(lists)
    for bit, name in enumerate(order):
        for first, last in lists[name]:
            turns[first] ^= 1 << bit
            turns[last + 1] ^= 1 << bit
    edges = sorted(turns)
    held = 0
    names: list[tuple[str, ...]] = [()]
    known: dict[int, tuple[str, ...]] = {0: ()}
    for edge in edges:
        held ^= turns[edge]
        if held not in known:
            known[held] = tuple(name for bit, name in enumerate(order) if held >> bit & 1)
        names.append(known[held])
    return edges, names
