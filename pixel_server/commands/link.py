"""`pixel-server link ...`, which works offline."""

from __future__ import annotations

import json

import click

from pixel_server.commands.frame import Failure, as_json, left_base_url
from pixel_server.secret import Secrets
from pixel_server.settings import Settings


@click.command()
@click.argument("campaign_id", metavar="CAMPAIGN")
@click.argument("recipient")
@click.option("--html", "as_html", is_flag=True, help="Print the image tag.")
@as_json
def link(campaign_id: str, recipient: str, as_html: bool, as_json: bool) -> None:
    """Make the pixel link of one mail. Works offline."""
    from pixel_server.links import Minter, check_recipient  # noqa: PLC0415
    from pixel_server.slug import PATTERN, is_slug  # noqa: PLC0415

    settings = Settings.from_env()
    if not is_slug(campaign_id):
        raise Failure(f"campaign must match {PATTERN}")
    try:
        check_recipient(recipient)
    except ValueError as error:
        raise Failure(f"recipient {error}") from None
    address = settings.base_url or left_base_url(settings)
    if address is None:
        raise Failure("set PIXEL_BASE_URL, the address at which the world reaches this server")
    secrets = Secrets.load(settings.data, settings.signing, settings.recipient_secret)
    _are_those_of_up(settings, secrets)
    made = Minter(address, secrets).link(campaign_id, recipient)
    if as_json:
        click.echo(json.dumps({"recipient": recipient, "url": made.url, "html": made.html}))
    else:
        click.echo(made.html if as_html else made.url)


def _are_those_of_up(settings: Settings, secrets: Secrets) -> None:
    """Failure: an `up` in this data directory had other secrets, and would not count such links."""
    from pixel_server.up import left  # noqa: PLC0415

    found = left(settings.data)
    recipient, signers = secrets.fingerprints()
    if found and not (recipient in found.prints and signers[0] in found.prints):
        raise Failure("`up` had other secrets: set the same PIXEL_SECRET and PIXEL_RECIPIENT_SECRET here")
