"""What Redis has acknowledged, on disk: so that a store that came back without it is noticed after a restart.

One file a producer, in the folder `acknowledged` of the data directory: `<producer>.ack`. Its head names the
format, the number of shards and the size of a ring. Each shard has a ring of records; the batch with the
sequence number n lies at place n modulo the size. A record is (sequence number, hits, check sum), so the
newest number and the hits of the batches before it can be read back, as far as the ring reaches.

A record reaches its file within FLUSH seconds, and the disk within SYNC seconds: what was acknowledged after
that is not remembered if the process is killed, or its machine. Files of producers that are older than Redis
remembers, and all but the newest MOST_FILES, are removed.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from pixel_server.store.store_mark import write_whole
from pixel_server.times import DAY

FORMAT = 1
FOLDER = "acknowledged"
GENERATIONS = "turns.json"
"""The file, in that folder, of the generations of the shards, which never fall."""
PLACES = 65_536
"""Records of a file, over all shards: 1 MB at most."""
MOST_FILES = 32
MOST_LAST = 4096
"""Pairs of a producer and a shard that are compared with the store; of more, those of new producers."""
DAYS = 29
"""Days after its last change until a file is removed. Redis forgets an idle producer after 30."""

_HEAD = struct.Struct(">8sIII")
_MAGIC = b"PXACKED\n"
_RECORD = struct.Struct(">QII")
_BODY = struct.Struct(">QI")
_name = re.compile(r"([0-9a-f]{28})\.ack").fullmatch


class Stored(NamedTuple):
    """A batch that Redis acknowledged. hits: how many it holds."""

    producer: str
    shard: int
    sequence: int
    hits: int


class Missing(NamedTuple):
    """Batches that were acknowledged and are not in the store: first to last, of one producer and shard.

    hits: how many at least. is_exact: whether that is all of them.
    """

    producer: str
    shard: int
    first: int
    last: int
    hits: int
    is_exact: bool


class Acknowledged:
    """The files of one data directory. Its methods may block and raise OSError; one thread at a time."""

    def __init__(self, data: Path, shards: int) -> None:
        self._folder = data / FOLDER
        self._shards = shards
        self._ring = max(64, PLACES // shards)
        self._open: dict[str, int] = {}
        self._unsynced: set[str] = set()
        self._generations: list[int] = []
        self.last: dict[tuple[str, int], int] = {}

    def note(self, stored: Sequence[tuple[str, int, int, int]]) -> None:
        """Writes a record of each (see Stored), unsynced: neighbours of a ring in one write."""
        rings: dict[tuple[str, int], list[tuple[int, int]]] = {}
        for producer, shard, sequence, hits in stored:
            rings.setdefault((producer, shard), []).append((sequence, hits))
        for key, batches in rings.items():
            self.last[key] = max(self.last.get(key, 0), batches[-1][0])
        if len(self.last) > MOST_LAST:
            for key in sorted(self.last)[: len(self.last) - MOST_LAST]:
                del self.last[key]
        for (producer, shard), batches in rings.items():
            file = self._file(producer)
            self._unsynced.add(producer)
            first, records = 0, bytearray()
            for sequence, hits in batches:
                if records and (
                    sequence != first + len(records) // _RECORD.size or not sequence % self._ring
                ):
                    os.pwrite(file, records, self._place(shard, first))
                    records.clear()
                first = first if records else sequence
                body = _BODY.pack(sequence, hits)
                records += body + crc32(body).to_bytes(4, "big")
            os.pwrite(file, records, self._place(shard, first))

    def sync(self, generations: list[int]) -> None:
        """Syncs what was written, and keeps the generations of the shards, if any is new."""
        if generations and generations != self._generations and self._open:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            content = json.dumps({"format": FORMAT, "turns": generations}).encode()
            write_whole(self._folder / GENERATIONS, content)
            self._generations = list(generations)
        for producer in list(self._unsynced):
            os.fsync(self._file(producer))
            self._unsynced.discard(producer)

    def read_generations(self) -> list[int]:
        """Returns the generations of the shards as `sync` kept them, [] if no file can be read."""
        try:
            held = json.loads((self._folder / GENERATIONS).read_bytes())
            return [int(n) for n in held["turns"]] if held["format"] == FORMAT else []
        except (OSError, ValueError, KeyError, TypeError):
            return []

    def close(self, generations: list[int]) -> None:
        with contextlib.suppress(OSError):
            self.sync(generations)
        for file in self._open.values():
            os.close(file)
        self._open.clear()

    def missing(self, producer: str, shard: int, seen: int, last: int) -> Missing:
        """Returns the batches after `seen`, up to `last`, with their hits as far as the ring knows them."""
        hits = known = 0
        with contextlib.suppress(OSError):
            file = self._file(producer)
            for sequence in range(max(seen + 1, last - self._ring + 1), last + 1):
                found = _record(os.pread(file, _RECORD.size, self._place(shard, sequence)))
                if found is not None and found[0] == sequence:
                    hits += found[1]
                    known += 1
        return Missing(producer, shard, seen + 1, last, hits, known == last - seen)

    def read(self) -> dict[tuple[str, int], int]:
        """Returns the newest sequence number by producer and shard, of all files; tidies the folder."""
        found: dict[tuple[str, int], int] = {}
        for path in self._tidy():
            with contextlib.suppress(OSError):
                content = path.read_bytes()
                head = _HEAD.unpack_from(content) if len(content) >= _HEAD.size else None
                if head != (_MAGIC, FORMAT, self._shards, self._ring):
                    continue
                producer = path.stem
                for shard in range(self._shards):
                    start = self._place(shard, 0)
                    ring = content[start : start + self._ring * _RECORD.size]
                    newest = 0
                    for at in range(0, len(ring) - _RECORD.size + 1, _RECORD.size):
                        sequence = int.from_bytes(ring[at : at + 8], "big")
                        if sequence > newest and _record(ring[at : at + _RECORD.size]) is not None:
                            newest = sequence
                    if newest:
                        found[producer, shard] = newest
        return found

    def _tidy(self) -> list[Path]:
        """Removes files that are too old or too many; returns the others."""
        if not self._folder.is_dir():
            return []
        files = sorted(path for path in self._folder.iterdir() if _name(path.name))
        newest = max((path.stat().st_mtime for path in files), default=0.0)
        kept = []
        for place, path in enumerate(reversed(files)):
            if place >= MOST_FILES or path.stat().st_mtime < newest - DAYS * DAY:
                path.unlink(missing_ok=True)
            else:
                kept.append(path)
        return kept

    def _place(self, shard: int, sequence: int) -> int:
        return _HEAD.size + (shard * self._ring + sequence % self._ring) * _RECORD.size

    def _file(self, producer: str) -> int:
        file = self._open.get(producer)
        if file is None:
            if len(self._open) >= 8:
                oldest = min(self._open)
                os.fsync(self._open[oldest])
                os.close(self._open.pop(oldest))
                self._unsynced.discard(oldest)
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._tidy()
            file = os.open(self._folder / f"{producer}.ack", os.O_RDWR | os.O_CREAT, 0o600)
            os.pwrite(file, _HEAD.pack(_MAGIC, FORMAT, self._shards, self._ring), 0)
            self._open[producer] = file
        return file


def _record(content: bytes) -> tuple[int, int] | None:
    if len(content) < _RECORD.size:
        return None
    sequence, hits, check = _RECORD.unpack(content)
    return (sequence, hits) if check == crc32(content[:12]) and sequence else None
