"""Makes a data directory from a backup.

Everything is made in the folder `.restoring` of the new data directory, checked there, and then moved to its
place. `up` does not start while that folder exists. So a restore that was killed cannot be taken for a whole
one. After a failure the directory is empty again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from pixel_server import files
from pixel_server.backups.archive import MANIFEST, STORE, BackupError, Manifest, check, members
from pixel_server.run.up_state import RESTORING
from pixel_server.run.valkey import Valkey
from pixel_server.secret import FILE as SECRETS
from pixel_server.secret import Secrets, SecretsError
from pixel_server.settings import Settings
from pixel_server.store import store_version
from pixel_server.store.client import StoreError

STOP_SECONDS = 60.0
"""Seconds that Valkey may take to end."""
_AOF = "appendonly.aof"


def restore(path: Path, data: Path, settings: Settings, inspect: Callable[[str, Manifest], None]) -> Manifest:
    """Makes the data directory `data` from a backup, whole or not at all. Returns the backup's manifest.

    inspect: called with the URL of the restored store while it runs, if the backup has the store. Raises
    BackupError, SecretsError, StoreError or OSError.
    """
    manifest = check(path)
    if manifest.store_format > store_version.FORMAT:
        raise BackupError(
            f"{path} holds a store of a newer version (format {manifest.store_format}, this one reads "
            f"{store_version.FORMAT}): use that version"
        )
    with _draft(data) as draft:
        _extract(path, draft)
        _check_secrets(path, draft, settings, manifest)
        if manifest.has_store:
            _load_store(path, draft, manifest, inspect)
        _publish(draft, data)
    return manifest


@contextlib.contextmanager
def _draft(data: Path) -> Iterator[Path]:
    """Makes the folder for the draft. After an exception, removes everything that was made."""
    is_new = not data.exists()
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = data / RESTORING
    if draft.exists():
        raise BackupError(f"{data} holds a restore that was not finished: remove everything in it first")
    if any(data.iterdir()):
        raise BackupError(f"{data} is not empty; nothing was changed")
    draft.mkdir(mode=0o700)
    try:
        yield draft
    except BaseException:
        for entry in data.iterdir():
            if entry != draft:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        shutil.rmtree(draft)
        if is_new:
            data.rmdir()
        raise


def _extract(path: Path, draft: Path) -> None:
    with members(path) as content:
        for name, source in content:
            if name == MANIFEST:
                continue
            place = draft / name
            if ".." in Path(name).parts or not place.is_relative_to(draft):
                raise BackupError(f"{path} has a file of the name {name!r}")
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(place, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
                shutil.copyfileobj(source, file, 1 << 20)
                file.flush()
                os.fsync(file.fileno())


def _check_secrets(path: Path, draft: Path, settings: Settings, manifest: Manifest) -> None:
    try:
        secrets = Secrets.load(draft, settings.signing_secrets, settings.recipient_secret)
    except SecretsError:
        if manifest.has_secrets:
            raise
        raise BackupError(
            f"{path} has no secrets, because its server had them from the environment: set PIXEL_SECRET and "
            "PIXEL_RECIPIENT_SECRET as there"
        ) from None
    recipient, signing = secrets.fingerprints()
    if recipient != manifest.recipient or not set(signing) & set(manifest.signing):
        raise BackupError(
            f"{path} was made with other secrets than PIXEL_SECRET and PIXEL_RECIPIENT_SECRET: unset both, "
            "or set them as on the server that made it"
        )


def _load_store(
    path: Path, draft: Path, manifest: Manifest, inspect: Callable[[str, Manifest], None]
) -> None:
    """Makes the append-only file from the snapshot, and starts Valkey on it."""
    folder = draft / "valkey" / "appendonlydir"
    folder.mkdir(mode=0o700, parents=True)
    (draft / STORE).rename(folder / f"{_AOF}.1.base.rdb")
    files.write(folder / f"{_AOF}.manifest", f"file {_AOF}.1.base.rdb seq 1 type b\n".encode(), 0o600)
    valkey = Valkey(draft, ends_with_parent=True)
    try:
        valkey.start()
        valkey.wait_ready()
        inspect(valkey.url, manifest)
    except StoreError as error:
        raise BackupError(f"the store in {path} cannot be loaded: {error}{_last_line(draft)}") from None
    finally:
        valkey.stop()
        valkey.wait(STOP_SECONDS)
    for name in ("lock", "valkey.log"):
        (draft / "valkey" / name).unlink(missing_ok=True)


def _last_line(draft: Path) -> str:
    with contextlib.suppress(OSError, IndexError):
        return ": " + (draft / "valkey" / "valkey.log").read_text(errors="replace").splitlines()[-1]
    return ""


def _publish(draft: Path, data: Path) -> None:
    """Moves everything to its place, the secrets last: without its secrets no server uses a store."""
    entries = sorted(draft.iterdir(), key=lambda entry: (entry.name == SECRETS, entry.name))
    for folder, _, _ in os.walk(draft):
        files.sync_directory(Path(folder))
    for entry in entries:
        entry.rename(data / entry.name)
    files.sync_directory(data)
    draft.rmdir()
    files.sync_directory(data)
