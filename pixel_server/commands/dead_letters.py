"""`pixel-server dead-letters ...`"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from pixel_server.commands.support import as_json, with_store
from pixel_server.settings import Settings

if TYPE_CHECKING:
    from pixel_server.store.protocols import AsyncRedis


@click.group("dead-letters")
def dead_letters() -> None:
    """Look at hits that could not be read, and drop them."""


@dead_letters.command("list")
@as_json
def list_dead(as_json: bool) -> None:
    """List them, oldest first in each shard."""
    from pixel_server.store import audit_log, keys  # noqa: PLC0415

    async def read(store: AsyncRedis, settings: Settings) -> list[dict[str, Any]]:
        await audit_log.note(store, audit_log.COMMAND, "dead_letters.shown")
        found = []
        for shard in range(settings.shards):
            for entry, fields in await store.xrange(keys.dead(shard), "-", "+", 1000):
                reason = fields[b"reason"].decode("utf-8", "replace")
                found.append(
                    {"shard": shard, "id": entry.decode(), "reason": reason, "data": fields[b"data"].hex()}
                )
        return found

    found = with_store(read)
    if as_json:
        click.echo(json.dumps({"items": found, "next": None}))
        return
    for letter in found:
        click.echo(f"{letter['shard']}  {letter['id']}  {letter['reason']}  {letter['data'][:80]}")


@dead_letters.command("drop")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
def drop_dead(yes: bool, as_json: bool) -> None:
    """Drop all of them: a shard that stands still goes on."""
    from pixel_server.store import aof_rewrite, audit_log, keys  # noqa: PLC0415

    if not yes:
        click.confirm("Drop all dead letters?", abort=True, err=True)

    async def drop(store: AsyncRedis, settings: Settings) -> int:
        await audit_log.note(store, audit_log.COMMAND, "dead_letters.dropped")
        await aof_rewrite.ask(store)
        dropped: int = sum(
            [await store.xtrim(keys.dead(n), maxlen=0, approximate=False) for n in range(settings.shards)]
        )
        await aof_rewrite.ask(store)
        return dropped

    dropped = with_store(drop)
    click.echo(json.dumps({"dropped": dropped}) if as_json else f"dropped {dropped} dead letters")
