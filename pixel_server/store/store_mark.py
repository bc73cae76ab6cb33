"""The store's own mark, by which a process notices that its store was emptied or replaced.

A store gets its mark, 16 random hexadecimal digits, when it is first used. The mark is in `px:{all}:store`
and in each shard's hash of producers. A web process reads the mark with each refresh of its caches, and its
recorder sends the mark with each batch. An emptied shard does not know the producer of a batch, and a batch
of an unknown producer is appended only if the marks are equal (`producer.APPEND`). So nothing is written to a
store that was emptied a moment ago. The data directory keeps the mark for the next start.

A process also reads the store's format with the mark, and stops using a store whose format is newer than it
can read.

The field `formerly` holds the marks of former stores that this store replaces. `pixel-server store adopt`
writes this field, and each process that knows one of these marks takes the new mark.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pixel_server import files
from pixel_server.logs import Log
from pixel_server.store import keys
from pixel_server.store.client import StoreEmptiedError, StoreNewerError, StoreRefusedError
from pixel_server.store.protocols import AsyncRedis, Pipeline, Redis
from pixel_server.store.store_version import VERSION_FIELD, describe_newer_format, is_newer_format

log = Log(__name__)

FILE = "store.json"
FORMAT = 1
MAX_FORMER = 16
"""Number of former marks that a store keeps."""
EMPTIED_TEXT = (
    "the store was emptied, or is not the store that this server used: hits go to the spool and nothing is "
    "counted until its data are back, or until you run `pixel-server store adopt`"
)
MOVED = "moved "
"""Beginning of the mark of a store that `pixel-server copy` has closed. Its former mark follows."""
MOVED_TEXT = (
    "the store was closed by `pixel-server copy`: hits go to the spool until this server is started with the "
    "new REDIS_URL (and PIXEL_SHARDS), or until `pixel-server copy --cancel`"
)
FIELDS = ["mark", "formerly", "format", VERSION_FIELD]
"""Fields of the store's record whose values `StoreMark.compare` takes."""


class StoreMark:
    """The mark of the store that this process uses. data: the data directory, None to keep nothing on disk.

    known: the mark, '' if none is known. is_checked: whether the store has been compared with the mark.
    trouble: '' while this process may use the store, otherwise one line for the operator.
    """

    def __init__(self, data: Path | None = None) -> None:
        self._path = None if data is None else data / FILE
        self.known = "" if self._path is None else _read_file(self._path)
        self.is_checked = False
        self.trouble = ""

    def current(self) -> bytes:
        """Returns the mark to send with a batch, b"" if the store has none.

        Raises ConnectionError while this process must not use the store, or has not checked it yet.
        """
        if self.trouble:
            raise ConnectionError(self.trouble)
        if not self.known and not self.is_checked:
            raise ConnectionError("the store has not been looked at yet")
        return self.known.encode()

    def queue_read(self, pipe: Pipeline) -> None:
        """Queues the command whose reply `compare` takes.

        Queue this command last. If `compare` accepts its reply, the commands before it used the known store
        too.
        """
        pipe.hmget(keys.STORE, FIELDS)

    async def check(self, store: AsyncRedis) -> None:
        """Reads the store's mark and compares it, as `compare` does."""
        self.compare(await store.hmget(keys.STORE, FIELDS))

    def is_known_store(self, store: Redis) -> bool:
        """Reads the store's mark, and returns whether the store is the known store, of a known format."""
        try:
            self.compare(store.hmget(keys.STORE, FIELDS))
        except StoreRefusedError:
            return False
        return True

    def compare(self, reply: Any) -> None:
        """Compares the store's mark with the known mark, and its format with that of this version.

        reply: the values of FIELDS, as `queue_read` reads them. Raises StoreEmptiedError if the marks differ,
        and StoreNewerError if the store's format is newer.
        """
        mark, formerly, stored_format, version = (
            [value.decode(errors="replace") if isinstance(value, bytes) else "" for value in reply]
            if isinstance(reply, list | tuple) and len(reply) == len(FIELDS)
            else ("", "", "", "")
        )
        if self.known and mark != self.known and self.known not in formerly.split():
            raise self._refused(StoreEmptiedError(MOVED_TEXT if mark.startswith(MOVED) else EMPTIED_TEXT))
        if is_newer_format(stored_format):
            raise self._refused(StoreNewerError(describe_newer_format(stored_format, version)))
        if self.known and mark != self.known:
            log.warning("store-adopted", "the store was adopted: it is used from now on")
            self.learn(mark)
        if self.trouble:
            log.warning("store-is-back", "the store is there again: it is used from now on")
        self.trouble = ""

    def _refused(self, error: StoreRefusedError) -> StoreRefusedError:
        """Notes why this process must not use the store, logs it once, and returns the error."""
        if self.trouble != str(error):
            log.error("store-refused", "%(error)s", error=error)
        self.trouble = str(error)
        return error

    def learn(self, mark: str) -> None:
        """Makes this mark the known mark, and writes it to the data directory."""
        if mark != self.known and self._path is not None and self._path.parent.is_dir():
            content = json.dumps({"format": FORMAT, "mark": mark}).encode() + b"\n"
            try:
                files.write(self._path, content, mode=0o600)
            except OSError as error:
                log.warning(
                    "store-file-not-written",
                    "cannot write %(path)s: after a restart an emptied store is not noticed: %(error)s",
                    path=self._path,
                    error=error,
                )
        self.known = mark


async def ensure_mark(store: AsyncRedis, shards: int, mark: str, is_marked: bool) -> str:
    """Marks the store and its shards if they have no mark. Returns the mark.

    mark: the store's mark, '' if it has none. is_marked: whether the store has noted that each shard was
    given the mark. If so, raises StoreEmptiedError if a shard no longer has the mark. Leaves out the shards
    of nodes that do not answer.
    """
    if not mark:
        await store.hsetnx(keys.STORE, "mark", secrets.token_hex(8))
        stored = await store.hget(keys.STORE, "mark")
        if stored is None:  # emptied between the two commands
            raise StoreEmptiedError(EMPTIED_TEXT)
        mark = stored.decode(errors="replace")
    pipe = store.pipeline(transaction=False)
    for shard in range(shards):
        pipe.hget(keys.producers(shard), "mark")
    shard_marks = await pipe.execute(raise_on_error=False)
    answers = [shard_mark for shard_mark in shard_marks if not isinstance(shard_mark, Exception)]
    if is_marked and any(shard_mark != mark.encode() for shard_mark in answers):
        raise StoreEmptiedError(EMPTIED_TEXT)
    if not is_marked:
        await _mark_shards(store, range(shards), mark)
        await store.hset(keys.STORE, "marked", "1")
    return mark


async def adopt(store: AsyncRedis, shards: int, known: str) -> str:
    """Makes the store the successor of the store with the known mark. Returns the store's own mark.

    Call it last: web processes and workers use the store from then on.
    """
    stored, formerly = await store.hmget(keys.STORE, ["mark", "formerly"])
    mark = secrets.token_hex(8) if stored is None else stored.decode()
    former = [*(formerly or b"").decode().split(), known]
    kept = " ".join([old for old in dict.fromkeys(former) if old and old != mark][-MAX_FORMER:])
    await _mark_shards(store, range(shards), mark)
    await store.hset(keys.STORE, mapping={"mark": mark, "formerly": kept, "marked": "1"})
    return mark


async def _mark_shards(store: AsyncRedis, shards: Sequence[int], mark: str) -> None:
    pipe = store.pipeline(transaction=False)
    for shard in shards:
        pipe.hset(keys.producers(shard), "mark", mark)
    await pipe.execute()


def _read_file(path: Path) -> str:
    """Returns the mark in the file of a data directory, '' if no mark can be read."""
    try:
        content = json.loads(path.read_bytes())
        if content["format"] == FORMAT and isinstance(content["mark"], str):
            return content["mark"]
        log.warning(
            "store-file-newer",
            "%(path)s is of another version: an emptied store is noticed only from now on",
            path=path,
        )
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning(
            "store-file-unreadable",
            "cannot read %(path)s: an emptied store is noticed only from now on: %(error)s",
            path=path,
            error=error,
        )
    return ""
