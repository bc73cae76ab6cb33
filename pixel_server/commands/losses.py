"""`pixel-server losses ...`"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import click

from pixel_server.commands.support import as_json, with_store
from pixel_server.settings import Settings

if TYPE_CHECKING:
    from pixel_server.store.protocols import AsyncRedis


@click.group()
def losses() -> None:
    """Hits that Redis had stored and lost, as when a replica was promoted."""


@losses.command("list")
@as_json
def list_losses(as_json: bool) -> None:
    """List what was lost and not acknowledged, oldest first."""
    from pixel_server.collect import loss_storage  # noqa: PLC0415
    from pixel_server.collect.losses import Loss, merge, unpack_losses  # noqa: PLC0415
    from pixel_server.times import iso_ms  # noqa: PLC0415

    async def read(store: AsyncRedis, settings: Settings) -> list[Loss]:
        stored = await loss_storage.read_store(store)
        return unpack_losses(merge(loss_storage.read_file(settings.data), stored))

    found = with_store(read)
    if as_json:
        items = [{**loss._asdict(), "at": iso_ms(loss.at)} for loss in found]
        click.echo(json.dumps({"items": items, "next": None}))
        return
    for loss in found:
        most = "" if loss.is_exact else "at least "
        what = f"{loss.batches} batches, {most}{loss.hits} hits" if loss.batches else ""
        what = what or f"counters went back by {loss.commits} commits"
        click.echo(f"{iso_ms(loss.at)}  shard {loss.shard}  {what}")


@losses.command("acknowledge")
@as_json
def acknowledge(as_json: bool) -> None:
    """Take note: /readyz and doctor report what was found until now no more."""
    from pixel_server.collect import loss_storage  # noqa: PLC0415
    from pixel_server.store import audit_log  # noqa: PLC0415

    async def take(store: AsyncRedis, settings: Settings) -> int:
        await audit_log.note(store, audit_log.COMMAND, "losses.acknowledged")
        return await loss_storage.acknowledge(store, settings.data, int(time.time() * 1000))

    number = with_store(take)
    click.echo(json.dumps({"acknowledged": number}) if as_json else f"acknowledged {number} losses")
