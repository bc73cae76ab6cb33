"""`pixel-server losses ...`"""

from __future__ import annotations

import json
import time

import click

from pixel_server.collect import loss_storage
from pixel_server.collect.losses import BY_REMOVAL, Loss, merge, unpack_losses
from pixel_server.commands.support import as_json, with_store
from pixel_server.settings import Settings
from pixel_server.store import audit_log
from pixel_server.store.protocols import AsyncRedis
from pixel_server.times import iso_ms


@click.group()
def losses() -> None:
    """List hits that were recorded and then lost. Redis lost them, or files were removed from the spool."""


@losses.command("list")
@as_json
def list_losses(as_json: bool) -> None:
    """List the losses that are not acknowledged, oldest first."""

    async def read_losses(store: AsyncRedis, settings: Settings) -> list[Loss]:
        in_file, in_store = loss_storage.read_file(settings.data), await loss_storage.read_store(store)
        return unpack_losses(merge(in_file, in_store))

    items = with_store(read_losses)
    if as_json:
        click.echo(
            json.dumps({"items": [{**loss._asdict(), "at": iso_ms(loss.at)} for loss in items], "next": None})
        )
        return
    for loss in items:
        click.echo(f"{iso_ms(loss.at)}  {_describe(loss)}")


def _describe(loss: Loss) -> str:
    if loss.cause == BY_REMOVAL:
        return f"spool    {loss.hits} hits, with a file that was removed before Redis had them"
    at_least = "" if loss.is_exact else "at least "
    if loss.batches:
        return f"shard {loss.shard}  {loss.batches} batches, {at_least}{loss.hits} hits"
    return f"shard {loss.shard}  counters went back by {loss.commits} commits"


@losses.command("acknowledge")
@as_json
def acknowledge(as_json: bool) -> None:
    """Acknowledge all losses so far: /readyz and `doctor` no longer report them."""

    async def acknowledge_all(store: AsyncRedis, settings: Settings) -> int:
        await audit_log.note(store, audit_log.COMMAND, "losses.acknowledged")
        return await loss_storage.acknowledge(store, settings.data, int(time.time() * 1000))

    count = with_store(acknowledge_all)
    click.echo(json.dumps({"acknowledged": count}) if as_json else f"acknowledged {count} losses")
