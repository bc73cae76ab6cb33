"""The store's own mark, by which a process notices that its store was emptied, or is another one.

A store gets the mark, 16 random hex digits, when it is first used: in `px:{all}:store`, and in the hash of
producers of each shard. A web process asks for it with each refresh of what it knows, and its recorder gives
it with each batch: a batch of a producer that the shard does not know is appended only if the marks are the
same (`producer.APPEND`). So nothing is written to a store that was emptied a moment ago. The mark is kept in
the data directory, for the next start.

`formerly` holds the marks of stores that this one stands for: `pixel-server store adopt` writes it, and each
process that knows one of these takes the new mark.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pixel_server.store import keys
from pixel_server.store.client import StoreEmptiedError
from pixel_server.store.protocols import AsyncRedis, Pipeline, Redis

log = logging.getLogger("pixel_server.store.store_mark")

FILE = "store.json"
FORMAT = 1
MOST_FORMER = 16
"""Former marks that a store keeps."""
_FIELDS = ["mark", "formerly"]
EMPTIED = (
    "the store was emptied, or is another one than this server used: hits go to the spool and nothing is "
    "counted until its data are back, or until you run `pixel-server store adopt`"
)


class StoreMark:
    """The mark of the store that this process uses. data: the data directory, None to keep nothing on disk.

    trouble: "" while the store is the known one, else one line for the operator.
    """

    def __init__(self, data: Path | None = None) -> None:
        self._path = None if data is None else data / FILE
        self.known = "" if self._path is None else _read(self._path)
        self.checked = False
        self.trouble = ""

    def current(self) -> bytes:
        """Returns the mark to give with a batch, b"" if the store has none.

        Raises ConnectionError while the store is not the known one, or was not looked at yet.
        """
        if self.trouble:
            raise ConnectionError(self.trouble)
        if not self.known and not self.checked:
            raise ConnectionError("the store has not been looked at yet")
        return self.known.encode()

    def ask(self, pipe: Pipeline) -> None:
        """Queues the question for `take`, as the last of a pipeline: what was read before it is good then."""
        pipe.hmget(keys.STORE, _FIELDS)

    async def look(self, store: AsyncRedis) -> None:
        """Asks the store alone; as `take`."""
        self.take(await store.hmget(keys.STORE, _FIELDS))

    def look_now(self, store: Redis) -> bool:
        """Asks the store in a worker; returns whether it is the known one."""
        try:
            self.take(store.hmget(keys.STORE, _FIELDS))
        except StoreEmptiedError:
            return False
        return True

    def take(self, answer: Any) -> None:
        """Compares the store's mark with the known one. Raises StoreEmptiedError if they differ."""
        mark, formerly = (
            [value.decode(errors="replace") if isinstance(value, bytes) else "" for value in answer]
            if isinstance(answer, list | tuple) and len(answer) == len(_FIELDS)
            else ("", "")
        )
        if self.known and mark != self.known and self.known not in formerly.split():
            if not self.trouble:
                log.error("%s", EMPTIED)
            self.trouble = EMPTIED
            raise StoreEmptiedError(EMPTIED)
        if self.known and mark != self.known:
            log.warning("the store was adopted: it is used from now on")
            self.learn(mark)
        if self.trouble:
            log.warning("the store is there again: it is used from now on")
        self.trouble = ""

    def learn(self, mark: str) -> None:
        """Takes this mark as that of the store, and keeps it in the data directory."""
        if mark != self.known and self._path is not None and self._path.parent.is_dir():
            try:
                write_whole(self._path, json.dumps({"format": FORMAT, "mark": mark}).encode() + b"\n")
            except OSError as error:
                log.warning(
                    "cannot write %s: after a restart an emptied store is not noticed: %s", self._path, error
                )
        self.known = mark


async def begin(store: AsyncRedis, shards: int, kept: str, is_marked: bool) -> str:
    """Marks the store and its shards, and returns its mark. kept: its mark, "" if it has none.

    is_marked: whether all shards got theirs before. Raises StoreEmptiedError if a shard has lost it since.
    """
    if not kept:
        await store.hsetnx(keys.STORE, "mark", secrets.token_hex(8))
        mark = await store.hget(keys.STORE, "mark")
        if mark is None:  # emptied between the two commands
            raise StoreEmptiedError(EMPTIED)
        kept = mark.decode(errors="replace")
    pipe = store.pipeline(transaction=False)
    for shard in range(shards):
        pipe.hget(keys.producers(shard), "mark")
    held = await pipe.execute()
    if is_marked and any(mark != kept.encode() for mark in held):
        raise StoreEmptiedError(EMPTIED)
    if not is_marked:
        await _mark_shards(store, range(shards), kept)
        await store.hset(keys.STORE, "marked", "1")
    return kept


async def adopt(store: AsyncRedis, shards: int, known: str) -> str:
    """Makes the store stand for the one of the known mark as well; returns its mark.

    Call it last: web processes and workers use the store from then on.
    """
    mark, formerly = await store.hmget(keys.STORE, _FIELDS)
    kept = secrets.token_hex(8) if mark is None else mark.decode()
    former = [*(formerly or b"").decode().split(), known]
    names = " ".join([name for name in dict.fromkeys(former) if name and name != kept][-MOST_FORMER:])
    await _mark_shards(store, range(shards), kept)
    await store.hset(keys.STORE, mapping={"mark": kept, "formerly": names, "marked": "1"})
    return kept


async def _mark_shards(store: AsyncRedis, shards: Sequence[int], mark: str) -> None:
    pipe = store.pipeline(transaction=False)
    for shard in shards:
        pipe.hset(keys.producers(shard), "mark", mark)
    await pipe.execute()


def write_whole(path: Path, content: bytes) -> None:
    """Replaces a file by this content, synced to disk, mode 0600. Raises OSError."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _read(path: Path) -> str:
    """Returns the mark that a data directory keeps, "" if there is none that can be read."""
    try:
        held = json.loads(path.read_bytes())
        if held["format"] == FORMAT and isinstance(held["mark"], str):
            return held["mark"]
        log.warning("%s is of another version: an emptied store is noticed only from now on", path)
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("cannot read %s: an emptied store is noticed only from now on: %s", path, error)
    return ""
