"""`pixel-server backup` and `pixel-server restore`"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType

import click

from pixel_server.backups import archive
from pixel_server.backups.archive import BackupError, Manifest
from pixel_server.backups.backup import make
from pixel_server.backups.restore import restore as restore_backup
from pixel_server.commands.failures import Failure
from pixel_server.commands.findings import counted
from pixel_server.commands.running_store import running_store
from pixel_server.commands.support import as_json, is_redis_url_set, settings_here, store_url
from pixel_server.run.up_state import read_up_state
from pixel_server.run.valkey import Valkey
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store.client import connect_async
from pixel_server.store.compatibility import check_store
from pixel_server.store.store_mark import StoreMark
from pixel_server.verification.store_check import verify

TIMEOUT_SECONDS = 30.0
"""Seconds that Redis may take to answer."""
FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("file", type=FILE)
@click.option("--verify", "is_check", is_flag=True, help="Check an existing FILE; make no backup.")
@as_json
def backup(file: Path, is_check: bool, as_json: bool) -> None:
    """Write store, spool and secrets to one file, or check such a file.

    The server may run or be stopped. FILE is replaced once the new backup is whole, and can be read by this
    user alone. With a Redis of your own (REDIS_URL), the file has all but the store.
    """
    _end_cleanly()
    try:
        manifest = archive.check(file) if is_check else _make(file)
    except BackupError as error:
        raise Failure(str(error)) from None
    except OSError as error:
        done = "check" if is_check else "write"
        raise Failure(f"cannot {done} {error.filename or file}: {error.strerror or error}") from None
    if as_json:
        click.echo(json.dumps(asdict(manifest)))
        return
    click.echo(f"{'whole' if is_check else 'made'}: {_describe(manifest)}, in {file}")
    if not manifest.has_store:
        click.echo(
            "the store is not in the file: it is in a Redis of your own. Back that up now, after this file"
        )
    if not manifest.has_secrets:
        click.echo("the secrets are not in the file: keep PIXEL_SECRET and PIXEL_RECIPIENT_SECRET elsewhere")


@click.command()
@click.argument("file", type=FILE)
@click.option("--data", type=click.Path(path_type=Path), help="New data directory.  [default: ./pixel-data]")
@click.pass_context
def restore(ctx: click.Context, file: Path, data: Path | None) -> None:
    """Make a data directory from the file of a backup.

    The directory must be empty or missing. Afterwards verifies the store, as `pixel-server verify` does; the
    exit code is 1 if it has a fault. Then start the server with this directory.
    """
    _end_cleanly()
    settings = Settings.from_env()
    settings = replace(settings, data=data or settings.data)
    faults: list[str] = []

    def inspect(url: str, manifest: Manifest) -> None:
        faults.extend(asyncio.run(_verify(url, replace(settings, shards=manifest.shards))))

    try:
        manifest = restore_backup(file, settings.data.absolute(), settings, inspect)
    except BackupError as error:
        raise Failure(str(error)) from None
    except OSError as error:
        raise Failure(
            f"cannot restore to {settings.data}: {error.strerror or error}; nothing was left"
        ) from None
    for fault in faults:
        click.echo(fault)
    click.echo(f"restored: {_describe(manifest)}, to {settings.data}")
    if manifest.has_store:
        click.echo(f"verified: {counted(len(faults), 'fault')}")
    else:
        click.echo("the store was not in the file: restore your Redis too, and set REDIS_URL")
    ctx.exit(1 if faults else 0)


def _make(file: Path) -> Manifest:
    settings = settings_here()
    secrets = Secrets.load(settings.data, settings.signing_secrets, settings.recipient_secret)
    if not _has_own_valkey(settings):
        return make(file, settings, secrets, None)
    with running_store(settings) as url:
        asyncio.run(_check(url, settings, secrets))
        return make(file, settings, secrets, url)


def _has_own_valkey(settings: Settings) -> bool:
    """Returns whether the store is the Valkey in the data directory."""
    if is_redis_url_set():
        return False
    if read_up_state(settings.data) is None:
        return (settings.data / "valkey").is_dir()
    return store_url(settings) == Valkey(settings.data).url


async def _check(url: str, settings: Settings, secrets: Secrets) -> None:
    """Raises StoreError if the store does not belong to these secrets."""
    store = connect_async(url, timeout=TIMEOUT_SECONDS)
    try:
        await check_store(store, url, settings.shards, secrets, StoreMark(settings.data))
    finally:
        await store.aclose()


async def _verify(url: str, settings: Settings) -> list[str]:
    store = connect_async(url, timeout=TIMEOUT_SECONDS)
    try:
        return [fault async for fault in verify(store, settings)]
    finally:
        await store.aclose()


def _describe(manifest: Manifest) -> str:
    counts = manifest.counts
    store = (
        f"{counted(counts.get('keys', 0), 'key')}, {counted(counts.get('campaigns', 0), 'campaign')}, "
        if manifest.has_store
        else ""
    )
    return f"{store}{counted(counts.get('spool_segments', 0), 'spool segment')} of {manifest.at}"


def _end_cleanly() -> None:
    """Makes SIGTERM end this command as Ctrl-C does, so that it removes its drafts."""

    def end(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, end)
