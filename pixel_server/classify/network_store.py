"""The refreshed lists of networks in the store, and their copies in the data directory of each host.

One worker fetches a list and puts it into the store (`workers.networks`, or `pixel-server networks refresh`).
Every host copies it into its own data directory within CHECK_SECONDS. So all hosts judge by the same lists, a
host without access to the internet has them too, and a host without Redis keeps its last copies.

The hash `keys.NETWORKS` has these fields:

    next             Redis's time (s) before which no worker tries to fetch lists
    apple            the list: its format in one byte, then the file's text, compressed (zlib)
    apple version    a hash of the list's file: "9f86d081884c7d65"
    apple ranges     number of its ranges
    apple at         Redis's time (s) when it was last fetched
    apple error      why the last try failed; missing if the last try succeeded
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import redis

from pixel_server import files
from pixel_server.classify.network_feeds import PUBLISHED
from pixel_server.classify.network_refresh import NewList
from pixel_server.classify.networks import Networks
from pixel_server.counters.stored_format import NewerFormat
from pixel_server.logs import Log
from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis, Redis, Value
from pixel_server.store.script import ScriptCall, script_call
from pixel_server.times import DAY

log = Log(__name__)

FORMAT = 1
"""Format of a stored list."""
WEEK_SECONDS = 7 * DAY
"""Seconds after which a list is fetched again."""
SLACK_SECONDS = DAY / 2
"""Seconds by which a list may be fetched early, so that all lists are fetched together."""
RETRY_SECONDS = 6 * 3600
"""Seconds until the next try after a list could not be fetched."""
CLAIM_SECONDS = 3600
"""Seconds for which a try keeps other workers from trying. If its worker is killed, another then tries."""
CHECK_SECONDS = 10.0
"""Seconds between two checks whether the store has other lists than the data directory."""

_CLAIM = """
-- KEYS: networks. ARGV: seconds of a claim; longest plausible wait (s).
-- Returns the time (s) if a try is due, and 0 if not.
local now = tonumber(redis.call('TIME')[1])
local due = tonumber(redis.call('HGET', KEYS[1], 'next') or '0')
if due > now and due <= now + ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'next', now + ARGV[1])
return now
"""


def claim_call() -> ScriptCall:
    """Returns the call that claims a try. It returns Redis's time (s) if a try is due, and 0 if not.

    A `next` more than a week ahead was written under a wrong clock of Redis, and does not count.
    """
    return script_call(_CLAIM, keys=(keys.NETWORKS,), arguments=(CLAIM_SECONDS, int(WEEK_SECONDS)))


class ListState(NamedTuple):
    """State of a list in the store.

    at: time (s) when it was last fetched, 0 if never. error: why the last try failed, "" if it succeeded.
    """

    ranges: int
    at: int
    error: str

    def is_due(self, now: float) -> bool:
        """Returns whether the list is to be fetched. now: Redis's time, s."""
        return not now - WEEK_SECONDS + SLACK_SECONDS < self.at <= now


STATE_FIELDS = [f"{name} {part}" for name in PUBLISHED for part in ("ranges", "at", "error")]
"""Fields that `parse_states` takes, in order."""


def parse_states(values: Iterable[bytes | None]) -> dict[str, ListState]:
    """Returns the states of all published lists, from the values of STATE_FIELDS.

    The ranges of a list that was never fetched are those of the shipped list.
    """
    shipped = {described.name: described.ranges for described in Networks.load().lists}
    each = iter(values)
    states = {}
    for name in PUBLISHED:
        ranges, at, error = next(each), next(each), next(each)
        states[name] = ListState(int(ranges or shipped[name]), int(at or 0), (error or b"").decode())
    return states


def fields_of(new: NewList, now: float) -> Mapping[str | bytes, Value]:
    """Returns the fields that store a new list, and say that the last try succeeded. now: Redis's time, s."""
    return {
        new.name: bytes([FORMAT]) + zlib.compress(new.text),
        f"{new.name} version": version_of(new.text),
        f"{new.name} ranges": new.ranges,
        f"{new.name} at": int(now),
        f"{new.name} error": "",
    }


def version_of(text: bytes) -> str:
    """Returns the version of a list's file: `"9f86d081884c7d65"`."""
    return hashlib.blake2b(text, digest_size=8).hexdigest()


def unpack(value: bytes) -> bytes:
    """Returns the text of a stored list. Raises NewerFormat, or ValueError if it cannot be read."""
    if value[:1] != bytes([FORMAT]):
        raise NewerFormat(f"list of format {value[0] if value else 0}, this version reads {FORMAT}")
    try:
        return zlib.decompress(value[1:])
    except zlib.error as error:
        raise ValueError(f"is damaged: {error}") from None


class ListCopies:
    """The copies of the store's lists in a data directory. directory: for refreshed lists only.

    Several processes may write the same copies at once: each file is written whole.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._versions: dict[Path, tuple[Any, str]] = {}  # version of each file, with its stamp
        self._is_failing = False
        self._next_check = 0.0

    def update(self, store: Redis) -> None:
        """Copies the lists that have changed, at most every CHECK_SECONDS. Logs the first error of a row.

        If Redis does not answer, the copies stay as they are.
        """
        if not self._is_due():
            return
        try:
            for name in self._outdated(store.hmget(keys.NETWORKS, _VERSION_FIELDS)):
                self._write(name, store.hget(keys.NETWORKS, name))
            self._is_failing = False
        except _ERRORS as error:
            self._note(error)

    async def update_async(self, store: AsyncRedis) -> None:
        """Copies the lists that have changed, now. Does the same as `update` otherwise."""
        try:
            versions = await store.hmget(keys.NETWORKS, _VERSION_FIELDS)
            for name in await asyncio.to_thread(self._outdated, versions):
                value = await store.hget(keys.NETWORKS, name)
                await asyncio.to_thread(self._write, name, value)
            self._is_failing = False
        except _ERRORS as error:
            self._note(error)

    def _is_due(self) -> bool:
        is_due = time.monotonic() >= self._next_check
        if is_due:
            self._next_check = time.monotonic() + CHECK_SECONDS
        return is_due

    def _outdated(self, versions: Iterable[bytes | None]) -> list[str]:
        """Returns the names of the lists whose copies differ from the store. versions: of _VERSION_FIELDS."""
        return [
            name
            for name, version in zip(PUBLISHED, versions, strict=True)
            if version and version.decode() != self._version(self._directory / f"{name}.txt")
        ]

    def _version(self, path: Path) -> str:
        """Returns the version of a copy, "" without a copy. Reads the file only if it has changed."""
        try:
            status = path.stat()
            stamp = status.st_mtime_ns, status.st_size
            if path not in self._versions or self._versions[path][0] != stamp:
                self._versions[path] = stamp, version_of(path.read_bytes())
        except FileNotFoundError:
            return ""
        return self._versions[path][1]

    def _write(self, name: str, value: bytes | None) -> None:
        if value is not None:
            text = unpack(value)
            self._directory.mkdir(parents=True, exist_ok=True)
            files.write(self._directory / f"{name}.txt", text)

    def _note(self, error: Exception) -> None:
        if not self._is_failing and not isinstance(error, redis.RedisError):
            log.error(
                "networks-unusable",
                "using the old lists of networks until this is mended: %(error)s",
                error=error,
            )
        self._is_failing = True


_VERSION_FIELDS = [f"{name} version" for name in PUBLISHED]
_ERRORS = (redis.RedisError, OSError, ValueError)
