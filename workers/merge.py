"""Merges the values of all shards, see `store.merged`."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, timedelta
from itertools import islice
from typing import Any, TypeVar

import redis

from pixel_server.counters import open_breakdown, series
from pixel_server.counters.stored_format import NewerFormat
from pixel_server.logs import Log
from pixel_server.settings import Settings
from pixel_server.store import keys, merged
from pixel_server.store.checkpoint import Command
from pixel_server.store.client import connect
from pixel_server.store.merged import Position
from pixel_server.store.protocols import Redis
from pixel_server.store.script import GLOBAL
from workers import merge_values
from workers.context import is_known_store

log = Log(__name__)

REDIS_TIMEOUT_SECONDS = 5.0
"""Seconds in which Redis must answer."""
BATCH_VALUES = 8192
"""Number of values read in one round trip, from all shards together."""
MAX_UNITED = 16
"""Largest number of HyperLogLogs that one script adds to a merged value: each takes the store some 50
microseconds."""
WRITE_BYTES = 256 << 10
"""Bytes of commands after which they are written."""
REST = 1.0
"""Seconds of rest after each second of work. So merging takes at most half a core."""
MAX_REST_MS = 20_000
_CAMPAIGNS = 100
"""Number of campaigns read at once."""


T = TypeVar("T")


class Overtaken(Exception):
    """Another merge has begun, so this merge cannot write any more."""

    def __init__(self) -> None:
        super().__init__("took so long that another merge has begun")


class MergeThread:
    """Merges in a thread of this process, so that no worker is kept from counting."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store: Redis = connect(settings.redis_url, timeout=REDIS_TIMEOUT_SECONDS)
        self._thread: threading.Thread | None = None
        self._is_failing = False

    def start(self) -> None:
        """Starts a merge, unless the last merge still runs, or the store has few shards."""
        if merged.is_merged(self._settings.shards) and (self._thread is None or not self._thread.is_alive()):
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()

    def wait(self) -> None:
        """Waits until the merge has ended."""
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            if is_known_store(self._store):
                merge(self._store, self._settings)
            self._is_failing = False
        except Exception as error:  # the next merge tries again, whatever the error
            if not self._is_failing:
                is_expected = isinstance(error, redis.RedisError | OSError | NewerFormat | Overtaken)
                stack = None if is_expected else error
                log.error(
                    "merge-failed",
                    "cannot merge the figures of all shards; figures are soon read from the shards: "
                    "%(error)s",
                    error=error,
                    exc=stack,
                )
            self._is_failing = True


def merge(store: Redis, settings: Settings) -> bool:
    """Merges what has changed since the last merge. Returns False if another merge is under way or rests."""
    began, owner = time.monotonic(), secrets.token_hex(8)
    fields = merged.begin(store, owner)
    if fields is None:
        return False
    merging = _Merge(store, settings.shards, owner)
    positions = merged.positions(fields)
    looks = merged.look(store, positions, settings.shards)
    lost = [
        shard
        for shard, look in enumerate(looks)
        if fields.get("format") != str(merged.FORMAT)
        or shard not in positions
        or not look.has(positions[shard])
    ]
    new: dict[int, Position] = {}
    if lost:
        log.info(
            "merge-from-start",
            "%(shards)d shards have no known position: merging all values",
            shards=len(lost),
        )
        merging.write(merged.NOT_MERGED)
        new |= merged.start(store, lost)
        merging.merge_all()
    shards_by_name: dict[str, set[int]] = {}
    for shard, look in enumerate(looks):
        if shard not in new and (newest := look.newest()) != positions[shard]:
            new[shard] = newest
            for name, number in look.names:
                if name[0] != "=" and number > positions[shard].number:
                    shards_by_name.setdefault(name, set()).add(shard)
    merging.merge_names(shards_by_name)
    as_of_ms = min(look.counted_until_ms for look in looks)
    now_ms = int(store.time()[0]) * 1000
    rest_ms = min(MAX_REST_MS, int((time.monotonic() - began) * REST * 1000))
    merging.write(merged.end_commands(as_of_ms, now_ms, new), rest_ms)
    merged.trim(store, new)
    return True


class _Merge:
    """One merge: reads values from the shards, and writes them merged."""

    def __init__(self, store: Redis, shards: int, owner: str) -> None:
        self._store = store
        self._shards = shards
        self._owner = owner

    def write(self, commands: Iterable[Command], lease_ms: int | None = None) -> None:
        """Writes. lease_ms: milliseconds for which no other merge begins, None for `merged.LEASE_MS`."""
        lease_ms = merged.LEASE_MS if lease_ms is None else lease_ms
        if not merged.write(self._store, self._owner, commands, lease_ms):
            raise Overtaken

    def merge_names(self, shards_by_name: Mapping[str, set[int]]) -> None:
        """Merges the values of these names. shards_by_name: the shards that have changed each value.

        Of a HyperLogLog only the values of these shards are read, unless one of them is gone.
        """
        logs = {name: shards for name, shards in shards_by_name.items() if _is_hyperloglog(name)}
        from_all = [name for name in shards_by_name if name not in logs]
        for name, values in self._read(logs):
            if all(values):
                parts = _chunks(values, MAX_UNITED)
                self._write_all([("UNITE", f"px:{{all}}:{name}", *part)] for part in parts)
            else:
                from_all.append(name)
        self._merge(from_all)

    def _merge(self, names: Iterable[str]) -> None:
        """Merges the values that all shards have of these names."""
        everywhere = set(range(self._shards))
        reading = self._read(dict.fromkeys(names, everywhere))
        self._write_all(merge_values.commands(name, values) for name, values in reading)

    def _read(self, shards_by_name: Mapping[str, set[int]]) -> Iterator[tuple[str, list[Any]]]:
        """Yields each name with the values of its shards."""
        for batch in _chunks(sorted(shards_by_name), max(1, BATCH_VALUES // self._shards)):
            names_by_shard: dict[int, list[str]] = {}
            for name in batch:
                for shard in shards_by_name[name]:
                    names_by_shard.setdefault(shard, []).append(name)
            pipe = self._store.pipeline(transaction=False)
            for shard, names in names_by_shard.items():
                merged.queue_values(pipe, shard, names)
            values: dict[str, list[Any]] = {name: [] for name in batch}
            for names, reply in zip(names_by_shard.values(), pipe.execute(), strict=True):
                for name, value in zip(names, reply, strict=True):
                    values[name].append(value)
            yield from values.items()

    def _write_all(self, groups: Iterable[list[Command]]) -> None:
        """Writes groups of commands in scripts of about WRITE_BYTES. A group is written by one script."""
        waiting: list[Command] = []
        size = 0
        for group in groups:
            waiting += group
            size += sum(len(word) for command in group for word in command)
            if size >= WRITE_BYTES:
                self.write(waiting)
                waiting, size = [], 0
        if waiting:
            self.write(waiting)

    def merge_all(self) -> None:
        """Merges all values of all campaigns."""
        start = "-"
        while ids := self._store.zrangebylex(keys.CAMPAIGNS, start, "+", 0, _CAMPAIGNS):
            for campaign in ids:
                self._merge_campaign(campaign.decode())
            start = f"({ids[-1].decode()}"

    def _merge_campaign(self, campaign: str) -> None:
        old_days = self._days(campaign)
        fields: set[tuple[str, str]] = {("breakdown", open_breakdown.ALL)}
        pipe = self._store.pipeline(transaction=False)
        for tag in (*range(self._shards), GLOBAL):
            pipe.hkeys(keys.months(tag, campaign))
            pipe.hkeys(keys.breakdown(tag, campaign))
        replies = pipe.execute()
        fields |= {("months", field.decode()) for reply in replies[::2] for field in reply}
        fields |= {("breakdown", field.decode()) for reply in replies[1::2] for field in reply}
        names = [f"{kind}:{campaign}" for kind in ("total", "rules", "addresses", "visitors")]
        names += [f"{kind}:{campaign} {field}" for kind, field in fields]
        self._merge(names)
        days = old_days | self._days(campaign)
        near = {day + timedelta(days=n) for day in days for n in (-1, 0, 1)}
        names = [f"{kind}:{campaign}:{day:%Y%m%d}" for kind in ("web", "visitors") for day in days]
        names += [f"buckets:{campaign}:{day:%Y%m%d}" for day in near]
        self._merge(names)

    def _days(self, campaign: str) -> set[date]:
        """Returns the local days of the merged months."""
        months = self._store.hgetall(keys.months(GLOBAL, campaign))
        return {
            date(int(month[:4]), int(month[4:]), day)
            for month, value in months.items()
            for day in series.unpack(value)
        }


def _is_hyperloglog(name: str) -> bool:
    return merge_values.kind(name) in merge_values.HYPERLOGLOGS


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
