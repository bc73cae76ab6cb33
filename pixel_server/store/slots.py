"""The slots of a cluster: which node holds which keys.

A cluster divides all keys into 16,384 slots and gives each slot to one primary. The keys of one tag, such as
`{all}` or `{12}`, are in one slot. Each node answers `CLUSTER SLOTS` and `CLUSTER NODES` with its own view. A
node that was cut off from the others has an old view. So a client asks several nodes, and `SlotMap` takes
each slot from the view with the highest epoch. The cluster itself decides in the same way.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from pixel_server.store_url import Address

SLOTS = 16384
"""Number of slots of every cluster."""


class SlotRange(NamedTuple):
    """The slots from `first` to `last`, which `primary` holds since the epoch."""

    first: int
    last: int
    primary: Address
    replicas: tuple[Address, ...]
    epoch: int


def slot_of(key: str | bytes) -> int:
    """Returns the slot of a key. Only the key's tag counts: `{12}` in `px:{12}:hits`."""
    name = key.encode() if isinstance(key, str) else key
    begin = name.find(b"{") + 1
    end = name.find(b"}", begin) if begin else -1
    return crc_hqx(name[begin:end] if end > begin else name, 0) % SLOTS


def slot_of_shard(shard: int) -> int:
    """Returns the slot that holds all keys of a shard."""
    return crc_hqx(b"%d" % shard, 0) % SLOTS


class SlotMap:
    """The primary and the replicas of each slot. If ranges overlap, the highest epoch wins.

    Two maps are equal if they name the same nodes for each slot.
    """

    def __init__(self, ranges: Iterable[SlotRange] = ()) -> None:
        self._ranges: list[SlotRange | None] = [None] * SLOTS
        for slots in sorted(ranges, key=lambda slots: slots.epoch):
            self._ranges[slots.first : slots.last + 1] = [slots] * (slots.last + 1 - slots.first)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SlotMap) and self._nodes() == other._nodes()

    __hash__ = None  # type: ignore[assignment]  # it changes, see `note_moved`

    def primary(self, slot: int) -> Address | None:
        """Returns the address of the slot's primary. Returns None if no node has the slot."""
        holder = self._ranges[slot]
        return None if holder is None else holder.primary

    def replicas(self, slot: int) -> tuple[Address, ...]:
        """Returns the addresses of the replicas of the slot's primary."""
        holder = self._ranges[slot]
        return () if holder is None else holder.replicas

    @property
    def primaries(self) -> tuple[Address, ...]:
        """Returns the addresses of all primaries that have slots, in the order of their slots."""
        return tuple(dict.fromkeys(slots.primary for slots in self._distinct()))

    @property
    def all_replicas(self) -> tuple[Address, ...]:
        """Returns the addresses of all replicas."""
        return tuple(dict.fromkeys(address for slots in self._distinct() for address in slots.replicas))

    @property
    def is_whole(self) -> bool:
        """Returns whether each slot has a primary."""
        return None not in self._ranges

    def note_moved(self, slot: int, address: Address) -> None:
        """Notes that a node said that `address` has the slot now (`MOVED 866 10.0.0.1:7000`)."""
        known = next((slots for slots in self._distinct() if slots.primary == address), None)
        former = self._ranges[slot]
        replicas = known.replicas if known is not None else ()
        self._ranges[slot] = SlotRange(slot, slot, address, replicas, former.epoch if former else 0)

    def _distinct(self) -> Iterator[SlotRange]:
        """Yields each range once, in the order of its slots."""
        former: SlotRange | None = None
        for slots in self._ranges:
            if slots is not None and slots is not former:
                yield slots
            former = slots

    def _nodes(self) -> list[tuple[Address, tuple[Address, ...]] | None]:
        return [None if slots is None else (slots.primary, slots.replicas) for slots in self._ranges]


def parse_ranges(slots: Sequence[Any], nodes: bytes, asked: Address) -> list[SlotRange]:
    """Returns the ranges of one node's view. Pass the ranges of several nodes to one `SlotMap`.

    slots: the reply to `CLUSTER SLOTS`, which names each node as clients should connect to it. nodes: the
    reply to `CLUSTER NODES`, which has the epochs. asked: the address of the node that replied.
    """
    epochs = _parse_epochs(nodes)
    ranges = []
    for first, last, primary, *replicas in slots:
        addresses = tuple(_parse_endpoint(node, asked) for node in replicas)
        ranges.append(
            SlotRange(first, last, _parse_endpoint(primary, asked), addresses, epochs.get(primary[2], 0))
        )
    return ranges


def _parse_epochs(nodes: bytes) -> dict[bytes, int]:
    """Returns the epoch of each node, by the node's id.

    A line is `ID 10.0.0.1:7000@17000 master - 0 1790000000000 3 connected 0-5460`, with the epoch 3.
    """
    lines = (line.split() for line in nodes.splitlines())
    return {words[0]: int(words[6]) for words in lines if len(words) > 6}


def _parse_endpoint(node: Sequence[Any], asked: Address) -> Address:
    """Returns the address in a node of `CLUSTER SLOTS`: `[host, port, id, ...]`.

    The host is None or empty if clients should use the host that they know, and "?" if it is not known.
    """
    host = node[0].decode() if node[0] else ""
    return host if host not in ("", "?") else asked[0], int(node[1])
