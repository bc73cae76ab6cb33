"""`pixel-server link ...`, which works offline."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from pixel_server.commands.list_options import of_recipients, refuse_bad, rows_of
from pixel_server.commands.minting import check_campaign, minter
from pixel_server.commands.support import Failure, as_json

NEW_COLUMNS = ("pixel_url", "pixel_html", "privacy_url")


@click.command()
@click.argument("campaign_id", metavar="CAMPAIGN")
@click.argument("recipient", required=False)
@click.option("--html", "as_html", is_flag=True, help="Print the image tag.")
@of_recipients
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Of a list: the new one.")
@as_json
def link(
    campaign_id: str,
    recipient: str | None,
    as_html: bool,
    recipients: Path | None,
    column: str,
    out: Path | None,
    as_json: bool,
) -> None:
    """Make the pixel link of one mail, or of each row of a list, in the campaign's mode. Works offline.

    The list may be standard input, `-`. The new one has all columns of the old one, and pixel_url, pixel_html
    and privacy_url. It is there when all rows are done, or not at all. Rows that cannot be used are left out
    and named in OUT.bad; then the exit code is 1.
    """
    from pixel_server.mail.links import check_recipient  # noqa: PLC0415

    check_campaign(campaign_id)
    if recipients is not None:
        if recipient is not None or out is None:
            raise click.UsageError("a list takes --recipients FILE and --out FILE, and no RECIPIENT")
        _link_all(campaign_id, recipients, column, out, as_json)
        return
    if recipient is None or out is not None:
        raise click.UsageError("give a RECIPIENT, or --recipients FILE and --out FILE")
    try:
        check_recipient(recipient)
    except ValueError as error:
        raise Failure(f"recipient {error}") from None
    made = minter(campaign_id).link(campaign_id, recipient)
    if as_json:
        click.echo(json.dumps({"recipient": recipient, **asdict(made)}))
    elif made.url is not None:
        click.echo(made.html if as_html else made.url)


def _link_all(campaign: str, source: Path, column: str, out: Path, as_json: bool) -> None:
    from pixel_server import files  # noqa: PLC0415
    from pixel_server.mail import recipient_files  # noqa: PLC0415

    link = minter(campaign).link

    def make(recipient: str) -> tuple[str, str, str]:
        made = link(campaign, recipient)
        return made.url or "", made.html or "", made.privacy_url or ""

    bad = out.with_name(f"{out.name}.bad")
    with rows_of(source, column, NEW_COLUMNS) as (rows, tick), files.open_whole(out) as file:
        done = recipient_files.fill(rows, file, bad, make, tick)
    if as_json:
        click.echo(json.dumps(done._asdict()))
    refuse_bad(done, bad)
