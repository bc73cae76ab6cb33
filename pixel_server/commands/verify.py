"""`pixel-server verify`"""

from __future__ import annotations

import asyncio
import json

import click

from pixel_server.commands.findings import counted
from pixel_server.commands.running_store import running_store
from pixel_server.commands.support import as_json, settings_here
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store.client import connect_async
from pixel_server.store.compatibility import check_store
from pixel_server.store.store_mark import StoreMark
from pixel_server.verification.store_check import verify as verify_store

TIMEOUT_SECONDS = 30.0
"""Seconds that Redis may take to answer."""


@click.command()
@as_json
@click.pass_context
def verify(ctx: click.Context, as_json: bool) -> None:
    """Check that all counts in the store agree.

    Compares totals with days, days with 15-minute buckets, recipients with unique figures, checkpoints with
    streams, and merged values with shards. Also finds unknown keys and values of unknown formats. Prints a
    line for each fault; the exit code is then 1. Changes nothing. The server may run or be stopped.
    """
    settings = settings_here()
    secrets = Secrets.load(settings.data, settings.signing_secrets, settings.recipient_secret)
    with running_store(settings) as url:
        faults, keys_read = asyncio.run(_verify(url, settings, secrets))
    if as_json:
        click.echo(json.dumps({"keys": keys_read, "items": faults, "next": None}))
    else:
        for fault in faults:
            click.echo(fault)
        click.echo(f"{counted(keys_read, 'key')} read, {counted(len(faults), 'fault')}", err=bool(faults))
    ctx.exit(1 if faults else 0)


async def _verify(url: str, settings: Settings, secrets: Secrets) -> tuple[list[str], int]:
    """Returns the faults of the store, and the number of keys."""
    keys_read = 0

    def note(number: int) -> None:
        nonlocal keys_read
        keys_read = number

    store = connect_async(url, timeout=TIMEOUT_SECONDS)
    try:
        await check_store(store, url, settings.shards, secrets, StoreMark(settings.data))
        return [fault async for fault in verify_store(store, settings, note)], keys_read
    finally:
        await store.aclose()
