"""`pixel-server dead-letters ...`"""

from __future__ import annotations

import json
from typing import Any

import click

from pixel_server.commands.support import as_json, with_store
from pixel_server.settings import Settings
from pixel_server.store import aof_rewrite, audit_log, keys
from pixel_server.store.protocols import AsyncRedis

MAX_PER_SHARD = 1000
"""Largest number of dead letters that are listed for each shard."""


@click.group()
def dead_letters() -> None:
    """List and drop hits that cannot be read."""


@dead_letters.command("list")
@as_json
def list_dead_letters(as_json: bool) -> None:
    """List the dead letters of each shard, at most 1,000 of a shard, oldest first."""

    async def read_letters(store: AsyncRedis, settings: Settings) -> list[dict[str, Any]]:
        await audit_log.note(store, audit_log.COMMAND, "dead_letters.shown")
        return [
            {
                "shard": shard,
                "id": entry_id.decode(),
                "reason": fields[b"reason"].decode("utf-8", "replace"),
                "data": fields[b"data"].hex(),
            }
            for shard in range(settings.shards)
            for entry_id, fields in await store.xrange(keys.dead(shard), "-", "+", MAX_PER_SHARD)
        ]

    letters = with_store(read_letters)
    if as_json:
        click.echo(json.dumps({"items": letters, "next": None}))
        return
    for letter in letters:
        click.echo(f"{letter['shard']}  {letter['id']}  {letter['reason']}  {letter['data'][:80]}")


@dead_letters.command("drop")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@as_json
def drop_dead_letters(yes: bool, as_json: bool) -> None:
    """Drop all dead letters. A shard that has stopped because of them goes on."""
    if not yes:
        click.confirm("Drop all dead letters?", abort=True, err=True)

    async def drop(store: AsyncRedis, settings: Settings) -> int:
        await audit_log.note(store, audit_log.COMMAND, "dead_letters.dropped")
        await aof_rewrite.request(store)  # in case this process ends before the second request
        counts = [
            await store.xtrim(keys.dead(shard), maxlen=0, approximate=False)
            for shard in range(settings.shards)
        ]
        await aof_rewrite.request(store)
        return sum(counts)

    dropped = with_store(drop)
    click.echo(json.dumps({"dropped": dropped}) if as_json else f"dropped {dropped} dead letters")
