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
from pixel_server.commands.minting import CampaignMinter, check_campaign, find_sending_time, make_minter
from pixel_server.commands.sent_mails import (
    consent_option,
    count_sent,
    sending_options,
    warn_without_consent,
)
from pixel_server.commands.support import as_json
from pixel_server.consent_ref import ConsentRef
from pixel_server.mail import recipient_files
from pixel_server.mail.links import MintOptions
from pixel_server.mail.list_rows import ListRow
from pixel_server.mail.recipient_files import LINK_COLUMNS, Filled
from pixel_server.recipients.lists import ListEntry


@click.command()
@click.argument("campaign_id", metavar="CAMPAIGN")
@click.argument("recipient", required=False)
@click.option("--html", "as_html", is_flag=True, help="Print the image tag.")
@list_options
@consent_option
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
    consent_ref: ConsentRef | None,
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
    are added to the campaign's recipients, and their mails count as sent. A recipient without a consent gets
    a link of mode `count`: in a list with a column consent_ref, and in a campaign of the preset `consented`.
    """
    check_campaign(campaign_id)
    if recipients is not None:
        if recipient is not None or out is None or consent_ref is not None:
            raise click.UsageError(
                "a list takes --recipients FILE and --out FILE, and no RECIPIENT; its column consent_ref has "
                "the consents"
            )
        minter = make_minter(campaign_id, is_sent=True)
        options = MintOptions(sent_at=find_sending_time(campaign_id, sent_at), test=test)
        filled, bad = _link_list(minter, campaign_id, recipients, column, out, options, sent)
        if as_json:
            click.echo(json.dumps(filled._asdict()))
        refuse_bad_rows(filled, bad)
        return
    if recipient is None or out is not None:
        raise click.UsageError("give a RECIPIENT, or --recipients FILE and --out FILE")
    refuse_or_warn(recipient)
    minter = make_minter(campaign_id, is_sent=False)
    options = MintOptions(sent_at=find_sending_time(campaign_id, sent_at), test=test)
    needs_consent = minter.needs_consent
    with count_sent(
        campaign_id, bool(sent), options, needs_consent=needs_consent, consent=consent_ref
    ) as count:
        [is_apart] = count([ListEntry(recipient, None, consent_ref)])
    warn_without_consent(is_apart)
    pixel_link = minter.minter.link(campaign_id, recipient, **minter.options(options, is_apart=is_apart))
    if as_json:
        click.echo(json.dumps({"recipient": recipient, **asdict(pixel_link)}))
    elif pixel_link.url is not None:
        click.echo(pixel_link.html if as_html else pixel_link.url)


def _link_list(
    minter: CampaignMinter,
    campaign: str,
    source: Path,
    column: str,
    out: Path,
    options: MintOptions,
    sent: bool | None,
) -> tuple[Filled, Path]:
    """Writes the list with its links. Returns the numbers of rows, and the file that names the bad rows."""

    def make_columns(rows: Sequence[ListRow]) -> list[recipient_files.Values]:
        entries = [ListEntry(row.recipient, None, row.consent) for row in rows]
        return [
            make_link(row.recipient, is_apart) for row, is_apart in zip(rows, count(entries), strict=True)
        ]

    def make_link(recipient: str, is_apart: bool) -> recipient_files.Values:
        link = minter.minter.link(campaign, recipient, **minter.options(options, is_apart=is_apart))
        return recipient_files.link_values(link)

    bad = out.with_name(f"{out.name}.bad")
    with (
        open_list(source, column, LINK_COLUMNS, with_consents=True) as (recipients, on_progress),
        count_sent(
            campaign,
            sent,
            options,
            needs_consent=minter.needs_consent,
            has_consents=lambda: recipients.has_consents,
        ) as count,
        files.open_whole(out) as file,
    ):
        filled = recipient_files.fill(recipients, file, bad, make_columns, on_progress)
    return filled, bad
