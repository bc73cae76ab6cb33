"""Stores losses in the store, and in `losses.json` in the data directory; see `losses`."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import redis

from pixel_server import files
from pixel_server.collect.losses import (
    ACKNOWLEDGED_AT,
    FORMAT,
    LossReport,
    StoredLosses,
    acknowledged_at,
    found_at,
    merge,
    summarize,
    unpack_losses,
)
from pixel_server.counters.stored_format import NewerFormat
from pixel_server.logs import Log
from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.script import ScriptCall, script_call
from pixel_server.times import DAY_MS

log = Log(__name__)

FILE = "losses.json"
MAX_LOSSES = 1000
"""Maximum number of stored losses. Further losses are only logged."""
FORGET_MS = 60 * DAY_MS
"""Milliseconds that an acknowledged loss stays stored, so that it is not found and reported again."""

_ADD = f"""
-- KEYS: losses. ARGV: pairs of a name and a loss. Returns the number of new losses.
local new = 0
for i = 1, #ARGV, 2 do
  if redis.call('HLEN', KEYS[1]) < {MAX_LOSSES} then
    new = new + redis.call('HSETNX', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
return new
"""


def _add_call(key: str, *, pairs: Iterable[str]) -> ScriptCall:
    return script_call(_ADD, keys=(key,), arguments=pairs)


async def read_store(store: AsyncRedis) -> StoredLosses:
    """Returns the losses in the store."""
    items = await store.hgetall(keys.LOSSES)
    return {field.decode(errors="replace"): text.decode(errors="replace") for field, text in items.items()}


async def add_to_store(store: AsyncRedis, losses: StoredLosses) -> None:
    """Adds losses to the store. Does not change losses that the store has already."""
    pairs = [text for pair in losses.items() if pair[0] != ACKNOWLEDGED_AT for text in pair]
    if pairs:
        await store.eval(*_add_call(keys.LOSSES, pairs=pairs))


async def acknowledge(store: AsyncRedis, data: Path, now: int) -> int:
    """Acknowledges all losses found up to `now` (ms), so that they are no longer reported.

    Returns the number of losses that were reported before this call.
    """
    stored = merge(read_file(data), await read_store(store))
    forgotten = [
        name for name, text in stored.items() if name != ACKNOWLEDGED_AT and found_at(text) < now - FORGET_MS
    ]
    reported = len(unpack_losses(stored))
    await store.hset(keys.LOSSES, ACKNOWLEDGED_AT, str(now))
    if forgotten:
        await store.hdel(keys.LOSSES, *forgotten)
    add_to_file(data, {ACKNOWLEDGED_AT: str(now)})
    return reported


def read_file(data: Path) -> StoredLosses:
    """Returns the losses in the data directory, {} if there is no file that can be read."""
    try:
        return _read_file(data)
    except (OSError, NewerFormat) as error:
        log.error(
            "losses-file-unreadable",
            "cannot read %(path)s, so earlier losses are not shown: %(error)s",
            path=data / FILE,
            error=error,
        )
    return {}


def _read_file(data: Path) -> StoredLosses:
    """Returns the losses in the data directory, {} if there is no file, or a damaged file.

    Raises OSError if the file cannot be read now, NewerFormat if a newer version wrote it. In both
    cases the file must not be replaced.
    """
    try:
        content = json.loads((data / FILE).read_bytes())
        version, items = content["format"], content["items"]
        stored = {str(name): str(text) for name, text in items.items()} if version == FORMAT else {}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        log.error(
            "losses-file-damaged",
            "%(path)s is damaged, so the losses in it are not shown: %(error)s",
            path=data / FILE,
            error=error,
        )
        return {}
    if version != FORMAT:
        raise NewerFormat(f"format {version!r}, this version reads {FORMAT}")
    return stored


def add_to_file(data: Path, losses: StoredLosses) -> None:
    """Adds losses, or an acknowledgement, to the file in the data directory. Drops old acknowledged losses.

    Raises OSError, or NewerFormat if a newer version wrote the file.
    """
    with _locked(data):
        before = _read_file(data)
        acknowledged_ms = max(acknowledged_at(before), acknowledged_at(losses))
        kept = {
            name: text
            for name, text in {**before, **losses}.items()
            if name != ACKNOWLEDGED_AT and found_at(text) > acknowledged_ms - FORGET_MS
        }
        after = dict(list(kept.items())[:MAX_LOSSES])
        if acknowledged_ms:
            after[ACKNOWLEDGED_AT] = str(acknowledged_ms)
        if after != before:
            content = json.dumps({"format": FORMAT, "items": after}, indent=1)
            files.write(data / FILE, content.encode() + b"\n", 0o600)


def report_file(data: Path) -> LossReport:
    """Returns the sum of the losses in the data directory that are not acknowledged."""
    return summarize(unpack_losses(read_file(data)))


async def report_all(store: AsyncRedis, data: Path) -> LossReport:
    """Returns the sum of the losses in store and data directory that are not acknowledged.

    If the store cannot be read, only the losses in the data directory count.
    """
    stored = read_file(data)
    with contextlib.suppress(redis.RedisError, OSError):
        stored = merge(stored, await read_store(store))
    return summarize(unpack_losses(stored))


@contextlib.contextmanager
def _locked(data: Path) -> Iterator[None]:
    """Lets one process write the file at a time: several processes may share a data directory."""
    data.mkdir(parents=True, exist_ok=True)
    handle = os.open(data / f"{FILE}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
