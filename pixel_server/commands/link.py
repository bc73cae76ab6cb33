"""`pixel-server link`, which works offline."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import click

from pixel_server import files
from pixel_server.commands.list_options import list_options, open_list, refuse_bad_rows, refuse_or_warn
from pixel_server.commands.minting import check_campaign, find_sending_time, make_minter
from pixel_server.commands.sent_mails import CountSent, count_sent, sending_options
from pixel_server.commands.support import as_json
from pixel_server.mail import recipient_files
from pixel_server.mail.links import Minter, MintOptions
from pixel_server.mail.recipient_files import LINK_COLUMNS, Filled


@click.command()
@click.argument("campaign_id", metavar="CAMPAIGN")
@click.argument("recipient", required=False)
@click.option("--html", "as_html", is_flag=True, help="Print the image tag.")
@list_options
@sending_options
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write: the list with a link in each row.",
)
@as_json
def link(
    campaign_id: str,
    recipient: str | None,
    as_html: bool,
    recipients: Path | None,
    column: str,
    sent_at: datetime | None,
    test: bool,
    sent: bool | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Make pixel links for recipients.

    Prints the link of one RECIPIENT, or writes a list with a link in each row. The links have the campaign's
    mode. Works offline. The list may be standard input, `-`. OUT has all columns of the list, and pixel_url,
    pixel_html and privacy_url. OUT is written when all rows are done, or not at all. Rows that cannot be used
    are left out and named in OUT.bad; the exit code is then 1. If Redis answers, the recipients of a list
    are added to the campaign's recipients, and their mails count as sent.
    """
    check_campaign(campaign_id)
    if recipients is not None:
        if recipient is not None or out is None:
            raise click.UsageError("a list takes --recipients FILE and --out FILE, and no RECIPIENT")
        minter = make_minter(campaign_id)
        options = MintOptions(sent_at=find_sending_time(campaign_id, sent_at), test=test)
        with count_sent(campaign_id, sent, options) as count:
            filled, bad = _link_list(minter, campaign_id, recipients, column, out, options, count)
        if as_json:
            click.echo(json.dumps(filled._asdict()))
        refuse_bad_rows(filled, bad)
        return
    if recipient is None or out is not None:
        raise click.UsageError("give a RECIPIENT, or --recipients FILE and --out FILE")
    refuse_or_warn(recipient)
    minter = make_minter(campaign_id)
    options = MintOptions(sent_at=find_sending_time(campaign_id, sent_at), test=test)
    pixel_link = minter.link(campaign_id, recipient, **options)
    with count_sent(campaign_id, bool(sent), options) as count:
        count([recipient])
    if as_json:
        click.echo(json.dumps({"recipient": recipient, **asdict(pixel_link)}))
    elif pixel_link.url is not None:
        click.echo(pixel_link.html if as_html else pixel_link.url)


def _link_list(
    minter: Minter,
    campaign: str,
    source: Path,
    column: str,
    out: Path,
    options: MintOptions,
    count: CountSent,
) -> tuple[Filled, Path]:
    """Writes the list with its links. Returns the numbers of rows, and the file that names the bad rows."""

    def make_columns(recipients: Sequence[str]) -> list[recipient_files.Values]:
        count(recipients)
        links = [minter.link(campaign, recipient, **options) for recipient in recipients]
        return [recipient_files.link_values(link) for link in links]

    bad = out.with_name(f"{out.name}.bad")
    with open_list(source, column, LINK_COLUMNS) as (recipients, on_progress), files.open_whole(out) as file:
        filled = recipient_files.fill(recipients, file, bad, make_columns, on_progress)
    return filled, bad
