"""`pixel-server store ...`"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import click

from pixel_server.commands.support import Failure, as_json, settings_here, store_url
from pixel_server.secret import Secrets
from pixel_server.settings import Settings


@click.group()
def store() -> None:
    """The Redis that this server keeps its data in."""


@store.command("adopt")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
def adopt(yes: bool, as_json: bool) -> None:
    """Use a store that was emptied or replaced: its data are not to come back.

    Puts back who withdrew, and the campaigns that the data directory knows, with their modes. Figures, lists
    of recipients and API keys are not there.
    """
    settings = settings_here()
    url = store_url(settings)
    secrets = Secrets.load(settings.data, settings.signing, settings.recipient_secret)
    if not yes:
        click.confirm("Use this store from now on, without the data of the one before?", abort=True, err=True)
    done = asyncio.run(_adopt(url, settings, secrets))
    if done is None:
        raise Failure("this is the store that was used before: there is nothing to adopt")
    if as_json:
        click.echo(json.dumps(done._asdict()))
        return
    click.echo(
        f"adopted: {done.withdrawals} withdrawals, {done.campaigns} campaigns and {done.deleted} deleted "
        "campaigns were put back"
    )
    if not done.has_key:
        click.echo("there is no API key: make one with `pixel-server key create NAME`")


async def _adopt(url: str, settings: Settings, secrets: Secrets) -> Any:
    from pixel_server.run import adoption  # noqa: PLC0415
    from pixel_server.store import client as stores  # noqa: PLC0415

    client = stores.connect_async(url, timeout=10.0)
    try:
        return await adoption.adopt(client, url, settings, secrets)
    finally:
        await client.aclose()
