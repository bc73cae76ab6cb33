"""The spool of one process: appends batches to segments, and reads the segments that are to be drained.

The package's docstring specifies files, formats and the rules that this class keeps.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pixel_server.collect.batch import Batch
from pixel_server.collect.descriptor_reserve import DescriptorReserve
from pixel_server.collect.losses import RemovedFile
from pixel_server.collect.spool.aside import Aside
from pixel_server.collect.spool.format import (
    HEAD,
    RECORD,
    TORN,
    NewerFormat,
    Segment,
    count_hits,
    is_known_format,
    pack_head,
    pack_payload,
    pack_record,
    pieces,
    shard_of,
    survey,
    unpack_payload,
)
from pixel_server.collect.spool.segments import (
    WriterLocks,
    list_segments,
    list_writers,
    make_directory,
    sync_data,
    write_at,
)
from pixel_server.logs import Log
from pixel_server.store import producer

log = Log(__name__)

SEGMENT_BYTES = 8 << 20
"""Bytes at which a segment is sealed."""


class SpoolFull(OSError):
    """The segments have reached the limit. None of the batches was written."""


class Spool:
    """The spool of one process; not to be used across a fork. Any thread may call its methods.

    limit_bytes: maximum size of all segments in the directory together. reserve: has descriptors for files
    if no others are free. Any method may raise OSError.
    counts: damaged pieces that were set aside, batches that Redis refused (`stale`), and segments of a newer
    format.
    """

    def __init__(
        self,
        directory: Path,
        limit_bytes: int,
        *,
        clock: Callable[[], float] = time.time,
        segment_bytes: int = SEGMENT_BYTES,
        reserve: DescriptorReserve | None = None,
    ) -> None:
        self._directory = directory
        self._limit_bytes = limit_bytes
        self._clock = clock
        self._segment_bytes = segment_bytes
        self._mutex = threading.RLock()
        self._is_open = self._is_closed = False
        self._directory_file = -1
        self._reserve = reserve or DescriptorReserve()
        self._locks = WriterLocks(directory, self._reserve)
        self._aside = Aside(directory, clock)
        self._writer = ""
        self._number = 0
        self._current: Segment | None = None
        self._current_shards: set[int] = set()
        self._file = -1
        self._length = 0
        self._uncut: Segment | None = None
        """The segment that still holds bytes of a failed write."""
        self._uncut_length = 0
        """Bytes of that segment that are acknowledged."""
        self._other_bytes = 0
        self._measured_at: float | None = None
        self._acknowledged_hits: dict[Segment, int] = {}
        """Number of hits by segment, also for segments that were taken over from a writer that ended."""
        self._rescued: list[bytes] = []
        """Acknowledged payloads of a removed file, which the next append writes again."""
        self._rescued_from: Segment | None = None
        self._removed: list[RemovedFile] = []
        self._read_to_end: set[Segment] = set()
        self._newer: dict[str, Segment] = {}
        """The first segment of a newer format, by writer."""
        self.counts = {"damaged": 0, "stale": 0, "newer": 0}

    def open(self) -> None:
        """Opens the files that an append needs. Otherwise the first append opens them."""
        with self._mutex:
            if self._is_closed or not self._limit_bytes:
                return
            self._is_open = True
            if self._current is None:
                self._begin_segment()

    def append(self, batches: Sequence[Batch]) -> None:
        """Writes batches, and returns when all are on disk.

        Acknowledges no batch if it raises SpoolFull or another OSError.
        """
        payloads = [pack_payload(batch) for batch in batches]
        with self._mutex:
            if self._is_closed:
                raise ValueError("the spool is closed")
            had_rescued = bool(self._rescued)
            self._append(self._rescued + payloads)
            if not self._has_name():
                self._abandon_files()
                if payloads and not had_rescued:
                    del self._rescued[-len(payloads) :]
                self._append(self._rescued + payloads)
            self._rescued = []

    def seal(self) -> None:
        """Seals the current segment, so that it can be drained."""
        with self._mutex:
            if self._length:
                self._end_segment()

    def growing_shards(self) -> set[int]:
        """Returns the shards that have batches in the current segment."""
        with self._mutex:
            return set(self._current_shards) if self._length else set()

    def close(self) -> None:
        """Seals the current segment and releases every lock. Further batches are refused.

        Batches of a removed file that could not be written anew are lost; `take_removed` returns the file.
        """
        with self._mutex:
            with contextlib.suppress(OSError):
                self._look_for_removed()
            if self._rescued and self._rescued_from is not None:
                self._note_removed(self._rescued_from, sum(map(count_hits, self._rescued)))
                self._rescued = []
            self._is_closed = True
            if self._current is not None:
                if not self._length:
                    (self._directory / self._current.name).unlink(missing_ok=True)
                self._end_segment()
            for writer in list(self._locks.held):
                self._locks.release(writer)
            if self._directory_file >= 0:
                os.close(self._directory_file)
                self._directory_file = -1

    def drainable_segments(self) -> list[Segment]:
        """Returns the segments that can be drained now, in the order of draining: oldest writer first."""
        ready = self._find_ready()
        uncounted = next((segment for segment in ready if segment not in self._acknowledged_hits), None)
        if uncounted is not None:  # one segment a call, without the mutex, as a segment may have many records
            hits = self._count_hits(uncounted)
            with self._mutex:
                self._acknowledged_hits.setdefault(uncounted, hits)
        return ready

    def _find_ready(self) -> list[Segment]:
        """Returns the segments that can be drained now. Takes the locks of writers that have ended."""
        with self._mutex:
            if self._is_closed:
                return []
            self._look_for_removed()
            if not self._directory.exists():
                return []
            with contextlib.suppress(OSError):
                self._cut_back()
            for writer in self._reserve.run(lambda: list_writers(self._directory)) - self._locks.held.keys():
                self._locks.acquire(writer)
            unready = {self._current, None if self._uncut_length else self._uncut}
            ready = [
                segment
                # Listed after locking: from now on no other process removes any of these segments.
                for segment in self._reserve.run(lambda: list_segments(self._directory))
                if segment.writer in self._locks.held
                and segment not in unready
                and not self._waits_for_newer_version(segment)
            ]
            for writer in self._locks.held.keys() - {self._writer} - {segment.writer for segment in ready}:
                self._report_removed()
                self._forget_hits(writer)
                self._locks.release(writer)
            return ready

    def read(self, segment: Segment) -> Iterator[Batch]:
        """Yields the batches of a drainable segment, in order. Sets damaged bytes aside.

        Raises NewerFormat at a record of a newer format. The batches before that record are good.
        """
        if segment == self._current or segment.writer not in self._locks.held:
            raise ValueError(f"{segment.name} is still being written")
        if self._waits_for_newer_version(segment):
            raise NewerFormat(segment.name)
        with self._mutex:
            data = self._reserve.run((self._directory / segment.name).read_bytes)
            if segment == self._uncut:
                data = data[: self._uncut_length]
        for start, end, fault in pieces(data, segment.seed):
            if fault == TORN:
                log.warning(
                    "spool-cut-short",
                    "the last record of %(segment)s is cut short (%(bytes)d bytes); none of its hits was "
                    "confirmed",
                    segment=segment.name,
                    bytes=end - start,
                )
            elif fault:
                self._set_damage_aside(segment, start, data[start:end], fault)
            elif not is_known_format(data, start):
                self._stop_at_newer_format(segment, start)
            elif start:
                yield unpack_payload(data[start + RECORD.size : end])
        self._read_to_end.add(segment)

    def delete(self, segment: Segment) -> None:
        """Deletes a segment whose batches are all in Redis or set aside.

        Raises ValueError if the segment was not read to its end.
        """
        with self._mutex:
            if segment not in self._read_to_end or segment.writer not in self._locks.held:
                raise ValueError(f"{segment.name} has not been drained")
            (self._directory / segment.name).unlink()
            self._read_to_end.discard(segment)
            self._acknowledged_hits.pop(segment, None)
            self._measured_at = None
            if segment == self._uncut:
                self._uncut_length = 0
                self._cut_back()

    def take_removed(self) -> list[RemovedFile]:
        """Returns the files that were removed with acknowledged hits, since the last call."""
        with self._mutex:
            removed, self._removed = self._removed, []
            return removed

    def has_damage(self, writer: str) -> bool:
        """Returns whether damaged bytes of this writer are still set aside."""
        return self._aside.has_damage(writer)

    def set_aside(self, batch: Batch, reason: str) -> None:
        """Sets aside a batch that Redis refuses for good. Returns when it is on disk."""
        name = f"{batch.producer}-{batch.shard}-{batch.sequence}.batch"
        self.counts["stale"] += self._aside.keep(name, pack_payload(batch))
        log.error(
            "batch-set-aside",
            "%(hits)d hits set aside in %(path)s: %(reason)s",
            hits=batch.hits,
            path=self._aside.path(name),
            reason=reason,
        )

    def drop_aside(self, days: int) -> int:
        """Deletes files that were set aside more than `days` days ago. Returns their number."""
        return self._aside.drop(days)

    def _append(self, payloads: list[bytes]) -> None:
        """Writes records with these payloads. If that fails, cuts the segment back and seals it."""
        size = sum(RECORD.size + len(payload) for payload in payloads)
        self._cut_back()
        if self._used_bytes() + size + HEAD.size > self._limit_bytes:
            raise SpoolFull(errno.ENOSPC, f"the spool has reached its limit of {self._limit_bytes} bytes")
        if self._length + size > self._segment_bytes:
            self.seal()
        current = self._current or self._begin_segment()
        data = b"".join(pack_record(payload, current.seed) for payload in payloads)
        if self._length == 0:
            data = pack_head(int(self._clock() * 1000), current.seed) + data
        try:
            write_at(self._file, data, self._length)
            sync_data(self._file)
            if self._length == 0:
                os.fsync(self._directory_file)
        except BaseException:
            self._uncut, self._uncut_length = current, self._length
            self._end_segment()
            with contextlib.suppress(OSError):  # the next append tries again
                self._cut_back()
            raise
        self._length += len(data)
        self._current_shards.update(map(shard_of, payloads))
        hits = sum(map(count_hits, payloads))
        self._acknowledged_hits[current] = self._acknowledged_hits.get(current, 0) + hits

    def _cut_back(self) -> None:
        """Removes bytes that a failed write left and that were not acknowledged."""
        if self._uncut is not None:
            path = self._directory / self._uncut.name
            if self._uncut_length:
                with self._reserve.run(lambda: open(path, "r+b")) as file:
                    os.ftruncate(file.fileno(), self._uncut_length)
                    sync_data(file.fileno())
            else:
                path.unlink(missing_ok=True)
                os.fsync(self._directory_file)
            self._uncut = None

    def _used_bytes(self) -> int:
        """Returns the bytes of all segments. Measures all but the current segment at most once a second."""
        now = self._clock()
        if self._measured_at is None or not 0 <= now - self._measured_at < 1:
            self._other_bytes, self._measured_at = 0, now
            for segment in self._reserve.run(lambda: list_segments(self._directory)):
                if segment != self._current:
                    with contextlib.suppress(FileNotFoundError):  # drained meanwhile
                        self._other_bytes += (self._directory / segment.name).stat().st_size
        return self._other_bytes + self._length

    def _begin_segment(self) -> Segment:
        """Begins an empty segment as the current segment. If it is the first, makes this process a writer."""
        if not self._writer:
            self._reserve.run(lambda: make_directory(self._directory))
            writer = producer.new_id(self._clock())
            while not self._locks.acquire(writer):  # another process locked and removed the new lock file
                writer = producer.new_id(self._clock())
            self._writer = writer
        if self._directory_file < 0:
            self._directory_file = self._reserve.run(lambda: os.open(self._directory, os.O_RDONLY))
        self._number += 1
        segment = Segment(self._writer, self._number)
        path, flags = self._directory / segment.name, os.O_RDWR | os.O_CREAT | os.O_EXCL
        self._file = self._reserve.run(lambda: os.open(path, flags, 0o600))
        self._current, self._length, self._current_shards = segment, 0, set()
        return segment

    def _end_segment(self) -> None:
        """Seals the current segment. Begins the next segment if the spool is open."""
        file, self._current, self._file, self._length = self._file, None, -1, 0
        self._measured_at = None
        os.close(file)
        if self._is_open and not self._is_closed:
            with contextlib.suppress(OSError):  # the next append tries again
                self._begin_segment()

    def _has_name(self) -> bool:
        """Returns whether the growing segment still has its name in the directory."""
        if self._current is None:
            return True
        try:
            named = os.stat(self._directory / self._current.name)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return os.path.samestat(os.fstat(self._file), named)

    def _abandon_files(self) -> None:
        """Closes files that have lost their names. Rescues the growing segment's acknowledged batches."""
        assert self._current is not None
        log.error(
            "spool-removed",
            "%(path)s was removed or moved while it was in use; a new spool is made. Do not touch it while "
            "this server runs",
            path=self._directory,
        )
        current, acknowledged = self._current, self._acknowledged_hits.pop(self._current, 0)
        if acknowledged and not self._rescued:
            data = os.pread(self._file, self._length, 0)
            self._rescued_from = current
            self._rescued = [
                data[start + RECORD.size : end]
                for start, end, fault in pieces(data, current.seed)
                if start and not fault
            ]
        os.close(self._file)
        os.close(self._directory_file)
        self._locks.abandon(self._writer)
        self._current, self._file, self._directory_file, self._length = None, -1, -1, 0
        self._report_removed()
        self._forget_hits(self._writer)
        self._writer, self._number, self._measured_at = "", 0, None

    def _look_for_removed(self) -> None:
        """Makes a new spool if the directory was removed. Works also while nothing is appended."""
        if not self._has_name():
            self._abandon_files()
            with contextlib.suppress(OSError):
                self.open()
        self._report_removed()
        if self._rescued:
            with contextlib.suppress(OSError):  # the next append tries again
                self.append([])
        self._reserve.fill()

    def _report_removed(self) -> None:
        """Reports the segments with acknowledged hits whose files have disappeared."""
        removed = [
            segment
            for segment in self._acknowledged_hits
            if segment != self._current and not (self._directory / segment.name).exists()
        ]
        for segment in removed:
            self._note_removed(segment, self._acknowledged_hits.pop(segment))

    def _note_removed(self, segment: Segment, hits: int) -> None:
        """Reports the loss of a removed file, if it had hits."""
        if hits:
            log.error(
                "spool-hits-lost",
                "%(hits)d hits that were answered as recorded are lost: %(segment)s was removed from "
                "%(path)s before Redis had them",
                hits=hits,
                segment=segment.name,
                path=self._directory,
            )
            self._removed.append(RemovedFile(segment.name, hits))

    def _forget_hits(self, writer: str) -> None:
        """Forgets the hits of a writer whose segments other processes may drain from now on."""
        for segment in [segment for segment in self._acknowledged_hits if segment.writer == writer]:
            del self._acknowledged_hits[segment]

    def _count_hits(self, segment: Segment) -> int:
        """Returns the number of hits in a segment, 0 if it cannot be read."""
        path = self._directory / segment.name
        with contextlib.suppress(OSError), self._reserve.run(lambda: open(path, "rb")) as file:
            return survey(file, segment, os.fstat(file.fileno()).st_size).hits
        return 0

    def _waits_for_newer_version(self, segment: Segment) -> bool:
        """Returns whether this segment, or an earlier segment of its writer, has a newer format."""
        newer = self._newer.get(segment.writer)
        return newer is not None and segment >= newer

    def _stop_at_newer_format(self, segment: Segment, offset: int) -> None:
        self._newer[segment.writer] = segment
        self.counts["newer"] += 1
        log.error(
            "spool-newer",
            "%(segment)s has a newer format from byte %(offset)d on; it waits for a newer version of this "
            "server",
            segment=segment.name,
            offset=offset,
        )
        raise NewerFormat(segment.name)

    def _set_damage_aside(self, segment: Segment, offset: int, data: bytes, fault: str) -> None:
        name = f"{segment.name}-{offset}.bad"
        self.counts["damaged"] += self._aside.keep(name, data)
        log.error(
            "spool-damaged",
            "%(segment)s is damaged at byte %(offset)d (%(fault)s): %(bytes)d bytes set aside in %(path)s",
            segment=segment.name,
            offset=offset,
            fault=fault,
            bytes=len(data),
            path=self._aside.path(name),
        )
