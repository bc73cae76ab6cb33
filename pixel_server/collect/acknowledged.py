"""Files that remember which batches Redis has acknowledged, so that a later loss is noticed after a restart.

The folder `acknowledged` of the data directory has one file a producer: `<producer>.ack`. The head of a file
names the format, the number of shards and the size of a ring. Each shard has a ring of records. The record of
the batch with the sequence number n lies at place n modulo the ring's size, and replaces the record of an
older batch. A record is (sequence number, number of hits, checksum). So a ring shows the newest sequence
number of its shard, and the number of hits of each batch that it still holds.

A record is in its file after `loss_watch.FLUSH_SECONDS`, and on the disk after `loss_watch.COMPARE_SECONDS`.
Before the first, a kill of the process loses the record; before the second, a failure of the machine. A file
is removed if there are MAX_FILES newer files, or if another was last changed more than MAX_IDLE_DAYS later.

A process holds a lock on the files of its producers. So other processes can tell whether it still runs.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from pixel_server import files
from pixel_server.collect.descriptor_reserve import DescriptorReserve
from pixel_server.times import DAY

FORMAT = 1
FOLDER = "acknowledged"
GENERATIONS = "turns.json"
"""Name of the file in this folder that holds the generations of the shards (see `store.checkpoint`). A
generation falls only if Redis loses commits."""
RECORDS_PER_FILE = 65_536
"""Maximum number of records of a file, over all shards. They take 1 MB."""
MAX_FILES = 32
MAX_OPEN_FILES = 8
MAX_NEWEST = 4096
"""Maximum number of pairs of producer and shard in `newest`. The newest producers stay."""
MAX_IDLE_DAYS = 29
"""Maximum number of days from the last change of a file to the last change of any file. Redis prunes an idle
producer after 30 days."""

_HEAD = struct.Struct(">8sIII")
_MAGIC = b"PXACKED\n"
_RECORD = struct.Struct(">QII")
_BODY = struct.Struct(">QI")
_match_name = re.compile(r"([0-9a-f]{28})\.ack").fullmatch


class AcknowledgedBatch(NamedTuple):
    """A batch that Redis acknowledged. hits: its number of hits."""

    producer: str
    shard: int
    sequence: int
    hits: int


class MissingBatches(NamedTuple):
    """Batches, from first to last, that were acknowledged and are not in the store.

    hits: the number of their hits, or a lower bound if `is_exact` is false.
    """

    producer: str
    shard: int
    first: int
    last: int
    hits: int
    is_exact: bool


class AcknowledgedFiles:
    """The files of one data directory. newest: newest sequence number by producer and shard.

    reserve: has a descriptor for a file if no other is free.
    Methods block and may raise OSError. Only one thread may use them at a time.
    """

    def __init__(self, data: Path, shards: int, reserve: DescriptorReserve | None = None) -> None:
        self._reserve = reserve or DescriptorReserve()
        self._folder = data / FOLDER
        self._shards = shards
        self._ring_size = max(64, RECORDS_PER_FILE // shards)
        self._open: dict[str, int] = {}
        self._locked: set[str] = set()
        self._unsynced: set[str] = set()
        self._generations: list[int] = []
        self.newest: dict[tuple[str, int], int] = {}

    def note(self, batches: Sequence[tuple[str, int, int, int]]) -> None:
        """Writes a record of each batch, without a sync. Writes neighbouring records in one write.

        batches: the fields of an `AcknowledgedBatch` for each batch.
        """
        rings: dict[tuple[str, int], list[tuple[int, int]]] = {}
        for producer, shard, sequence, hits in batches:
            rings.setdefault((producer, shard), []).append((sequence, hits))
        for key, ring in rings.items():
            self.newest[key] = max(self.newest.get(key, 0), ring[-1][0])
        if len(self.newest) > MAX_NEWEST:
            for key in sorted(self.newest)[: len(self.newest) - MAX_NEWEST]:
                del self.newest[key]
        for (producer, shard), ring in rings.items():
            file = self._file(producer)
            self._lock(producer, file)
            self._unsynced.add(producer)
            first, records = 0, bytearray()
            for sequence, hits in ring:
                if records and (
                    sequence != first + len(records) // _RECORD.size or not sequence % self._ring_size
                ):
                    os.pwrite(file, records, self._place(shard, first))
                    records.clear()
                first = first if records else sequence
                body = _BODY.pack(sequence, hits)
                records += body + crc32(body).to_bytes(4, "big")
            os.pwrite(file, records, self._place(shard, first))

    def sync(self, generations: list[int]) -> None:
        """Syncs the written records to disk. Stores the generations of the shards if one has changed."""
        if generations and generations != self._generations and self._open:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            content = json.dumps({"format": FORMAT, "turns": generations}).encode()
            files.write(self._folder / GENERATIONS, content, 0o600)
            self._generations = list(generations)
        for producer in list(self._unsynced):
            os.fsync(self._file(producer))
            self._unsynced.discard(producer)

    def read_generations(self) -> list[int]:
        """Returns the generations of the shards that `sync` stored, [] if they cannot be read."""
        try:
            content = json.loads((self._folder / GENERATIONS).read_bytes())
            return [int(n) for n in content["turns"]] if content["format"] == FORMAT else []
        except (OSError, ValueError, KeyError, TypeError):
            return []

    def close(self, generations: list[int]) -> None:
        """Syncs, as `sync` does, and closes the files."""
        with contextlib.suppress(OSError):
            self.sync(generations)
        for file in self._open.values():
            os.close(file)
        self._open.clear()
        self._locked.clear()

    def has_running_owner(self, producer: str) -> bool:
        """Returns whether the process of a producer runs. It may be this process."""
        path = self._folder / f"{producer}.ack"
        with contextlib.suppress(FileNotFoundError), self._reserve.run(lambda: path.open("rb")) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def find_missing(self, producer: str, shard: int, seen: int, last: int) -> MissingBatches:
        """Returns the batches from `seen` + 1 to `last`, with the hits of those whose records are kept."""
        hits = records = 0
        with contextlib.suppress(OSError):
            file = self._file(producer)
            for sequence in range(max(seen + 1, last - self._ring_size + 1), last + 1):
                record = _unpack_record(os.pread(file, _RECORD.size, self._place(shard, sequence)))
                if record is not None and record[0] == sequence:
                    hits += record[1]
                    records += 1
        return MissingBatches(producer, shard, seen + 1, last, hits, records == last - seen)

    def read_newest(self) -> dict[tuple[str, int], int]:
        """Returns the newest sequence numbers in all files, by producer and shard. Removes old files."""
        newest_by_shard: dict[tuple[str, int], int] = {}
        for path in self._tidy():
            with contextlib.suppress(OSError):
                content = path.read_bytes()
                head = _HEAD.unpack_from(content) if len(content) >= _HEAD.size else None
                if head != (_MAGIC, FORMAT, self._shards, self._ring_size):
                    continue
                producer = path.stem
                for shard in range(self._shards):
                    start = self._place(shard, 0)
                    ring = content[start : start + self._ring_size * _RECORD.size]
                    newest = 0
                    for offset in range(0, len(ring) - _RECORD.size + 1, _RECORD.size):
                        sequence = int.from_bytes(ring[offset : offset + 8], "big")
                        record = ring[offset : offset + _RECORD.size]
                        if sequence > newest and _unpack_record(record) is not None:
                            newest = sequence
                    if newest:
                        newest_by_shard[producer, shard] = newest
        return newest_by_shard

    def _tidy(self) -> list[Path]:
        """Removes files that are too old or too many. Returns the other files."""
        if not self._folder.is_dir():
            return []
        paths = sorted(path for path in self._folder.iterdir() if _match_name(path.name))
        newest = max((path.stat().st_mtime for path in paths), default=0.0)
        kept = []
        for place, path in enumerate(reversed(paths)):
            if place >= MAX_FILES or path.stat().st_mtime < newest - MAX_IDLE_DAYS * DAY:
                path.unlink(missing_ok=True)
            else:
                kept.append(path)
        return kept

    def _place(self, shard: int, sequence: int) -> int:
        """Returns the offset of a record in its file."""
        return _HEAD.size + (shard * self._ring_size + sequence % self._ring_size) * _RECORD.size

    def _lock(self, producer: str, file: int) -> None:
        """Locks the file of a producer of this process."""
        if producer not in self._locked:
            with contextlib.suppress(BlockingIOError):  # another process looks at the lock: next time then
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                self._locked.add(producer)

    def _file(self, producer: str) -> int:
        """Returns the open file of a producer. Closes another file if too many are open."""
        file = self._open.get(producer)
        if file is None:
            if len(self._open) >= MAX_OPEN_FILES:
                oldest = min(self._open)
                os.fsync(self._open[oldest])
                os.close(self._open.pop(oldest))
                self._unsynced.discard(oldest)
                self._locked.discard(oldest)
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._reserve.run(self._tidy)
            path, flags = self._folder / f"{producer}.ack", os.O_RDWR | os.O_CREAT
            file = self._reserve.run(lambda: os.open(path, flags, 0o600))
            os.pwrite(file, _HEAD.pack(_MAGIC, FORMAT, self._shards, self._ring_size), 0)
            self._open[producer] = file
        return file


def _unpack_record(content: bytes) -> tuple[int, int] | None:
    """Returns (sequence number, hits), None if the record is empty, cut short or damaged."""
    if len(content) < _RECORD.size:
        return None
    sequence, hits, checksum = _RECORD.unpack(content)
    return (sequence, hits) if checksum == crc32(content[:12]) and sequence else None
