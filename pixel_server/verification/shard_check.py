"""Checks what a shard holds besides the counts of campaigns: checkpoint and stream, producers, visits."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import msgspec

from pixel_server.counters import visits
from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis, Fields

_decode_visit = msgspec.msgpack.Decoder(tuple[int, visits.Entry]).decode
_is_entry_id = re.compile(rb"\d+-\d+").fullmatch
_is_mark = re.compile(rb"[0-9a-f]{16}").fullmatch


async def check(store: AsyncRedis, shard: int, store_mark: bytes) -> list[str]:
    """Returns the faults of a shard. store_mark: the mark in the record of the store."""
    pipe = store.pipeline(transaction=True)
    pipe.hgetall(keys.checkpoint(shard))
    pipe.xrange(keys.hits(shard), "-", "+", 1)
    pipe.hgetall(keys.visits(shard))
    pipe.execute_command("ZRANGE", keys.visit_times(shard), 0, -1)
    pipe.hgetall(keys.visiting(shard))
    pipe.hmget(keys.producers(shard), ["mark"])
    checkpoint, first, visit_fields, timed, visiting, (mark,) = await pipe.execute()
    faults = list(_checkpoint_faults(shard, checkpoint, first[0][0] if first else None))
    faults += _visit_faults(shard, visit_fields, set(timed), visiting)
    if mark != store_mark:
        faults.append(f"{keys.producers(shard)} has the mark {mark!r}, the store has {store_mark!r}")
    return faults


def _checkpoint_faults(shard: int, checkpoint: Fields, first_entry: bytes | None) -> Iterator[str]:
    """Yields the faults of a checkpoint. first_entry: id of the oldest entry in the stream."""
    name, last = keys.checkpoint(shard), checkpoint.get(b"id", b"0-0")
    for field in (b"n", b"newest"):
        if not checkpoint.get(field, b"0").isdigit():
            yield f"{name} has {field.decode()} {checkpoint[field]!r:.40}, which is not a number"
    if not _is_mark(checkpoint.get(b"mark", b"0" * 16)):
        yield f"{name} has the mark {checkpoint[b'mark']!r:.40}, which is not 16 hexadecimal digits"
    if not _is_entry_id(last):
        yield f"{name} has the id {last!r:.40}, which is not the id of an entry"
    elif first_entry is not None and _number(first_entry) <= _number(last):
        yield (
            f"{keys.hits(shard)} begins with the entry {first_entry.decode()}, which the checkpoint "
            f"{last.decode()} says is counted"
        )


def _number(entry: bytes) -> tuple[int, int]:
    ms, _, number = entry.partition(b"-")
    return int(ms), int(number)


def _visit_faults(shard: int, fields: Fields, timed: set[bytes], visiting: Fields) -> Iterator[str]:
    """Yields the differences between visits, their times and their numbers by campaign."""
    under_way = set()
    for field, value in fields.items():
        try:
            entry = _decode_visit(value)[1]
        except msgspec.MsgspecError:
            continue  # `stored_values` reports it
        if isinstance(entry, visits.Visit):
            under_way.add(field)
        elif entry not in fields:
            yield f"{keys.visits(shard)} has the alias {field!r:.60} of a visit that is not there"
    if under_way != timed:
        count = len(under_way ^ timed)
        yield f"{keys.visits(shard)} and {keys.visit_times(shard)} differ in {count} visits"
    counted = Counter(visits.campaign_of(field) for field in under_way)
    for campaign in sorted(counted.keys() | visiting.keys()):
        stored = visiting.get(campaign, b"0")
        if stored != b"%d" % counted[campaign]:
            yield (
                f"{keys.visiting(shard)} counts {stored.decode(errors='replace')} visits of "
                f"{campaign.decode(errors='replace')}, there are {counted[campaign]}"
            )
