"""Checks each key by itself: that its kind is known, its type is right, and its values can be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import redis

from pixel_server import hit
from pixel_server.campaigns import campaign
from pixel_server.classify import network_store
from pixel_server.classify.network_feeds import PUBLISHED
from pixel_server.counters import (
    burst_window,
    delivery_record,
    open_breakdown,
    recipient_record,
    series,
    visit_sample,
    visits,
    web_breakdown,
)
from pixel_server.recipients import consents, lists, withdrawals
from pixel_server.store import keys
from pixel_server.store.key import CampaignBucketKey, CampaignDayKey, CampaignKey, Key, RedisType
from pixel_server.store.shards import shard_of
from pixel_server.webhooks import endpoint, event, queue

Decode = Callable[[bytes], object]
"""Decodes a value. Raises an exception if this version cannot read the value."""

UNREADABLE = (ValueError, TypeError, LookupError, msgspec.MsgspecError, redis.ResponseError)
"""Errors of the other checks when they meet a value that this module reports."""

_decode_traces = msgspec.msgpack.Decoder(tuple[int, list[burst_window.Trace]]).decode
_decode_visit = msgspec.msgpack.Decoder(tuple[int, visits.Entry]).decode
_PLAIN_TYPES: Mapping[RedisType, bytes] = {"hll": b"string"}
"""Redis's own name of each type whose name differs from that in `keys`."""


def type_name(kind: Key) -> bytes:
    """Returns the type that Redis names for a key of this kind: `b"string"` for a HyperLogLog."""
    return _PLAIN_TYPES.get(kind.redis_type, kind.redis_type.encode())


def name_fault(name: str, shards: int) -> str:
    """Returns why no key of this version has this name, "" if one can."""
    kind = keys.kind_of(name)
    tag = name.partition("{")[2].partition("}")[0]
    if kind is None or not name.startswith(f"px:{{{tag}}}:"):
        return "is a key that this version does not know"
    if tag == "all":
        is_known = kind.pattern.startswith("px:{all}:") or _is_merged(kind)
        return "" if is_known else "is a key that this version does not know"
    if kind.pattern.startswith("px:{all}:") or not (tag.isdecimal() and str(int(tag)) == tag):
        return "is a key that this version does not know"
    return "" if int(tag) < shards else f"is of a shard that the store does not have (it has {shards})"


def value_faults(kind: Key, name: str, value: Any, shards: int) -> Iterator[str]:
    """Yields why values of a key cannot be read, or lie in the wrong place.

    value: as `copying.values` reads it.
    """
    if kind.redis_type == "hll":
        if value[:4] != b"HYLL":
            yield "is not a HyperLogLog"
        return
    decode = _DECODERS.get(kind.pattern)
    if kind.redis_type == "string":
        if decode is not None and (fault := _fault(decode, value)):
            yield fault
    elif kind.redis_type == "hash":
        yield from _hash_faults(kind, name, value, decode)
        if kind.pattern in _BY_RECIPIENT:
            yield from _place_faults(kind, name, value, shards)


def _hash_faults(kind: Key, name: str, fields: Mapping[bytes, bytes], decode: Decode | None) -> Iterator[str]:
    if kind is keys.campaign:
        if fault := _fault(lambda record: campaign.decode(record, name.split(":")[3]), fields.get(b"record")):
            yield fault
        return
    if kind.pattern == keys.NETWORKS:
        fields = {field: value for field, value in fields.items() if field in _LISTS}
    for field, value in fields.items():
        if decode is not None and (fault := _fault(decode, value)):
            yield f"has the field {field!r:.60}, which {fault}"


def _place_faults(kind: Key, name: str, fields: Mapping[bytes, bytes], shards: int) -> Iterator[str]:
    """Yields the recipients that are not in their own shard or bucket."""
    shard, last = int(name[len("px:{") : name.index("}")]), name.rpartition(":")[2]
    for field in fields:
        recipient = field[:8]
        if len(recipient) < 8 or shard_of(recipient, shards) != shard:
            yield f"holds the recipient {recipient.hex()}, who belongs to another shard"
        elif kind is not keys.evidence and f"{recipient_record.people_bucket(recipient):03x}" != last:
            yield f"holds the recipient {recipient.hex()}, who belongs to another bucket"


def entry_fault(kind: Key, fields: Mapping[bytes, bytes]) -> str:
    """Returns why an entry of a stream cannot be read, "" if it can."""
    if kind is keys.outbox or kind.pattern == keys.NOTICES:
        return _fault(event.decode, fields[b"event"]) if b"event" in fields else ""
    if kind is not keys.hits:
        return ""
    for field, data in fields.items():
        if field != b"%d" % hit.FORMAT:
            return f"is of format {field[:20]!r}, this version reads {hit.FORMAT}"
        if unreadable := hit.decode_batch(data)[1]:
            return f"cannot be read ({unreadable[0].reason:.80})"
    return ""


def _fault(decode: Decode, value: Any) -> str:
    try:
        decode(value)
    except Exception as error:  # a damaged value can raise any error
        return f"cannot be read ({error!s:.100})"
    return ""


def _decode_visit_or_alias(value: bytes) -> object:
    version, entry = _decode_visit(value)
    if version > visits.FORMAT:
        raise ValueError(f"visit of format {version}, this version reads {visits.FORMAT}")
    return entry


def _decode_evidence(value: bytes) -> object:
    version, traces = _decode_traces(value)
    if version > burst_window.FORMAT:
        raise ValueError(f"evidence of format {version}, this version reads {burst_window.FORMAT}")
    return traces


def _decode_producer(value: bytes) -> None:
    """Decodes a field of `keys.producers`: `b"17 1790000000000"`, or a mark, or a floor."""
    if b" " in value:
        for word in value.split(b" "):
            int(word)
    elif not value:
        raise ValueError("empty")


def _decode_day(value: bytes) -> None:
    if value:
        int(value)


_DECODERS: Mapping[str, Decode] = {
    keys.WITHDRAWN: withdrawals.parse_periods,
    keys.NETWORKS: network_store.unpack,
    keys.WEBHOOKS: endpoint.decode,
    keys.hook_events.pattern: lambda value: event.decode(value[queue.MARK_BYTES :]),
    keys.producers.pattern: _decode_producer,
    keys.visits.pattern: _decode_visit_or_alias,
    keys.visiting.pattern: int,
    keys.drops.pattern: int,
    keys.evidence.pattern: _decode_evidence,
    keys.last.pattern: recipient_record.unpack_day,
    keys.total.pattern: int,
    keys.rules.pattern: int,
    keys.breakdown.pattern: open_breakdown.unpack,
    keys.months.pattern: series.unpack,
    keys.web.pattern: web_breakdown.unpack,
    keys.sample.pattern: lambda value: value and visit_sample.unpack(value),  # a limit has no value
    keys.buckets.pattern: series.unpack,
    keys.people.pattern: recipient_record.unpack,
    keys.listed.pattern: _decode_day,
    keys.names.pattern: lists.unpack,
    keys.deliveries.pattern: delivery_record.unpack,
    keys.consents.pattern: consents.unpack,
}
"""Decoder of each value of a kind of key, by the kind's pattern."""
_BY_RECIPIENT = frozenset(
    key.pattern
    for key in (
        *(keys.last, keys.people, keys.listed, keys.names, keys.deliveries, keys.consents, keys.evidence),
    )
)
"""Patterns of the hashes whose fields begin with a recipient key."""
_LISTS = frozenset(name.encode() for name in PUBLISHED)
"""Fields of `keys.NETWORKS` that hold a list."""
MERGED_KINDS = ("total", "rules", "breakdown", "months", "addresses", "visitors", "web", "buckets")
"""Kinds of keys whose values are merged over all shards."""


def _is_merged(kind: Key) -> bool:
    return (
        isinstance(kind, CampaignKey | CampaignDayKey)
        and not isinstance(kind, CampaignBucketKey)
        and kind.kind_name in MERGED_KINDS
    )
