"""Takes a snapshot of a Valkey that runs on this machine, and reads it as a file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import IO

import redis

from pixel_server.store.client import StoreError
from pixel_server.store.protocols import Redis

FILE = "dump.rdb"
"""Name of the file that Valkey writes."""
POLL_SECONDS = 0.05
START_TIMEOUT_SECONDS = 600.0
"""Seconds to wait for a rewrite of the append-only file to end: Valkey forks for one task at a time."""
_BUSY_WORDS = ("in progress", "append only", "child process", "active")


class Snapshot:
    """A snapshot of a Valkey. home: the directory in which that Valkey writes its files."""

    def __init__(self, store: Redis, home: Path) -> None:
        self._store = store
        self._home = home

    def begin(self) -> None:
        """Makes Valkey fork. That is the instant of the snapshot. Raises StoreError."""
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while True:
            try:
                self._store.execute_command("BGSAVE")
                return
            except redis.ResponseError as error:
                is_busy = any(word in str(error).lower() for word in _BUSY_WORDS)
                if not is_busy or time.monotonic() > deadline:
                    raise StoreError(f"Valkey cannot take a snapshot: {error}") from None
            time.sleep(POLL_SECONDS)

    def wait(self) -> IO[bytes]:
        """Waits until the snapshot is written. Returns its open file, which has no name any more.

        Raises StoreError if Valkey could not write the snapshot.
        """
        while (state := self._store.info("persistence"))["rdb_bgsave_in_progress"]:
            time.sleep(POLL_SECONDS)
        if state["rdb_last_bgsave_status"] != "ok":
            raise StoreError(
                f"Valkey cannot write its snapshot to {self._home} (is the disk full?): see valkey.log there"
            )
        file = open(self._home / FILE, "rb")  # noqa: SIM115 - the caller closes it
        (self._home / FILE).unlink()
        return file
