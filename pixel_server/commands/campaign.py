"""`pixel-server campaign ...`"""

from __future__ import annotations

import json
from typing import Any, Literal

import click

from pixel_server.api import fields as api_fields
from pixel_server.campaigns import deletion, storage
from pixel_server.campaigns.campaign import Campaign, campaign_json, new_campaign, refuse_unfit, set_mode
from pixel_server.campaigns.tags import has_tag
from pixel_server.commands.campaign_options import check_fields, field_options, read_options
from pixel_server.commands.campaign_show import show_campaign
from pixel_server.commands.failures import Failure
from pixel_server.commands.support import as_json, settings_here, with_store
from pixel_server.commands.upload import upload
from pixel_server.consent import Consent
from pixel_server.settings import Settings
from pixel_server.store import audit_log
from pixel_server.store.protocols import AsyncRedis


@click.group()
def campaign() -> None:
    """Create, change, list, show and delete campaigns."""


campaign.add_command(show_campaign, "show")
campaign.add_command(upload)


@campaign.command("create")
@click.argument("id")
@click.option("--name", help="Name for people.  [default: the id]")
@click.option(
    "--kind",
    type=click.Choice(["email", "web"]),
    default="email",
    show_default=True,
    help="Where its pixel is: in mails or in web pages.",
)
@field_options
@as_json
def create_campaign(id: str, kind: Literal["email", "web"], as_json: bool, **options: Any) -> None:  # noqa: A002
    """Create a campaign.

    The defaults are PIXEL_TIME_ZONE, PIXEL_DEFAULT_MODE, PIXEL_GPC and PIXEL_BASE_URL, the identity
    `cookieless`, and all origins.
    """
    settings = settings_here()
    fields = {"name": id, "time_zone": settings.time_zone, **read_options(options)}
    try:
        slug = api_fields.slug(id)
    except ValueError as error:
        raise Failure(f"id {error}") from None
    checked = check_fields(fields, settings, settings.time_zone)
    set_mode(checked, Consent(settings))
    created = new_campaign(slug, kind=kind, **checked)
    refuse_unfit(kind, fields, created)
    with_store(lambda store, _: storage.create(store, created))
    if as_json:
        click.echo(json.dumps(campaign_json(created)))
    else:
        click.echo(f"created {created.kind} campaign {created.id}")


@campaign.command("set")
@click.argument("id")
@click.option("--name", help="Name for people.")
@field_options
@as_json
def set_campaign(id: str, as_json: bool, **options: Any) -> None:  # noqa: A002
    """Change the given fields of a campaign. `none` unsets a field."""
    given_fields = read_options(options)
    if not given_fields:
        raise click.UsageError("give the fields to change, for example --sent 1200")
    check_fields(given_fields, settings_here(), "UTC")  # refuses bad fields, also if Redis is away

    async def change(store: AsyncRedis, settings: Settings) -> Campaign:
        campaign = await storage.get(store, id)
        fields = check_fields(given_fields, settings, campaign.time_zone)
        return await storage.change(store, id, fields, audit_log.COMMAND)

    changed = with_store(change)
    names = ", ".join(given_fields)
    click.echo(json.dumps(campaign_json(changed)) if as_json else f"changed {names} of {id}")


@campaign.command("list")
@click.option("--tag", help="Only campaigns with this tag.")
@as_json
def list_campaigns(tag: str | None, as_json: bool) -> None:
    """List all campaigns, or those with a tag."""

    async def read_all(store: AsyncRedis, _: Settings) -> list[Campaign]:
        campaigns, cursor = await storage.page(store, None, 1000)
        while cursor is not None:
            more, cursor = await storage.page(store, cursor, 1000)
            campaigns += more
        return [each for each in campaigns if tag is None or has_tag(each.tags, tag)]

    items = [campaign_json(item) for item in with_store(read_all)]
    if as_json:
        click.echo(json.dumps({"items": items, "next": None}))
        return
    for item in items:
        sent = "" if item["sent"] is None else f"{item['sent']} sent"
        tags = f"  [{', '.join(item['tags'])}]" if item["tags"] else ""
        click.echo(f"{item['id']:<30}  {item['kind']:<5}  {sent:>14}  {item['name']}{tags}")


@campaign.command("delete")
@click.argument("id")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@as_json
def delete_campaign(id: str, yes: bool, as_json: bool) -> None:  # noqa: A002
    """Delete a campaign and everything that was counted for it. Its id can never be used again."""

    async def delete(store: AsyncRedis, settings: Settings) -> None:
        await storage.get(store, id)
        await audit_log.note(store, audit_log.COMMAND, "campaign.deleted", campaign=id)
        await deletion.delete(store, id, settings.shards)

    with_store(lambda store, _: storage.get(store, id))
    if not yes:
        click.confirm(f"Delete {id} and all that was counted for it?", abort=True, err=True)
    with_store(delete)
    click.echo(json.dumps({"deleted": id}) if as_json else f"deleted {id}")
