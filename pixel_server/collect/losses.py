"""Losses: batches that Redis had acknowledged and that are gone, as after a replica was promoted.

Each is written to the store (`px:{all}:losses`) and to `losses.json` in the data directory, so that it is
reported after a restart of either, until `pixel-server losses acknowledge`. It is named after the batches
that are missing: whoever finds the same loss again writes the same line.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import redis

from pixel_server.collect.acknowledged import Missing
from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.store_mark import write_whole
from pixel_server.times import DAY_MS

log = logging.getLogger("pixel_server.collect.losses")

FILE = "losses.json"
FORMAT = 1
MOST = 1000
"""Losses kept one by one; of more, the sums stand in the last one."""
FORGET_MS = 60 * DAY_MS
"""Milliseconds after which an acknowledged loss is forgotten; until then it would be found again."""
SEEN_UNTIL = "acknowledged"
"""A field beside the losses: those found until then (ms) are not reported any more."""

_ADD = f"""
-- KEYS: losses. ARGV: pairs of a name and a loss. Returns how many were new.
local new = 0
for i = 1, #ARGV, 2 do
  if redis.call('HLEN', KEYS[1]) < {MOST} then
    new = new + redis.call('HSETNX', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
return new
"""


class Loss(NamedTuple):
    """at: ms when it was found. shard: where. batches, hits: how many; hits at least so many unless exact.

    commits: how many commits of the roll-up the shard's counters went back by.
    """

    at: int
    shard: int
    batches: int
    hits: int
    is_exact: bool
    commits: int = 0


class Report(NamedTuple):
    """What was lost and not acknowledged. since: ms of the first one. shards: batches by shard."""

    batches: int = 0
    hits: int = 0
    is_exact: bool = True
    since: int | None = None
    shards: Mapping[int, int] = {}
    commits: int = 0

    def text(self) -> str:
        """Returns one line for the operator."""
        where = ", ".join(f"{shard}" for shard in sorted(self.shards))
        if not self.batches:
            return (
                f"the counters of shards {where} went back by {self.commits} commits: Redis came back as it "
                "was before; see `pixel-server losses list`"
            )
        most = "" if self.is_exact else "at least "
        hits = f"{most}{self.hits} hits" if self.hits else "of how many hits is not known"
        return (
            f"{self.batches} batches were lost, {hits} (shards {where}): Redis came back without them; see "
            "`pixel-server losses list`"
        )


Held = dict[str, str]
"""A loss as JSON, by its name; and SEEN_UNTIL."""


def name(missing: Missing) -> str:
    return f"{missing.producer}:{missing.shard}:{missing.first}-{missing.last}"


def went_back(shard: int, before: int, now: int, at: int) -> tuple[str, str]:
    """Returns the name and the loss of counters whose generation fell from `before` to `now`. at: ms."""
    loss = Loss(at, shard, 0, 0, True, before - now)
    return f"turn:{shard}:{now}-{before}", json.dumps({"format": FORMAT, **loss._asdict()})


def made(missing: Missing, at: int) -> str:
    """Returns the loss as it is kept. at: ms."""
    loss = Loss(at, missing.shard, missing.last - missing.first + 1, missing.hits, missing.is_exact)
    return json.dumps({"format": FORMAT, **loss._asdict()})


async def read(store: AsyncRedis) -> Held:
    found = await store.hgetall(keys.LOSSES)
    return {field.decode(errors="replace"): value.decode(errors="replace") for field, value in found.items()}


async def put(store: AsyncRedis, items: Held) -> None:
    """Adds those that the store has not."""
    pairs = [text for pair in items.items() if pair[0] != SEEN_UNTIL for text in pair]
    if pairs:
        await store.eval(_ADD, 1, keys.LOSSES, *pairs)


async def acknowledge(store: AsyncRedis, data: Path, now: int) -> int:
    """Reports what was found until now (ms) no more; returns how many losses that were."""
    held = merged(read_file(data), await read(store))
    gone = [field for field, value in held.items() if field != SEEN_UNTIL and _at(value) < now - FORGET_MS]
    known = len(parse(held))
    await store.hset(keys.LOSSES, SEEN_UNTIL, str(now))
    if gone:
        await store.hdel(keys.LOSSES, *gone)
    keep(data, {SEEN_UNTIL: str(now)})
    return known


def read_file(data: Path) -> Held:
    """Returns what the data directory keeps; nothing if there is no file that can be read."""
    try:
        held = json.loads((data / FILE).read_bytes())
        if held["format"] == FORMAT:
            return {str(field): str(value) for field, value in held["items"].items()}
        log.error("%s is of a newer version; what it reports is not shown", data / FILE)
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.error("cannot read %s, so losses from before are not shown: %s", data / FILE, error)
    return {}


def keep(data: Path, items: Held) -> None:
    """Adds to the file of the data directory. Raises OSError."""
    with _locked(data):
        held = read_file(data)
        until = max(_number(held.get(SEEN_UNTIL)), _number(items.get(SEEN_UNTIL)))
        both = {**held, **items}
        kept = {
            field: value
            for field, value in both.items()
            if field != SEEN_UNTIL and _at(value) > until - FORGET_MS
        }
        first = dict(list(kept.items())[:MOST])
        if until:
            first[SEEN_UNTIL] = str(until)
        if first != held:
            write_whole(data / FILE, _encode(first))


def parse(held: Held) -> list[Loss]:
    """Returns the losses that are not acknowledged, oldest first; leaves out what cannot be read."""
    until = _number(held.get(SEEN_UNTIL))
    found = []
    for field, value in held.items():
        with contextlib.suppress(ValueError, KeyError, TypeError):
            if field != SEEN_UNTIL:
                kept = json.loads(value)
                at, shard, batches, hits = (int(kept[part]) for part in ("at", "shard", "batches", "hits"))
                loss = Loss(at, shard, batches, hits, bool(kept["is_exact"]), int(kept.get("commits", 0)))
                if loss.at > until:
                    found.append(loss)
    return sorted(found)


def merged(one: Held, other: Held) -> Held:
    """Returns both, with the later of the two acknowledgements."""
    until = max(_number(one.get(SEEN_UNTIL)), _number(other.get(SEEN_UNTIL)))
    return {**one, **other, SEEN_UNTIL: str(until)}


def of_data(data: Path) -> Report:
    """Returns the losses that the data directory knows of and that are not acknowledged."""
    return report(parse(read_file(data)))


def report(losses: Iterable[Loss]) -> Report:
    shards: dict[int, int] = {}
    batches = hits = commits = 0
    is_exact, since = True, None
    for loss in losses:
        batches += loss.batches
        hits += loss.hits
        commits += loss.commits
        is_exact &= loss.is_exact
        since = loss.at if since is None else min(since, loss.at)
        shards[loss.shard] = shards.get(loss.shard, 0) + loss.batches
    return Report(batches, hits, is_exact, since, shards, commits)


async def known(store: AsyncRedis, data: Path) -> Report:
    """Returns what the store and the data directory report; the latter alone if the store cannot be read."""
    held = read_file(data)
    with contextlib.suppress(redis.RedisError, OSError):
        held = merged(held, await read(store))
    return report(parse(held))


def _encode(items: Held) -> bytes:
    return json.dumps({"format": FORMAT, "items": items}, indent=1).encode() + b"\n"


def _number(value: Any) -> int:
    try:
        return int(value or 0)
    except ValueError:
        return 0


def _at(value: str) -> int:
    try:
        return int(json.loads(value)["at"])
    except (ValueError, KeyError, TypeError):
        return 0


@contextlib.contextmanager
def _locked(data: Path) -> Any:
    """Holds the file for one writer at a time: several processes may share a data directory."""
    data.mkdir(parents=True, exist_ok=True)
    handle = os.open(data / f"{FILE}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
