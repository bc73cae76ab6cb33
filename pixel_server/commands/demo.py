"""`pixel-server demo ...`: adds and removes the two made-up campaigns of the demo."""

from __future__ import annotations

import json

import click

from pixel_server import lifeline
from pixel_server.campaigns import storage
from pixel_server.commands.failures import Failure
from pixel_server.commands.support import as_json, settings_here, store_url, with_store
from pixel_server.consent import Consent
from pixel_server.demo import DEFAULT_SEED, fill
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import clock
from pixel_server.store.protocols import AsyncRedis
from pixel_server.tokens import Mode


@click.group()
def demo() -> None:
    """Add and remove two made-up campaigns."""


@demo.command("add")
@click.option("--seed", default=DEFAULT_SEED, show_default=True, help="Seed of the random figures.")
@as_json
def add_demo(seed: int, as_json: bool) -> None:
    """Add a newsletter and a web site, with two weeks of made-up hits."""
    lifeline.hold()
    settings = settings_here()
    if Consent(settings).rule("identified", None).mode == Mode.OFF:
        raise Failure("the demo cannot be added: PIXEL_MAX_MODE is off, so nothing is stored")
    url = store_url(settings)

    async def add(store: AsyncRedis, settings: Settings) -> fill.Added:
        secrets = Secrets.load(settings.data, settings.signing_secrets, settings.recipient_secret)
        return await fill.add(store, url, settings, secrets, await clock.read_time(store), seed)

    try:
        added = with_store(add)
    except storage.UnknownCampaign:
        raise Failure("the demo was removed while it was being filled") from None
    except fill.NotStored:
        raise Failure(
            "some hits of the demo could not be stored; `pixel-server demo remove` removes the demo"
        ) from None
    if as_json:
        click.echo(json.dumps(added._asdict()))
        return
    if added.removed:
        click.echo(f"removed {' and '.join(added.removed)}: an unfinished demo")
    hits = f"{added.hits:,} made-up hits in" if added.hits else "there already:"
    click.echo(f"demo: {hits} {' and '.join(added.ids)}")


@demo.command("remove")
@as_json
def remove_demo(as_json: bool) -> None:
    """Remove the demo's campaigns and all their data."""
    removed = with_store(fill.remove)
    if as_json:
        click.echo(json.dumps({"removed": removed}))
    else:
        click.echo(f"removed {' and '.join(removed)}" if removed else "there is no demo")
