"""The bytes of a segment: packs batches into records, and finds records, damage and torn tails.

The package's docstring specifies the format.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from pixel_server.collect.batch import Batch

FORMAT = 1
MAGIC = b"PXSPOOL\n"
MARKER = b"\xffHIT"
HEAD = struct.Struct(">8sIQI")
RECORD = struct.Struct(">4sIII")
"""Head of a record."""
PAYLOAD = struct.Struct(">BHIQB")
"""Head of a payload."""
TORN = "torn"
"""The fault of a piece that is a torn tail."""


class NewerFormat(Exception):
    """A segment or record has a later format. It stays on disk, with all later records of its writer."""

    is_loggable = True


class Segment(NamedTuple):
    """A segment's writer and number. Segments sort by the age of the writer, then by number."""

    writer: str
    number: int

    @property
    def name(self) -> str:
        return f"{self.writer}-{self.number:08d}.seg"

    @property
    def seed(self) -> int:
        """The initial value of every checksum of this segment: the CRC-32 of its name."""
        return zlib.crc32(self.name.encode())

    @property
    def writer_begun_ms(self) -> int:
        """Milliseconds since 1970 at which the writer was named."""
        return int(self.writer[:12], 16)


class Survey(NamedTuple):
    """A segment in numbers. begun_ms: ms at which it was begun. hits: number of its hits.

    is_newer: whether the segment has a record of a newer format. Hits from there on are not counted.
    """

    begun_ms: int
    hits: int
    is_newer: bool


class Piece(NamedTuple):
    """Bytes `start` to `end` of a segment. fault: why they are not a good head or record, "" if they are."""

    start: int
    end: int
    fault: str


def pack_head(begun_ms: int, seed: int) -> bytes:
    """Returns the head of a segment."""
    return _with_checksum(HEAD.pack(MAGIC, FORMAT, begun_ms, 0), seed)


def pack_record(payload: bytes, seed: int) -> bytes:
    """Returns a record with this payload."""
    head = RECORD.pack(MARKER, len(payload), zlib.crc32(payload, seed), 0)
    return _with_checksum(head, seed) + payload


def pack_payload(batch: Batch) -> bytes:
    """Returns the payload of a batch's record."""
    producer = batch.producer.encode()
    head = PAYLOAD.pack(FORMAT, batch.shard, batch.hits, batch.sequence, len(producer))
    return head + producer + batch.data


def unpack_payload(payload: bytes) -> Batch:
    """Returns the batch of a good payload."""
    _, shard, _, sequence, length = PAYLOAD.unpack_from(payload)
    data = PAYLOAD.size + length
    return Batch(shard, payload[PAYLOAD.size : data].decode(), sequence, payload[data:])


def shard_of(payload: bytes) -> int:
    """Returns the shard of a payload."""
    shard: int = PAYLOAD.unpack_from(payload)[1]
    return shard


def count_hits(payload: bytes) -> int:
    """Returns the number of hits that the head of a payload states."""
    hits: int = PAYLOAD.unpack_from(payload)[2]
    return hits


def pieces(data: bytes, seed: int) -> Iterator[Piece]:
    """Yields all bytes of a segment in pieces: its head, then its records, with faulty bytes between them."""
    start = 0
    while start < len(data):
        end, fault = _piece(data, start, seed)
        if fault:
            end = data.find(MARKER, start + 1)
            while end >= 0 and _piece(data, end, seed)[1]:
                end = data.find(MARKER, end + 1)
            if end >= 0 and fault == TORN:
                fault = "cut short"
            end = end if end >= 0 else len(data)
        yield Piece(start, end, fault)
        start = end


def is_known_format(data: bytes, start: int) -> bool:
    """Returns whether this version knows the format of the good piece at `start`: the head or a record."""
    return (data[start + RECORD.size] if start else HEAD.unpack_from(data)[1]) == FORMAT


def begun_ms(head: bytes, segment: Segment) -> int:
    """Returns the ms at which a segment was begun: from its head, or from its name if the head is damaged."""
    if is_good_head(head, HEAD, MAGIC, segment.seed):
        return int(HEAD.unpack(head)[2])
    return segment.writer_begun_ms


def survey(file: BinaryIO, segment: Segment, size: int) -> Survey:
    """Reads only the heads of a segment and of its records.

    Stops at the first damaged record, so later hits are not counted. size: bytes of the file.
    """
    head = file.read(HEAD.size)
    begun = begun_ms(head, segment)
    if not is_good_head(head, HEAD, MAGIC, segment.seed):
        return Survey(begun, 0, False)
    if HEAD.unpack(head)[1] != FORMAT:
        return Survey(begun, 0, True)
    hits, offset = 0, HEAD.size
    while is_good_head(head := file.read(RECORD.size), RECORD, MARKER, segment.seed):
        payload = file.read(PAYLOAD.size)
        offset += RECORD.size + RECORD.unpack(head)[1]
        if offset > size:
            break
        if payload[0] != FORMAT:
            return Survey(begun, hits, True)
        hits += count_hits(payload)
        file.seek(offset)
    return Survey(begun, hits, False)


def is_good_head(head: bytes, layout: struct.Struct, magic: bytes, seed: int) -> bool:
    """Returns whether the head of a segment or record is whole, and its checksum right."""
    is_whole = len(head) == layout.size and head.startswith(magic)
    return is_whole and zlib.crc32(head[:-4], seed) == int.from_bytes(head[-4:], "big")


def _piece(data: bytes, start: int, seed: int) -> tuple[int, str]:
    """Returns (end of the head or record at `start`, its fault, which is "" if it is good)."""
    layout, magic = (RECORD, MARKER) if start else (HEAD, MAGIC)
    body = start + layout.size
    if body > len(data):
        return len(data), TORN
    if not is_good_head(data[start:body], layout, magic, seed):
        return body, "no good head"
    if not start:
        return body, ""
    _, length, checksum, _ = RECORD.unpack_from(data, start)
    if body + length > len(data):
        return len(data), TORN
    is_good = zlib.crc32(data[body : body + length], seed) == checksum
    return body + length, "" if is_good else "wrong checksum"


def _with_checksum(head: bytes, seed: int) -> bytes:
    """Returns a head whose last four bytes are replaced by the checksum of the other bytes."""
    return head[:-4] + zlib.crc32(head[:-4], seed).to_bytes(4, "big")
