"""The spool: where batches wait on disk while Redis does not take them. This is its specification.

On disk (directories 0700, files 0600; numbers big-endian):

    <data>/spool/<writer>.lock              held (flock) by the writer while it lives, or by who drains it
                 <writer>-<8 digits>.seg    a segment; its numbers rise by writer
                 aside/<segment>-<offset>.bad                    damaged bytes, as they were found
                 aside/<producer>-<shard>-<sequence>.batch       the payload of a batch that Redis refused

    segment = head, record...
    head    = "PXSPOOL\\n", u32 format, u64 ms when begun, u32 check of these
    record  = marker, u32 length, u32 crc of the payload, u32 check of these; payload
    payload = u8 format, u16 shard, u32 hits, u64 sequence, u8 length of producer; producer; batch

Every sum is a CRC-32 that begins with the CRC-32 of the segment's name. So no bytes within a batch pass for
a record (a stranger chose some of them, but cannot know the name), nor do those of another segment. That a
record's head has a check of its own is what tells a torn tail from a damaged length.

Writer. A process becomes one when it opens the spool, else at its first append: 12 hex digits of ms, 16
random, as a producer's id; before that nothing is on disk. An opened spool has an empty segment ready at any
time, and some descriptors in reserve: whatever connections have used up, hits can be appended. An empty
segment counts for nothing. Only it writes its segments, one at a time, at the end. A segment takes no more
once it is sealed: when it is full (8 MiB), when told to, at close, and after any failure. All records of a
producer are in segments of one writer, in the order of their sequence numbers.

Append. The batches of a group are one write, then one fdatasync, and where a file was made an fsync of
the directory. Only then are they acknowledged: hits may be answered 2xx. If any of it fails, the segment is
sealed and cut back to what was acknowledged (removed, if nothing was). Until that cut is on disk, nothing
more is taken, and the writer drains of the segment only what was acknowledged: part of a group could come
out of the rest, and what that overtakes be lost when it is given again. A writer that dies before may leave
a group behind that nobody was promised: so a group that failed is given again unchanged or not at all, never
under its numbers with other hits. A repeat is harmless, as Redis takes each (producer, shard, sequence) once.

Who drains. The writer its own sealed segments; anyone those of a writer whose lock is free, holding that
lock. So processes on one directory do not meet. A lock file is removed by who holds it and finds no
segments; who gets a lock makes sure that the file still has its name. Drain segments in the order given and
stop a writer's at the first failure, or a producer's later number would overtake an earlier one.

Deletion. A segment may go when each of its batches is in Redis or in aside/, and each of its damaged bytes
in aside/, fsynced. Going too late is harmless, for the same reason as above.

Removal. If the directory, or the segment being written, is removed or moved under way, the next sync finds
that the file has lost its name. Then the spool is made anew by a new writer, and what was acknowledged in
that file is written again, before the group in hand. Segments that are gone before they were drained are
reported.

Torn tail: bytes at the end that are less than a record's head, or a good head with less than its payload.
Writing was cut off there, so it was never acknowledged: logged and passed over. (Its whole records, if any,
are taken: more may be stored than was promised.)

Damage: whatever else is no good record. The bytes up to the next good one, or the end, are set aside whole,
logged and counted; all others are kept. A damaged head of a segment costs no record. Blocks that a crash left
empty at the end look like damage, too.

Later formats. Magic, format and check stay where they are, as do a record's head and the first byte of its
payload; both rise with `hit.FORMAT`, too. A segment or record of a format unknown here stops the draining
of its writer there: all from there on stays, is reported, and waits for a version that knows it.

Bounds. The segments of all writers together stay under the limit; each process counts the others' once a
second, so it can be passed by what they add in that time. aside/ is not counted: a person sees to it, for as
long as dead letters are kept (`drop_aside`).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import re
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

from pixel_server.collect.recorder import Batch
from pixel_server.store import producer
from pixel_server.times import DAY

log = logging.getLogger("pixel_server.spool")

FORMAT = 1
SEGMENT_BYTES = 8 << 20
RESERVE = 4
"""Descriptors kept in reserve while the spool is open."""
LEAST_FREE = 64 << 20
"""Bytes of a disk below which it is said to be nearly full."""

_MAGIC = b"PXSPOOL\n"
_MARKER = b"\xffHIT"
_HEAD = struct.Struct(">8sIQI")
_RECORD = struct.Struct(">4sIII")
_PAYLOAD = struct.Struct(">BHIQB")
_NAME = re.compile(r"([0-9a-f]{28})(?:-([0-9]{8,})\.seg|\.lock)")
_TORN = "torn"
_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)
T = TypeVar("T")

_sync: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)  # macOS has only the latter


class SpoolFull(OSError):
    """The segments have reached the limit. Nothing of the group was written."""


class NewerFormat(Exception):
    """A segment or record of a later format: it and what its writer wrote after it is left where it is."""


class Segment(NamedTuple):
    """Sorts by the age of its writer, then by number."""

    writer: str
    number: int

    @property
    def name(self) -> str:
        return f"{self.writer}-{self.number:08d}.seg"

    @property
    def seed(self) -> int:
        return zlib.crc32(self.name.encode())


class Status(NamedTuple):
    """oldest_ms: when the oldest segment was begun. aside: files. Hits behind damage are not seen here."""

    segments: int
    hits: int
    bytes: int
    oldest_ms: int | None
    aside: int


class Spool:
    """The spool of one process; not to be taken across a fork. Its methods may be called from any thread.

    `limit`: bytes of all segments in the directory. Any method may raise OSError.
    """

    def __init__(
        self,
        directory: Path,
        limit: int,
        *,
        clock: Callable[[], float] = time.time,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self._directory = directory
        self._aside = directory / "aside"
        self._limit = limit
        self._clock = clock
        self._segment_bytes = segment_bytes
        self._mutex = threading.RLock()
        self._closed = False
        self._writer = ""
        self._number = 0
        self._current: Segment | None = None
        self._uncut: Segment | None = None
        self._file = -1
        self._length = 0
        self._good = 0
        self._others = 0
        self._counted: float | None = None
        self._is_open = False
        self._home = -1
        self._reserve: list[int] = []
        self._kept: dict[Segment, int] = {}
        self._rescued: list[bytes] = []
        self._removed = 0
        self._locks: dict[str, int] = {}
        self._read: set[Segment] = set()
        self._newer: dict[str, Segment] = {}
        self.counts = {"damaged": 0, "stale": 0, "newer": 0}

    def open(self) -> None:
        """Opens ahead of need what an append needs. Without it the first append does."""
        with self._mutex:
            if self._closed or not self._limit:
                return
            self._is_open = True
            if self._current is None:
                self._begin()
            self._fill_reserve()

    def append(self, batches: Sequence[Batch]) -> None:
        """Returns when all are on disk. Raises SpoolFull or any other OSError: then none is acknowledged."""
        given = [_payload(batch) for batch in batches]
        with self._mutex:
            if self._closed:
                raise ValueError("the spool is closed")
            rescues = bool(self._rescued)
            self._put(self._rescued + given)
            if not self._is_here():
                self._forget()
                if given and not rescues:
                    del self._rescued[-len(given) :]
                self._put(self._rescued + given)
            self._rescued = []

    def _put(self, payloads: list[bytes]) -> None:
        size = sum(_RECORD.size + len(payload) for payload in payloads)
        self._cut_back()
        if self._used() + size + _HEAD.size > self._limit:
            raise SpoolFull(errno.ENOSPC, f"the spool has reached its limit of {self._limit} bytes")
        if self._length + size > self._segment_bytes:
            self.seal()
        current = self._current or self._begin()
        data = b"".join(_record(payload, current.seed) for payload in payloads)
        if self._length == 0:
            begun = int(self._clock() * 1000)
            data = _checked(_HEAD.pack(_MAGIC, FORMAT, begun, 0), current.seed) + data
        try:
            _write(self._file, data, self._length)
            _sync(self._file)
            if self._length == 0:
                os.fsync(self._home)
        except BaseException:
            self._uncut, self._good = current, self._length
            self._end()
            with contextlib.suppress(OSError):  # the next append tries again
                self._cut_back()
            raise
        self._length += len(data)
        hits = sum(_PAYLOAD.unpack_from(payload)[2] for payload in payloads)
        self._kept[current] = self._kept.get(current, 0) + hits

    def seal(self) -> None:
        """The current segment takes no more; it can be drained."""
        with self._mutex:
            if self._length:
                self._end()

    def _end(self) -> None:
        file, self._current, self._file, self._length = self._file, None, -1, 0
        self._counted = None
        os.close(file)
        if self._is_open and not self._closed:
            with contextlib.suppress(OSError):  # the next append tries again
                self._begin()

    def close(self) -> None:
        """Seals, and lets go of every lock. It takes no more batches then."""
        with self._mutex:
            self._closed = True
            if self._current is not None:
                if not self._length:
                    (self._directory / self._current.name).unlink(missing_ok=True)
                self._end()
            for writer in list(self._locks):
                self._let_go(writer)
            for file in (*self._reserve, *([] if self._home < 0 else [self._home])):
                os.close(file)
            self._reserve, self._home = [], -1

    def segments(self) -> list[Segment]:
        """Those that may be drained now, in the order to do it: oldest writer first, then by number."""
        with self._mutex:
            if self._closed:
                return []
            self._look_for_removed()
            if not self._directory.exists():
                return []
            with contextlib.suppress(OSError):
                self._cut_back()
            unready = {self._current, None if self._good else self._uncut}
            named = self._with_reserve(lambda: _named(self._directory))
            for writer in {found[1] for found in named} - self._locks.keys():
                if (lock := self._take(writer)) is not None:
                    self._locks[writer] = lock
            found = [
                segment
                # Again: now nobody else removes any of these.
                for segment in self._with_reserve(lambda: _listed(self._directory))
                if segment.writer in self._locks and segment not in unready and not self._is_left(segment)
            ]
            for writer in self._locks.keys() - {self._writer} - {segment.writer for segment in found}:
                self._let_go(writer)
            return found

    def read(self, segment: Segment) -> Iterator[Batch]:
        """Yields the batches of a segment, in order. Sets damage aside on the way. Raises NewerFormat."""
        if segment == self._current or segment.writer not in self._locks:
            raise ValueError(f"{segment.name} is still being written")
        if self._is_left(segment):
            raise NewerFormat(segment.name)
        with self._mutex:
            data = self._with_reserve((self._directory / segment.name).read_bytes)
            if segment == self._uncut:
                data = data[: self._good]
        for start, end, fault in _pieces(data, segment.seed):
            if fault == _TORN:
                log.warning("spool: %s ends in %d bytes of a record cut off", segment.name, end - start)
            elif fault:
                self._damaged(segment, start, data[start:end], fault)
            elif not _known(data, start):
                self._leave(segment, start)
            elif start:
                yield _batch(data[start + _RECORD.size : end])
        self._read.add(segment)

    def take_removed(self) -> int:
        """Returns how many hits were lost, since the last call, since their files were removed."""
        with self._mutex:
            removed, self._removed = self._removed, 0
            return removed

    def has_damage(self, writer: str) -> bool:
        """Whether something of this writer was damaged and is still set aside."""
        return any(self._aside.glob(f"{writer}-*.bad"))

    def set_aside(self, batch: Batch, reason: str) -> None:
        """Keeps a batch that Redis refuses for good; returns when it is on disk."""
        name = f"{batch.producer}-{batch.shard}-{batch.sequence}.batch"
        self.counts["stale"] += self._keep_aside(name, _payload(batch))
        log.error("spool: %d hits set aside in %s: %s", _hits(batch.data), self._aside / name, reason)

    def drop_aside(self, days: int) -> int:
        """Removes what was set aside more than so many days ago: it may hold addresses. How many files.

        Both this machine's clock and that of Redis must say so.
        """
        gone, before = 0, min(self._clock(), time.time()) - days * DAY
        for path in self._aside.glob("*") if self._aside.is_dir() else ():
            if path.stat().st_mtime < before:
                path.unlink()
                gone += 1
        if gone:
            log.warning("spool: %d files set aside %d days ago or more are gone", gone, days)
        return gone

    def delete(self, segment: Segment) -> None:
        """Only after each batch of it is in Redis or set aside. ValueError if it was not read to its end."""
        with self._mutex:
            if segment not in self._read or segment.writer not in self._locks:
                raise ValueError(f"{segment.name} has not been drained")
            (self._directory / segment.name).unlink()
            self._read.discard(segment)
            self._kept.pop(segment, None)
            self._counted = None
            if segment == self._uncut:
                self._good = 0
                self._cut_back()

    def _used(self) -> int:
        now = self._clock()
        if self._counted is None or not 0 <= now - self._counted < 1:
            self._others, self._counted = 0, now
            for segment in self._with_reserve(lambda: _listed(self._directory)):
                if segment != self._current:
                    with contextlib.suppress(FileNotFoundError):  # drained meanwhile
                        self._others += (self._directory / segment.name).stat().st_size
        return self._others + self._length

    def _begin(self) -> Segment:
        if not self._writer:
            self._with_reserve(lambda: _make_directory(self._directory))
            writer = producer.new_id(self._clock())
            while (lock := self._take(writer)) is None:  # a cleaner saw the file before it was locked
                writer = producer.new_id(self._clock())
            self._writer, self._locks[writer] = writer, lock
        if self._home < 0:
            self._home = self._with_reserve(lambda: os.open(self._directory, os.O_RDONLY))
        self._number += 1
        segment = Segment(self._writer, self._number)
        path, flags = self._directory / segment.name, os.O_RDWR | os.O_CREAT | os.O_EXCL
        self._file = self._with_reserve(lambda: os.open(path, flags, 0o600))
        self._current, self._length = segment, 0
        return segment

    def _is_here(self) -> bool:
        """Whether the segment being written still has its name."""
        if self._current is None:
            return True
        try:
            there = os.stat(self._directory / self._current.name)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return os.path.samestat(os.fstat(self._file), there)

    def _forget(self) -> None:
        """Leaves files that have lost their names. What the current segment had acknowledged is kept for
        anew."""
        assert self._current is not None
        log.error(
            "spool: %s was removed or moved while it was in use; it is made anew. Do not touch it while this "
            "server runs",
            self._directory,
        )
        current, acknowledged = self._current, self._kept.pop(self._current, 0)
        if acknowledged and not self._rescued:
            data = os.pread(self._file, self._length, 0)
            self._rescued = [
                data[start + _RECORD.size : end]
                for start, end, fault in _pieces(data, current.seed)
                if start and not fault
            ]
        for file in (self._file, self._home, self._locks.pop(self._writer)):
            os.close(file)
        self._current, self._file, self._home, self._length = None, -1, -1, 0
        self._writer, self._number, self._counted = "", 0, None
        self._report_removed()

    def _look_for_removed(self) -> None:
        """Makes the spool anew where it was removed, also while nothing is appended."""
        if not self._is_here():
            self._forget()
            with contextlib.suppress(OSError):
                self.open()
        self._report_removed()
        if self._rescued:
            with contextlib.suppress(OSError):  # the next append tries again
                self.append([])
        self._fill_reserve()

    def _report_removed(self) -> None:
        gone = [
            segment
            for segment in self._kept
            if segment != self._current and not (self._directory / segment.name).exists()
        ]
        hits = sum(self._kept.pop(segment) for segment in gone)
        if hits:
            log.error(
                "spool: %d hits that were answered as recorded are lost: their files were removed from %s "
                "before Redis had them",
                hits,
                self._directory,
            )
            self._removed += hits

    def _with_reserve(self, work: Callable[[], T]) -> T:
        """Does what takes a descriptor: where none is left, one that was kept for this."""
        while True:
            try:
                done = work()
            except OSError as error:
                if error.errno not in _NO_DESCRIPTOR or not self._reserve:
                    raise
                os.close(self._reserve.pop())
            else:
                if len(self._reserve) < RESERVE:
                    self._fill_reserve()
                return done

    def _fill_reserve(self) -> None:
        with contextlib.suppress(OSError):
            while self._is_open and not self._closed and self._home >= 0 and len(self._reserve) < RESERVE:
                self._reserve.append(os.dup(self._home))

    def _cut_back(self) -> None:
        """Where writing failed: away with what was not acknowledged."""
        if self._uncut is not None:
            path = self._directory / self._uncut.name
            if self._good:
                with self._with_reserve(lambda: open(path, "r+b")) as file:
                    os.ftruncate(file.fileno(), self._good)
                    _sync(file.fileno())
            else:
                path.unlink(missing_ok=True)
                os.fsync(self._home)
            self._uncut = None

    def _take(self, writer: str) -> int | None:
        """Its lock, if it was free."""
        path = self._directory / f"{writer}.lock"
        lock = self._with_reserve(lambda: os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(lock), os.stat(path)):
                return lock
        except (BlockingIOError, FileNotFoundError):
            pass
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)
        return None

    def _let_go(self, writer: str) -> None:
        lock = self._locks.pop(writer)
        segments = self._with_reserve(lambda: list(self._directory.glob(f"{writer}-*.seg")))
        if not segments:
            (self._directory / f"{writer}.lock").unlink(missing_ok=True)
        os.close(lock)

    def _is_left(self, segment: Segment) -> bool:
        newer = self._newer.get(segment.writer)
        return newer is not None and segment >= newer

    def _leave(self, segment: Segment, offset: int) -> None:
        self._newer[segment.writer] = segment
        self.counts["newer"] += 1
        log.error("spool: %s is left from byte %d on: it is of a later format", segment.name, offset)
        raise NewerFormat(segment.name)

    def _damaged(self, segment: Segment, offset: int, data: bytes, reason: str) -> None:
        name = f"{segment.name}-{offset}.bad"
        self.counts["damaged"] += self._keep_aside(name, data)
        log.error(
            "spool: %s is damaged at byte %d (%s): %d bytes set aside in %s",
            *(segment.name, offset, reason, len(data), self._aside / name),
        )

    def _keep_aside(self, name: str, data: bytes) -> bool:
        """Returns when it is on disk. Whether it was not there before."""
        _make_directory(self._aside)
        known = (self._aside / name).exists()
        part = self._aside / f"{name}.part"
        file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            _write(file, data, 0)
            _sync(file)
        finally:
            os.close(file)
        os.utime(part, (self._clock(),) * 2)
        part.rename(self._aside / name)
        _sync_directory(self._aside)
        return not known


def status(directory: Path) -> Status:
    """What waits in a spool directory. Takes no lock: others may write and drain meanwhile."""
    segments = hits = size = 0
    oldest = None
    for segment in _listed(directory):
        with contextlib.suppress(FileNotFoundError), open(directory / segment.name, "rb") as file:
            if not os.fstat(file.fileno()).st_size:  # opened ahead of need
                continue
            begun, of_segment = _survey(file, segment)
            segments += 1
            hits += of_segment
            size += os.fstat(file.fileno()).st_size
            oldest = begun if oldest is None else min(oldest, begun)
    aside = sum(path.suffix != ".part" for path in directory.glob("aside/*"))
    return Status(segments, hits, size, oldest, aside)


def trouble(directory: Path) -> str:
    """Why hits could hardly be kept there now, were Redis away; empty: they could. Nothing is written to see.

    Otherwise nobody would know before they are needed.
    """
    try:
        there = next(path for path in (directory, *directory.resolve().parents) if path.exists())
        if not there.is_dir() or not os.access(there, os.R_OK | os.W_OK | os.X_OK):
            return f"{there} cannot be written"
        disk = os.statvfs(there)
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    left = disk.f_bavail * disk.f_frsize
    return f"the disk of {there} has {left >> 20} MB left" if left < LEAST_FREE else ""


def waiting_since(directory: Path) -> int | None:
    """When the oldest segment was begun, ms; None if the spool is empty. Looks at names and one head."""
    for segment in _listed(directory):
        with contextlib.suppress(FileNotFoundError), open(directory / segment.name, "rb") as file:
            if head := file.read(_HEAD.size):
                return _begun(head, segment)
    return None


def _begun(head: bytes, segment: Segment) -> int:
    good = _holds(head, _HEAD, _MAGIC, segment.seed)
    return int(_HEAD.unpack(head)[2]) if good else int(segment.writer[:12], 16)


def _survey(file: BinaryIO, segment: Segment) -> tuple[int, int]:
    """When it was begun (ms) and its hits, by the heads of its records."""
    size = os.fstat(file.fileno()).st_size
    head = file.read(_HEAD.size)
    if not _holds(head, _HEAD, _MAGIC, segment.seed):
        return int(segment.writer[:12], 16), 0
    _, version, begun, _ = _HEAD.unpack(head)
    hits, at = 0, _HEAD.size
    while version == FORMAT and _holds(head := file.read(_RECORD.size), _RECORD, _MARKER, segment.seed):
        start = file.read(_PAYLOAD.size)
        at += _RECORD.size + _RECORD.unpack(head)[1]
        if at > size or start[0] != FORMAT:
            break
        hits += _PAYLOAD.unpack(start)[2]
        file.seek(at)
    return begun, hits


def _pieces(data: bytes, seed: int) -> Iterator[tuple[int, int, str]]:
    """All bytes of a segment as (start, end, fault). Its head comes first, the rest are records."""
    start = 0
    while start < len(data):
        end, fault = _piece(data, start, seed)
        if fault:
            end = data.find(_MARKER, start + 1)
            while end >= 0 and _piece(data, end, seed)[1]:
                end = data.find(_MARKER, end + 1)
            if end >= 0 and fault == _TORN:
                fault = "cut short"
            end = end if end >= 0 else len(data)
        yield start, end, fault
        start = end


def _piece(data: bytes, start: int, seed: int) -> tuple[int, str]:
    """Where the head of the segment, or a record, ends; and what is wrong with it."""
    shape, mark = (_RECORD, _MARKER) if start else (_HEAD, _MAGIC)
    body = start + shape.size
    if body > len(data):
        return len(data), _TORN
    if not _holds(data[start:body], shape, mark, seed):
        return body, "no good head"
    if not start:
        return body, ""
    _, length, crc, _ = _RECORD.unpack_from(data, start)
    if body + length > len(data):
        return len(data), _TORN
    return body + length, "" if zlib.crc32(data[body : body + length], seed) == crc else "wrong checksum"


def _holds(head: bytes, shape: struct.Struct, mark: bytes, seed: int) -> bool:
    whole = len(head) == shape.size and head.startswith(mark)
    return whole and zlib.crc32(head[:-4], seed) == int.from_bytes(head[-4:], "big")


def _known(data: bytes, start: int) -> bool:
    """Whether the head of the segment, or a record, is of a format known here."""
    return (data[start + _RECORD.size] if start else _HEAD.unpack_from(data)[1]) == FORMAT


def _checked(head: bytes, seed: int) -> bytes:
    return head[:-4] + zlib.crc32(head[:-4], seed).to_bytes(4, "big")


def _record(payload: bytes, seed: int) -> bytes:
    return _checked(_RECORD.pack(_MARKER, len(payload), zlib.crc32(payload, seed), 0), seed) + payload


def _payload(batch: Batch) -> bytes:
    name = batch.producer.encode()
    head = _PAYLOAD.pack(FORMAT, batch.shard, _hits(batch.data), batch.sequence, len(name))
    return head + name + batch.data


def _batch(payload: bytes) -> Batch:
    _, shard, _, sequence, length = _PAYLOAD.unpack_from(payload)
    data = _PAYLOAD.size + length
    return Batch(shard, payload[_PAYLOAD.size : data].decode(), sequence, payload[data:])


def _hits(data: bytes) -> int:
    """How many hits a batch holds, by the head of its msgpack array (`hit.encode_batch`)."""
    return int.from_bytes(data[1:3], "big") if data[:1] == b"\xdc" else data[0] & 0x0F


def _listed(directory: Path) -> list[Segment]:
    return sorted(Segment(found[1], int(found[2])) for found in _named(directory) if found[2])


def _named(directory: Path) -> list[re.Match[str]]:
    """What of the directory is a lock or a segment."""
    names = os.listdir(directory) if directory.exists() else []
    return [found for found in map(_NAME.fullmatch, names) if found]


def _write(file: int, data: bytes, offset: int) -> None:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(file, rest, offset)
        rest, offset = rest[written:], offset + written


def _make_directory(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
