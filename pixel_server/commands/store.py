"""`pixel-server store ...`"""

from __future__ import annotations

import asyncio
import json

import click

from pixel_server.commands.failures import Failure
from pixel_server.commands.support import as_json, settings_here, store_url
from pixel_server.run.adoption import Adopted, adopt
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store.client import connect_async


@click.group()
def store() -> None:
    """Adopt a Redis that was emptied or replaced."""


@store.command("adopt")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@as_json
def adopt_store(yes: bool, as_json: bool) -> None:
    """Use a store that was emptied or replaced, if its data will not come back.

    Puts back the withdrawals and campaigns that the data directory knows, with the campaigns' modes. Figures,
    lists of recipients and API keys are lost.
    """
    settings = settings_here()
    url = store_url(settings)
    secrets = Secrets.load(settings.data, settings.signing_secrets, settings.recipient_secret)
    if not yes:
        click.confirm(
            "Use this store from now on, without the data of the previous store?", abort=True, err=True
        )
    adopted = asyncio.run(_adopt(url, settings, secrets))
    if adopted is None:
        raise Failure("this is the store that this server already uses: there is nothing to adopt")
    if as_json:
        click.echo(json.dumps(adopted._asdict()))
        return
    click.echo(
        f"adopted: {adopted.withdrawals} withdrawals, {adopted.campaigns} campaigns and {adopted.deleted} "
        "deleted campaigns were put back"
    )
    if not adopted.has_key:
        click.echo("there is no API key: make one with `pixel-server key create NAME`")


async def _adopt(url: str, settings: Settings, secrets: Secrets) -> Adopted | None:
    client = connect_async(url, timeout=10.0)
    try:
        return await adopt(client, url, settings, secrets)
    finally:
        await client.aclose()
