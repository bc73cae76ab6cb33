"""Makes a backup of a data directory. The package's docstring says why it is of one instant."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from pixel_server import __version__, files
from pixel_server.backups.archive import STORE, BackupError, Manifest, Writer
from pixel_server.backups.record import Record, write_record
from pixel_server.backups.snapshot import Snapshot
from pixel_server.backups.spool_files import SpoolFiles
from pixel_server.recipients.withdrawals_file import FILE_NAME as WITHDRAWALS
from pixel_server.secret import FILE as SECRETS
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import keys, store_version
from pixel_server.store.client import connect
from pixel_server.store.protocols import Redis
from pixel_server.store.store_mark import FILE as MARK
from pixel_server.times import iso

SPOOL = "spool"
"""Name of the spool's directory, in the data directory and in the archive."""
DATA_FILES = (SECRETS, MARK, "campaigns.json", WITHDRAWALS, "losses.json")
"""Files of the data directory that are in a backup, besides spool, store and `networks/*.txt`."""
TIMEOUT_SECONDS = 60.0
"""Seconds that Valkey may take to answer. It answers nothing while it forks."""
MAX_TRIES = 10
"""Number of snapshots that are tried while segments of the spool come and go."""


def make(path: Path, settings: Settings, secrets: Secrets, own_url: str | None) -> Manifest:
    """Writes a backup to a file, whole or not at all. Returns its manifest.

    own_url: URL of the Valkey in the data directory, None if the store is another Redis, whose data are not
    in the backup. Raises BackupError, StoreError, or OSError.
    """
    with _lock(settings.data):
        _remove_drafts(path)
        spool = SpoolFiles(settings.data / SPOOL)
        try:
            with contextlib.ExitStack() as stack:
                store, counts = None, {}
                if own_url is None:
                    spool.open()
                else:
                    client = stack.enter_context(connect(own_url, timeout=TIMEOUT_SECONDS))
                    counts = _read_counts(client, settings.shards)
                    store = stack.enter_context(_take(client, settings.data, spool))
                manifest = _manifest(settings, secrets, store is not None, counts, spool.segments())
                _write(path, settings.data, manifest, store, spool)
        finally:
            spool.close()
        write_record(settings.data, Record(manifest.at, str(path.absolute())))
    return manifest


@contextlib.contextmanager
def _lock(data: Path) -> Iterator[None]:
    """Keeps other backups of this data directory from starting."""
    lock = os.open(data / "backup.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise BackupError(f"another backup of {data} is being made") from None
    finally:
        os.close(lock)


def _remove_drafts(path: Path) -> None:
    """Removes what a killed backup has left beside a file."""
    is_draft = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{16}}").fullmatch
    for draft in path.absolute().parent.glob(".*"):
        if is_draft(draft.name):
            draft.unlink(missing_ok=True)


def _take(client: Redis, data: Path, spool: SpoolFiles) -> IO[bytes]:
    """Takes store and spool of one instant. Returns the snapshot of the store."""
    for _ in range(MAX_TRIES):
        spool.open()
        snapshot = Snapshot(client, data / "valkey")
        snapshot.begin()
        is_whole = spool.open()
        file = snapshot.wait()
        if is_whole:
            return file
        file.close()
    raise BackupError("the spool changes too fast: try again when Redis answers faster")


def _read_counts(client: Redis, shards: int) -> dict[str, int]:
    pipe = client.pipeline(transaction=True)
    pipe.execute_command("DBSIZE")
    pipe.zcard(keys.CAMPAIGNS)
    for shard in range(shards):
        pipe.xlen(keys.hits(shard))
    all_keys, campaigns, *waiting = pipe.execute()
    return {"keys": all_keys, "campaigns": campaigns, "waiting_batches": sum(waiting)}


def _manifest(
    settings: Settings, secrets: Secrets, has_store: bool, counts: dict[str, int], segments: int
) -> Manifest:
    recipient, signing = secrets.fingerprints()
    return Manifest(
        version=__version__,
        store_format=store_version.FORMAT,
        shards=settings.shards,
        at=iso(int(datetime.now(UTC).timestamp())),
        has_store=has_store,
        has_secrets=(settings.data / SECRETS).exists(),
        recipient=recipient,
        signing=signing,
        counts={**counts, "spool_segments": segments},
    )


def _write(path: Path, data: Path, manifest: Manifest, store: IO[bytes] | None, spool: SpoolFiles) -> None:
    with files.open_whole(path.absolute(), 0o600) as file:
        writer = Writer(file, manifest)
        for name in (*DATA_FILES, *(f"networks/{path.name}" for path in data.glob("networks/*.txt"))):
            with contextlib.suppress(FileNotFoundError), open(data / name, "rb") as source:
                writer.add(name, source, os.fstat(source.fileno()).st_size)
        for name, segment, size in spool.items():
            writer.add(f"{SPOOL}/{name}", segment, size)
        if store is not None:
            writer.add(STORE, store, os.fstat(store.fileno()).st_size)
        writer.finish()
