"""`pixel-server privacy report`"""

from __future__ import annotations

import json

import click

from pixel_server.collect.spool.status import read_status
from pixel_server.commands.support import as_json, print_table, with_store
from pixel_server.figures import inventory
from pixel_server.settings import Settings
from pixel_server.store.protocols import AsyncRedis


@click.group()
def privacy() -> None:
    """Report the data that is stored on people."""


@privacy.command("report")
@as_json
def report(as_json: bool) -> None:
    """Show each kind of stored data: how much, since when, how long it is kept, and where."""

    async def read_kinds(store: AsyncRedis, settings: Settings) -> list[inventory.Kind]:
        spool = read_status(settings.data / "spool")
        return await inventory.kinds(store, settings, spool.hits, spool.oldest_ms)

    kinds = with_store(read_kinds)
    if as_json:
        click.echo(json.dumps({"items": [kind._asdict() for kind in kinds], "next": None}))
        return
    rows = [("DATA", "HOLDS", "HOW MANY", "OLDEST", "KEPT FOR", "WHERE")]
    for kind in kinds:
        oldest = "-" if not kind.number else kind.oldest or "not known"
        count = f"{kind.number:,} {kind.unit}"
        rows.append((kind.data, kind.holds, count, oldest, kind.kept_for, kind.where))
    print_table(rows)
