"""`pixel-server share ...`"""

from __future__ import annotations

import json
from zoneinfo import ZoneInfo

import click

from pixel_server.api import fields as api_fields
from pixel_server.api.request_body import Check
from pixel_server.auth import share_links
from pixel_server.campaigns import storage
from pixel_server.commands.failures import Failure
from pixel_server.commands.support import as_json, base_url_of_up, warn_if_local, with_store
from pixel_server.settings import Settings
from pixel_server.store import clock
from pixel_server.store.protocols import AsyncRedis

_EXPIRES_HELP = (
    "When the link expires: the last day on which it works, as 2026-12-31, or a time, as 2026-12-31T18:00; "
    "without an offset in the campaign's time zone.  [default: never]"
)


@click.group()
def share() -> None:
    """Create, list and revoke share links. They show a campaign to people without a key."""


@share.command("create")
@click.argument("campaign")
@click.argument("name")
@click.option("--expires", help=_EXPIRES_HELP)
@click.option(
    "--frame", "frames", multiple=True, metavar="ORIGIN", help="Origin of pages that may show it in a frame."
)
@as_json
def create_share(
    campaign: str, name: str, expires: str | None, frames: tuple[str, ...], as_json: bool
) -> None:
    """Create a share link of a campaign, and show it this once."""
    checks: tuple[tuple[str, Check, object], ...] = (
        ("name", api_fields.name, name),
        ("--frame", api_fields.origins, list(frames)),
    )
    for field, check, value in checks:
        try:
            check(value)
        except ValueError as error:
            raise Failure(f"{field} {error}") from None
    if expires is not None:
        _instant(expires, ZoneInfo("UTC"))  # refuses a bad time, whether the campaign exists or not

    async def create(store: AsyncRedis, settings: Settings) -> tuple[share_links.Share, str]:
        now = await clock.read_time(store)
        record = await storage.get(store, campaign)
        expires_at = None if expires is None else _instant(expires, record.zone)
        if expires_at is not None and expires_at <= now:
            raise Failure("--expires must lie in the future")
        base_url = settings.base_url or record.base_url or base_url_of_up(settings)
        if base_url is None:
            raise Failure("set PIXEL_BASE_URL to the public address of this server")
        link, token = await share_links.make(store, campaign, name, now, expires_at=expires_at, frames=frames)
        return link, share_links.url(base_url, token)

    try:
        link, url = with_store(create)
    except share_links.TooManyShares as error:
        raise Failure(str(error)) from None
    click.echo(json.dumps({**share_links.to_json(link), "url": url}) if as_json else url)
    warn_if_local(url)


def _instant(expires: str, zone: ZoneInfo) -> int:
    """Returns the seconds since 1970. Raises Failure if the text is not a time."""
    try:
        return api_fields.local_instant(expires, zone, is_end=True)
    except ValueError as error:
        raise Failure(f"--expires {error}") from None


@share.command("list")
@click.argument("campaign")
@as_json
def list_shares(campaign: str, as_json: bool) -> None:
    """List a campaign's share links, oldest first."""

    async def read_links(store: AsyncRedis, _: object) -> tuple[list[share_links.Share], float]:
        await storage.get(store, campaign)
        return await share_links.list_shares(store, campaign), await clock.read_time(store)

    links, now = with_store(read_links)
    if as_json:
        click.echo(json.dumps({"items": [share_links.to_json(link) for link in links], "next": None}))
        return
    for link in links:
        shown = share_links.to_json(link)
        ends = "has expired" if share_links.has_expired(link, now) else shown["expires_at"] or "never expires"
        click.echo(f"{link.id}  {ends:<20}  {shown['last_used'] or 'never used':<20}  {link.name}")


@share.command("revoke")
@click.argument("campaign")
@click.argument("share_id", metavar="SHARE")
@as_json
def revoke_share(campaign: str, share_id: str, as_json: bool) -> None:
    """Revoke a share link by its id."""

    async def revoke(store: AsyncRedis, _: object) -> None:
        await storage.get(store, campaign)
        await share_links.revoke(store, campaign, share_id)

    try:
        with_store(revoke)
    except share_links.UnknownShare:
        raise Failure(f"{campaign} has no share link {share_id}") from None
    click.echo(json.dumps({"revoked": share_id}) if as_json else f"revoked {share_id}")
