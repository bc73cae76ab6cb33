"""`pixel-server key ...`"""

from __future__ import annotations

import json

import click

from pixel_server.api import fields as api_fields
from pixel_server.auth import api_keys
from pixel_server.campaigns.storage import UnknownCampaign
from pixel_server.commands.failures import Failure
from pixel_server.commands.support import as_json, with_store
from pixel_server.scopes import SCOPES
from pixel_server.store.protocols import AsyncRedis


@click.group()
def key() -> None:
    """Create, list and revoke API keys."""


@key.command("create")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    metavar="SCOPE",
    help="read, write, people, metrics (reads only /metrics), or read:CAMPAIGN for the shared figures of "
    "one campaign. "
    "[default: all of the first three]",
)
@as_json
def create_key(name: str, scopes: tuple[str, ...], as_json: bool) -> None:
    """Create an API key, and show it this once."""
    try:
        api_fields.name(name)
    except ValueError as error:
        raise Failure(f"name {error}") from None
    try:
        checked_scopes = api_fields.scopes(list(scopes or SCOPES))
    except ValueError as error:
        raise Failure(f"--scope {error}") from None

    async def create(store: AsyncRedis, _: object) -> tuple[api_keys.ApiKey, str]:
        if missing := await api_keys.missing_campaigns(store, checked_scopes):
            raise Failure(f"--scope: {UnknownCampaign(missing[0])}")
        return await api_keys.create(store, name, checked_scopes)

    try:
        record, secret_key = with_store(create)
    except ValueError as error:
        raise Failure(f"name {error}") from None
    click.echo(json.dumps({**api_keys.to_json(record), "key": secret_key}) if as_json else secret_key)


@key.command("list")
@as_json
def list_keys(as_json: bool) -> None:
    """List API keys."""
    records = [api_keys.to_json(record) for record in with_store(lambda store, _: api_keys.list_keys(store))]
    if as_json:
        click.echo(json.dumps({"items": records, "next": None}))
        return
    for record in records:
        used = record["last_used"] or "never used"
        click.echo(f"{record['id']}  {','.join(record['scopes']):<10}  {used:<20}  {record['name']}")


@key.command("revoke")
@click.argument("id")
@as_json
def revoke_key(id: str, as_json: bool) -> None:  # noqa: A002
    """Revoke an API key by its id."""
    try:
        if not (id.isascii() and id.isalnum()):
            raise api_keys.UnknownApiKey(id)
        with_store(lambda store, _: api_keys.revoke(store, id))
    except api_keys.UnknownApiKey:
        raise Failure(f"there is no key {id}") from None
    click.echo(json.dumps({"revoked": id}) if as_json else f"revoked {id}")
