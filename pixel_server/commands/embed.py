"""`pixel-server embed`, which works offline."""

from __future__ import annotations

import secrets
import shutil
import sys
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from functools import partial
from pathlib import Path

import click

from pixel_server.commands.failures import Failure
from pixel_server.commands.list_options import STDIN, list_options, open_list, refuse_bad_rows, refuse_or_warn
from pixel_server.commands.minting import CampaignMinter, check_campaign, find_sending_time, make_minter
from pixel_server.commands.sent_mails import (
    CountSent,
    consent_option,
    count_sent,
    sending_options,
    warn_without_consent,
)
from pixel_server.consent_ref import ConsentRef
from pixel_server.mail import recipient_files
from pixel_server.mail.links import MintOptions, make_tags
from pixel_server.mail.list_rows import ListRow
from pixel_server.mail.message import ChangedMessage, add_pixel_to_bytes
from pixel_server.mail.placement import CLIP_BYTES, EmbedError, frame
from pixel_server.mail.preflight import is_message, is_surely_message
from pixel_server.mail.recipient_files import Filled
from pixel_server.recipients.lists import ListEntry

NEW_COLUMNS = ("mail_file", "privacy_url")
MAILS_PER_DIRECTORY = 1000

MakeMail = Callable[[str | None, bool], ChangedMessage]
"""Function that returns the mail of a recipient. None stands for the only address of a whole message. The
second argument is whether the pixel may tell the recipient apart."""
Counting = Callable[..., AbstractContextManager[CountSent]]
"""`count_sent` without its argument `has_consents`."""


@click.command()
@click.argument("campaign_id", metavar="CAMPAIGN")
@click.argument("recipient", required=False)
@click.option("--eml", is_flag=True, help="The mail is a whole message, not HTML.")
@click.option(
    "--twin", is_flag=True, help="Add a pixel at the top too, which shows whether mails are clipped."
)
@click.option("--replace", is_flag=True, help="Remove the pixels that the mail has.")
@list_options
@consent_option
@sending_options
@click.option("--out", type=click.Path(path_type=Path), help="New directory for the mails of a list.")
def embed(
    campaign_id: str,
    recipient: str | None,
    eml: bool,
    twin: bool,
    replace: bool,
    recipients: Path | None,
    column: str,
    consent_ref: ConsentRef | None,
    sent_at: datetime | None,
    test: bool,
    sent: bool | None,
    out: Path | None,
) -> None:
    """Put the pixel into a mail.

    Reads the mail on standard input, adds the pixel, and changes nothing else. Works offline. With
    --recipients, writes a mail for each row, and a list of the mails, to the directory OUT. OUT is written
    when all rows are done, or not at all. With --eml, RECIPIENT may be left out if the message goes to one
    address only. If Redis answers, the recipients of a list are added to the campaign's recipients, and
    their mails count as sent. A recipient without a consent gets a pixel of mode `count`: in a list with a
    column consent_ref, and in a campaign of the preset `consented`.
    """
    check_campaign(campaign_id)
    is_list = recipients is not None
    if is_list != (out is not None) or (is_list and recipient is not None):
        raise click.UsageError("a list takes --recipients FILE and --out DIR, and no RECIPIENT")
    if not is_list and recipient is None and not eml:
        raise click.UsageError("give a RECIPIENT, or --recipients FILE and --out DIR")
    if consent_ref is not None and recipient is None:
        raise click.UsageError(
            "--consent-ref is for one RECIPIENT: a list has the consents in its column consent_ref"
        )
    if recipients == STDIN:
        raise click.UsageError("standard input is the mail: give the list as a file")
    mail = sys.stdin.buffer.read()
    if not mail.strip():
        raise Failure("give the mail on standard input")
    if recipient is not None:
        refuse_or_warn(recipient)
    _check_kind(mail, eml)
    try:
        minter = make_minter(campaign_id, is_sent=True)
        options = MintOptions(sent_at=find_sending_time(campaign_id, sent_at), test=test)
        make_mail = _mail_maker(mail, minter, campaign_id, eml, twin, replace, options)
        if recipients is not None and out is not None:
            kind = "eml" if eml else "html"

            def privacy_url(recipient: str, is_apart: bool) -> str:
                link_options = minter.options(options, is_apart=is_apart)
                return minter.minter.link(campaign_id, recipient, **link_options).privacy_url or ""

            counting = partial(count_sent, campaign_id, sent, options, needs_consent=minter.needs_consent)
            filled, bad = _embed_list(make_mail, recipients, column, out, kind, privacy_url, counting)
            refuse_bad_rows(filled, bad)
            return
        changed = make_mail(recipient, True)
        if recipient is not None:
            with count_sent(
                campaign_id, bool(sent), options, needs_consent=minter.needs_consent, consent=consent_ref
            ) as count:
                [is_apart] = count([ListEntry(recipient, None, consent_ref)])
            warn_without_consent(is_apart)
            changed = changed if is_apart else make_mail(recipient, False)
    except (EmbedError, ValueError) as error:
        raise Failure(str(error)) from None
    _warn_sender(changed)
    sys.stdout.buffer.write(changed.raw)


def _check_kind(mail: bytes, is_eml: bool) -> None:
    """Raises Failure if the mail is HTML where --eml announced a message, or the reverse."""
    if is_surely_message(_decode_utf16(mail)):
        raise Failure("this message is in UTF-16, which mail does not use: give the message as it was sent")
    if is_eml and not is_message(mail):
        raise Failure("this is not a whole message, because it has no header: leave out --eml")
    if not is_eml and is_surely_message(mail):
        raise Failure("this looks like a whole message: add --eml")


def _decode_utf16(mail: bytes) -> bytes:
    """Returns a mail in UTF-8 if it begins with a byte order mark of UTF-16, and b"" otherwise."""
    is_utf16 = mail.startswith((BOM_UTF16_LE, BOM_UTF16_BE))
    return mail.decode("utf-16", "replace").encode("utf-8", "replace") if is_utf16 else b""


def _mail_maker(
    mail: bytes,
    minter: CampaignMinter,
    campaign: str,
    is_eml: bool,
    twin: bool,
    replace: bool,
    options: MintOptions,
) -> MakeMail:
    """Returns a function that makes each recipient's mail. Finds the place in HTML once for all of them."""
    choices = {is_apart: minter.options(options, is_apart=is_apart) for is_apart in (False, True)}
    if is_eml:
        bare = mail.removeprefix(BOM_UTF8)
        byte_order_mark = mail[: len(mail) - len(bare)]

        def make_message(recipient: str | None, is_apart: bool) -> ChangedMessage:
            changed = add_pixel_to_bytes(
                bare, minter.minter, campaign, recipient, twin=twin, replace=replace, **choices[is_apart]
            )
            return changed._replace(raw=byte_order_mark + changed.raw)

        return make_message
    html_frame = frame(mail, replace=replace)

    def make_html(recipient: str | None, is_apart: bool) -> ChangedMessage:
        tags = make_tags(minter.minter, campaign, recipient or "", twin=twin, **choices[is_apart])
        html = html_frame.fill(tags)
        return ChangedMessage(html, "", len(html))

    return make_html


def _warn_sender(changed: ChangedMessage) -> None:
    """Warns on standard error if the mail has no pixel, or is so long that Gmail clips it."""
    if changed.why_unchanged:
        click.echo(f"pixel-server: no pixel: {changed.why_unchanged}", err=True)
    if changed.html_bytes > CLIP_BYTES:
        click.echo(
            f"pixel-server: {changed.html_bytes:,} bytes of HTML: Gmail shows {CLIP_BYTES:,} and may not "
            "load a pixel below; with --twin you see how many mails are clipped",
            err=True,
        )


def _embed_list(
    make_mail: MakeMail,
    source: Path,
    column: str,
    out: Path,
    kind: str,
    privacy_url: Callable[[str, bool], str],
    counting: Counting,
) -> tuple[Filled, Path]:
    """Writes the mails as `0000/0000000.html` and so on. kind: `html` or `eml`.

    Returns the numbers of rows, and the file that names the rows that were left out.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise Failure(f"{out} exists, and is not empty")
    mail_count = 0

    def write_mails(rows: Sequence[ListRow]) -> list[tuple[str, str]]:
        are_apart = count([ListEntry(row.recipient, None, row.consent) for row in rows])
        return [write_mail(row.recipient, is_apart) for row, is_apart in zip(rows, are_apart, strict=True)]

    def write_mail(recipient: str, is_apart: bool) -> tuple[str, str]:
        nonlocal mail_count
        name = f"{mail_count // MAILS_PER_DIRECTORY:04}/{mail_count:07}.{kind}"
        changed = make_mail(recipient, is_apart)
        if not mail_count:  # the warnings are the same for every mail
            _warn_sender(changed)
        mail_count += 1
        path = draft / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(changed.raw)
        return name, privacy_url(recipient, is_apart)

    bad = out.with_name(f"{out.name}.bad")
    draft = out.with_name(f".{out.name}.{secrets.token_hex(8)}")
    try:
        with (
            open_list(source, column, NEW_COLUMNS, with_consents=True) as (recipients, on_progress),
            counting(has_consents=lambda: recipients.has_consents) as count,
        ):
            draft.mkdir()
            list_file = draft / f"mails.{'csv' if recipients.is_csv else 'ndjson'}"
            with list_file.open("xb") as file:
                filled = recipient_files.fill(recipients, file, bad, write_mails, on_progress)
            draft.replace(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return filled, bad
