"""The withdrawn recipients in the memory of a web process, so that no pixel request reads them from Redis."""

from __future__ import annotations

import asyncio
import sys
from array import array
from bisect import bisect_left
from copy import copy
from pathlib import Path
from struct import Struct

from pixel_server import tasks
from pixel_server.logs import Log
from pixel_server.recipients import withdrawals_file
from pixel_server.recipients.withdrawals import MARK_BYTES, counts_as_withdrawn, is_newer
from pixel_server.recipients.withdrawals_file import WithdrawalsFile
from pixel_server.secret import Secrets
from pixel_server.store import keys
from pixel_server.store.client import StoreRefusedError, is_away
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.store_mark import StoreMark

log = Log(__name__)

REFRESH_SECONDS = 0.25
"""Seconds between two readings of the changes that other processes made."""
PARTS = 1024
_CHUNK = 1000
"""Largest number of withdrawals or changes read by one command."""
_first_32_bits = Struct(">I4x").unpack


class WithdrawnSet:
    """The marks of recipients who are withdrawn now: 8 bytes each, sorted in PARTS short arrays.

    A bitmap of 2 MB has a bit for the first 24 bits of each mark. Most recipients are not in the bitmap, and
    need no search. The set learns of changes within REFRESH_SECONDS. While Redis is away, or holds another
    store (`StoreMark`), the set does not change. file: the file that this process writes if no other process
    does. unreadable: number of values that this version cannot read. Their recipients count as withdrawn.
    """

    def __init__(
        self,
        store: AsyncRedis,
        secrets: Secrets,
        store_mark: StoreMark | None = None,
        file: WithdrawalsFile | None = None,
    ) -> None:
        self._store = store
        self._store_mark = store_mark or StoreMark()
        self._file = file
        self.unreadable = 0
        self._mark_of = secrets.withdrawal_mark
        self._hash = secrets.withdrawal_hash()
        self._last_change = "0-0"
        self.has_loaded = False
        self._clear()

    def _clear(self) -> None:
        self._parts = [array("Q") for _ in range(PARTS)]
        self._bits = bytearray()

    def __contains__(self, recipient: bytes) -> bool:
        """Returns whether a recipient key is withdrawn."""
        if not self._bits:
            return False
        digest = self._hash.copy()
        digest.update(recipient)
        mark_bytes = digest.digest()
        (first,) = _first_32_bits(mark_bytes)
        if not self._bits[first >> 11] >> (first >> 8 & 7) & 1:
            return False
        mark = int.from_bytes(mark_bytes, "big")
        part = self._parts[mark % PARTS]
        at = bisect_left(part, mark)
        return at < len(part) and part[at] == mark

    @property
    def size(self) -> int:
        """Bytes of memory of the arrays and the bitmap."""
        return sum(map(sys.getsizeof, self._parts)) + len(self._bits)

    def learn(self, recipient: bytes, is_withdrawn: bool) -> None:
        """Notes that this process has just withdrawn or allowed a recipient key."""
        self._learn_mark(self._mark_of(recipient), is_withdrawn)

    def _learn_mark(self, mark_bytes: bytes, is_withdrawn: bool) -> None:
        mark = int.from_bytes(mark_bytes, "big")
        part = self._parts[mark % PARTS]
        at = bisect_left(part, mark)
        is_listed = at < len(part) and part[at] == mark
        if is_withdrawn and not is_listed:
            part.insert(at, mark)
            self._bits = self._bits or bytearray(1 << 21)
            self._bits[mark >> 43] |= 1 << (mark >> 40 & 7)
        elif is_listed and not is_withdrawn:
            del part[at]  # the mark's bit stays set, because another mark may share it

    async def load(self) -> None:
        """Reads all withdrawals, in short steps. The old set stays in use until all withdrawals are read.

        Raises StoreRefusedError, and changes nothing, if this process must not use the store.
        """
        if self._file is not None:
            await asyncio.to_thread(self._file.become_writer)
        last = await self._store.xrevrange(keys.WITHDRAWAL_CHANGES, "+", "-", 1)
        last_change = last[0][0].decode() if last else "0-0"
        fresh = copy(self)
        fresh._clear()
        file = self._file if self._file is not None and self._file.is_writer else None
        if file is not None:
            await asyncio.to_thread(file.begin)
        cursor = unreadable = 0
        while True:
            cursor, values = await self._store.hscan(keys.WITHDRAWN, cursor, count=_CHUNK)
            values = {mark: value for mark, value in values.items() if len(mark) == MARK_BYTES}
            for mark, value in values.items():
                unreadable += is_newer(value)
                if counts_as_withdrawn(value):
                    fresh._learn_mark(mark, True)
            if file is not None:
                await asyncio.to_thread(file.add, values.items())
            if not cursor:
                break
        await self._store_mark.check(self._store)
        if file is not None:
            await asyncio.to_thread(file.finish)
        if unreadable and unreadable != self.unreadable:
            log.error(
                "withdrawals-newer",
                "%(withdrawals)d withdrawals were written by a newer version; their recipients are not "
                "recorded: update this server",
                withdrawals=unreadable,
            )
        # `refresh` will read the changes made meanwhile: they come after `last_change` in the stream.
        self._parts, self._bits = fresh._parts, fresh._bits
        self._last_change, self.has_loaded, self.unreadable = last_change, True, unreadable

    async def refresh(self) -> None:
        """Reads the changes since the last call, or all withdrawals if the stream has dropped some changes.

        Raises StoreRefusedError, and changes nothing, if this process must not use the store.
        """
        if not self.has_loaded or (self._file is not None and self._file.is_rewrite_due):
            return await self.load()
        while True:
            first = "-" if self._last_change == "0-0" else self._last_change
            pipe = self._store.pipeline(transaction=False)
            pipe.xrange(keys.WITHDRAWAL_CHANGES, first, "+", _CHUNK)
            self._store_mark.queue_read(pipe)
            entries, store_mark = await pipe.execute()
            self._store_mark.compare(store_mark)
            if first != "-" and (not entries or entries[0][0].decode() != self._last_change):
                return await self.load()
            changed = {
                fields.get(b"mark", b"") for entry, fields in entries if entry.decode() != self._last_change
            }
            marks = sorted(mark for mark in changed if len(mark) == MARK_BYTES)
            if marks:
                pipe.hmget(keys.WITHDRAWN, marks)
                self._store_mark.queue_read(pipe)
                values, store_mark = await pipe.execute()
                self._store_mark.compare(store_mark)
                for mark, value in zip(marks, values, strict=True):
                    self._learn_mark(mark, counts_as_withdrawn(value))
                if self._file is not None and self._file.is_writer:
                    items = [(mark, value) for mark, value in zip(marks, values, strict=True) if value]
                    await asyncio.to_thread(self._file.append, items)
            if entries:
                self._last_change = entries[-1][0].decode()
            if len(entries) < _CHUNK:
                return None

    def restore(self, data: Path) -> None:
        """Reads the file in the data directory. Does nothing if Redis has been read already."""
        if not self.has_loaded:
            for mark, value in withdrawals_file.read_file(data):
                self._learn_mark(mark, counts_as_withdrawn(value))

    async def follow(self) -> None:
        """Calls `refresh` until it is cancelled. Writes the file if no other process does."""

        async def refresh() -> None:
            if self._file is not None and await asyncio.to_thread(self._file.become_writer):
                await self.load()
            await self.refresh()

        try:
            await tasks.repeat(refresh, REFRESH_SECONDS, _report_failed_refresh, pauses_first=True)
        finally:
            if self._file is not None:
                self._file.close()


def _report_failed_refresh(error: Exception) -> None:
    if isinstance(error, StoreRefusedError):
        return  # `StoreMark.compare` has logged it
    if is_away(error):
        log.warning(
            "withdrawals-redis-away",
            "Redis does not answer; the withdrawals known so far stay in force: %(error)s",
            error=error,
        )
    else:  # such as a value of an unexpected form; `follow` tries again
        log.error(
            "withdrawals-unreadable",
            "the withdrawals in the store cannot be read; those known so far stay in force: %(error)s",
            error=error,
        )
