"""`pixel-server share ...`"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from pixel_server.commands.support import Failure, as_json, left_base_url, with_store

if TYPE_CHECKING:
    from pixel_server.auth import share_links
    from pixel_server.settings import Settings
    from pixel_server.store.protocols import AsyncRedis


@click.group()
def share() -> None:
    """Make, list and revoke links that show a campaign without a key."""


@share.command("create")
@click.argument("campaign")
@click.argument("name")
@click.option("--expires", help="When it ends, as 2026-11-24T09:00:00Z.  [default: never]")
@click.option("--frame", "frames", multiple=True, metavar="ORIGIN", help="Of pages that may frame it.")
@as_json
def create_share(
    campaign: str, name: str, expires: str | None, frames: tuple[str, ...], as_json: bool
) -> None:
    """Make a share link of a campaign. It is shown this once."""
    from pixel_server.api import fields as api_fields  # noqa: PLC0415
    from pixel_server.api.request_body import Check  # noqa: PLC0415
    from pixel_server.auth import share_links  # noqa: PLC0415
    from pixel_server.campaigns import storage  # noqa: PLC0415
    from pixel_server.store import clock  # noqa: PLC0415

    given: tuple[tuple[str, Check, object], ...] = (
        ("name", api_fields.name, name),
        ("--frame", api_fields.origins, list(frames)),
        ("--expires", api_fields.instant_or_null, expires),
    )
    for field, check, value in given:
        try:
            check(value)
        except ValueError as error:
            raise Failure(f"{field} {error}") from None
    expires_at = api_fields.instant_or_null(expires)

    async def make(store: AsyncRedis, settings: Settings) -> tuple[share_links.Share, str]:
        now = await clock.now(store)
        if expires_at is not None and expires_at <= now:
            raise Failure("--expires must lie in the future")
        found = await storage.get(store, campaign)
        address = settings.base_url or found.base_url or left_base_url(settings)
        if address is None:
            raise Failure("set PIXEL_BASE_URL, the address at which the world reaches this server")
        made, token = await share_links.make(store, campaign, name, now, expires_at=expires_at, frames=frames)
        return made, share_links.url(address, token)

    try:
        made, url = with_store(make)
    except storage.UnknownCampaign:
        raise Failure(f"there is no campaign {campaign}") from None
    except share_links.TooManyShares as error:
        raise Failure(str(error)) from None
    click.echo(json.dumps({**share_links.to_json(made), "url": url}) if as_json else url)


@share.command("list")
@click.argument("campaign")
@as_json
def list_shares(campaign: str, as_json: bool) -> None:
    """List a campaign's share links, oldest first."""
    from pixel_server.auth import share_links  # noqa: PLC0415
    from pixel_server.campaigns import storage  # noqa: PLC0415
    from pixel_server.store import clock  # noqa: PLC0415

    async def listed(store: AsyncRedis, _: object) -> tuple[list[share_links.Share], float]:
        await storage.get(store, campaign)
        return await share_links.list_shares(store, campaign), await clock.now(store)

    try:
        found, now = with_store(listed)
    except storage.UnknownCampaign:
        raise Failure(f"there is no campaign {campaign}") from None
    if as_json:
        click.echo(json.dumps({"items": [share_links.to_json(one) for one in found], "next": None}))
        return
    for one in found:
        shown = share_links.to_json(one)
        ends = "has expired" if share_links.has_expired(one, now) else shown["expires_at"] or "never expires"
        click.echo(f"{one.id}  {ends:<20}  {shown['last_used'] or 'never used':<20}  {one.name}")


@share.command("revoke")
@click.argument("campaign")
@click.argument("share")
@as_json
def revoke_share(campaign: str, share: str, as_json: bool) -> None:
    """Revoke a share link by its id."""
    from pixel_server.auth import share_links  # noqa: PLC0415
    from pixel_server.campaigns import storage  # noqa: PLC0415

    async def revoke(store: AsyncRedis, _: object) -> None:
        await storage.get(store, campaign)
        await share_links.revoke(store, campaign, share)

    try:
        with_store(revoke)
    except storage.UnknownCampaign:
        raise Failure(f"there is no campaign {campaign}") from None
    except share_links.UnknownShare:
        raise Failure(f"{campaign} has no share link {share}") from None
    click.echo(json.dumps({"revoked": share}) if as_json else f"revoked {share}")
