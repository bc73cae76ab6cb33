"""Traces of the hits of the last minutes, by which the roll-up recognises a burst (`workers.bursts`).

Each shard has one Redis hash for each minute of hit time. A field names recipient and campaign, see `field`.
A value is msgpack of [format, traces]. A hash is removed when it is KEPT_MINUTES behind the newest hit of the
shard. The clock does not matter: a roll-up that runs late has the same traces as a roll-up on time. If no hit
is counted for a day, retention removes all traces of the shard, even if the stream holds hits that are not
counted yet.

A trace holds no address, only a keyed hash of 4 bytes that differs from recipient to recipient.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from pixel_server.counters.stored_format import refuse_newer
from pixel_server.store import keys
from pixel_server.store.checkpoint import Command
from pixel_server.store.protocols import Pipeline
from pixel_server.store.readers import Reader

FORMAT = 1
MINUTE_MS = 60_000
KEPT_MINUTES = 5
SCANNER, PERSON, UNKNOWN, APART = 0, 1, 2, 3
"""Kinds of traces. SCANNER, PERSON, UNKNOWN: the hit is counted as such. APART: the open is counted as a
person's, and cannot be part of a burst. Stored in traces: append only."""

_FIELDS_PER_COMMAND = 1000


class Trace(msgspec.Struct, array_like=True, gc=False):
    """The trace of one hit. at: ms since its minute began. address: hash of the address. kind: such as
    PERSON. rule, labels: id of the rule and labels under which the hit is counted. delay: bin of the time
    from sending to the open (`histogram.delay_bin`), 0 if unknown. link: a number that differs for each link
    of the recipient in the campaign. source: hash of the address and the agent if the hit came at delivery
    (`classify.rules.is_at_delivery`), else 0. A trace of kind APART has only its time and delay.

    Append only: stored traces are read by the position of each field. Add a field at the end, with a default.
    """

    at: int
    address: int
    kind: int
    rule: str
    is_open: bool
    delay: int
    labels: tuple[str, ...]
    link: int = 0
    source: int = 0


Traces = dict[bytes, dict[int, list[Trace]]]
"""Traces by field, then by minute since 1970."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, list[Trace]]).decode


def field(recipient: bytes, campaign: str) -> bytes:
    """Returns the field of a recipient's traces: `b"8 bytes!spring"`. recipient: 8 bytes."""
    return recipient + campaign.encode()


def kept_minutes(newest_ms: int) -> range:
    """Returns the minutes since 1970 whose traces are kept. newest_ms: time of the shard's newest hit."""
    last = newest_ms // MINUTE_MS
    return range(last - KEPT_MINUTES, last + 1)


def forget_commands(shard: int, newest_ms: int) -> list[Command]:
    """Returns the commands that remove the traces, the visits and the time of the newest hit of a shard."""
    key_names = [keys.evidence(shard, minute) for minute in kept_minutes(newest_ms)]
    key_names += [keys.visits(shard), keys.visit_times(shard), keys.visiting(shard)]
    return [*(("UNLINK", key) for key in key_names), ("HDEL", keys.checkpoint(shard), "newest")]


def read_traces(pipe: Pipeline, shard: int, fields: dict[int, set[bytes]], traces: Traces) -> Reader[None]:
    """Adds the stored traces of `fields` to `traces`. fields: by minute since 1970. Raises NewerFormat."""
    requests: list[tuple[int, list[bytes]]] = []
    for minute, fields_of_minute in sorted(fields.items()):
        traces_fields = list(fields_of_minute)
        for i in range(0, len(traces_fields), _FIELDS_PER_COMMAND):
            requests.append((minute, traces_fields[i : i + _FIELDS_PER_COMMAND]))
            pipe.hmget(keys.evidence(shard, minute), requests[-1][1])
    replies = (yield) if requests else []
    for (minute, traces_fields), values in zip(requests, replies, strict=True):
        for traces_field, value in zip(traces_fields, values, strict=True):
            if value is not None:
                refuse_newer(value, FORMAT, "evidence")
                traces.setdefault(traces_field, {})[minute] = _decode(value)[1]


def store_commands(shard: int, traces: Traces, changed: Iterable[tuple[int, bytes]]) -> Iterator[Command]:
    """Yields the commands that store the changed traces. changed: (minute, field) of each change."""
    by_minute: dict[int, list[bytes]] = {}
    for minute, traces_field in changed:
        by_minute.setdefault(minute, []).extend(
            (traces_field, _encode((FORMAT, traces[traces_field][minute])))
        )
    for minute, fields_and_values in by_minute.items():
        for i in range(0, len(fields_and_values), _FIELDS_PER_COMMAND):
            yield ("HSET", keys.evidence(shard, minute), *fields_and_values[i : i + _FIELDS_PER_COMMAND])
