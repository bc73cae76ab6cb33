"""`pixel-server privacy report`"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from pixel_server.commands.support import as_json, with_store
from pixel_server.settings import Settings

if TYPE_CHECKING:
    from pixel_server.store.protocols import AsyncRedis


@click.group()
def privacy() -> None:
    """What is kept of people."""


@privacy.command("report")
@as_json
def report(as_json: bool) -> None:
    """Show what is kept now: of how many, since when, for how long, and where."""
    from pixel_server.collect.spool.status import read_status  # noqa: PLC0415
    from pixel_server.figures import inventory  # noqa: PLC0415

    async def read(store: AsyncRedis, settings: Settings) -> list[inventory.Kind]:
        spool = read_status(settings.data / "spool")
        return await inventory.kinds(store, settings, spool.hits, spool.oldest_ms)

    kinds = with_store(read)
    if as_json:
        click.echo(json.dumps({"items": [kind._asdict() for kind in kinds], "next": None}))
        return
    rows = [("DATA", "HOLDS", "HOW MANY", "OLDEST", "KEPT FOR", "WHERE")]
    for kind in kinds:
        oldest = "-" if not kind.number else kind.oldest or "not known"
        count = f"{kind.number:,} {kind.unit}"
        rows.append((kind.data, kind.holds, count, oldest, kind.kept_for, kind.where))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip())
