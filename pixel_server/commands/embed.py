"""`pixel-server embed`, which works offline."""

from __future__ import annotations

import secrets
import shutil
import sys
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import click

from pixel_server.commands.failures import Failure
from pixel_server.commands.list_options import STDIN, list_options, open_list, refuse_bad_rows, refuse_or_warn
from pixel_server.commands.minting import check_campaign, find_sending_time, make_minter
from pixel_server.commands.sent_mails import CountSent, count_sent, sending_options
from pixel_server.mail import recipient_files
from pixel_server.mail.links import Minter, MintOptions, make_tags
from pixel_server.mail.message import ChangedMessage, add_pixel_to_bytes
from pixel_server.mail.placement import CLIP_BYTES, EmbedError, frame
from pixel_server.mail.preflight import is_message, is_surely_message
from pixel_server.mail.recipient_files import Filled

NEW_COLUMNS = ("mail_file", "privacy_url")
MAILS_PER_DIRECTORY = 1000

MakeMail = Callable[[str | None], ChangedMessage]
"""Function that returns the mail of a recipient. None stands for the only address of a whole message."""


@click.command()
@click.argument("campaign_id", metavar="CAMPAIGN")
@click.argument("recipient", required=False)
@click.option("--eml", is_flag=True, help="The mail is a whole message, not HTML.")
@click.option(
    "--twin", is_flag=True, help="Add a pixel at the top too, which shows whether mails are clipped."
)
@click.option("--replace", is_flag=True, help="Remove the pixels that the mail has.")
@list_options
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
    their mails count as sent.
    """
    check_campaign(campaign_id)
    is_list = recipients is not None
    if is_list != (out is not None) or (is_list and recipient is not None):
        raise click.UsageError("a list takes --recipients FILE and --out DIR, and no RECIPIENT")
    if not is_list and recipient is None and not eml:
        raise click.UsageError("give a RECIPIENT, or --recipients FILE and --out DIR")
    if recipients == STDIN:
        raise click.UsageError("standard input is the mail: give the list as a file")
    mail = sys.stdin.buffer.read()
    if not mail.strip():
        raise Failure("give the mail on standard input")
    if recipient is not None:
        refuse_or_warn(recipient)
    _check_kind(mail, eml)
    try:
        minter = make_minter(campaign_id)
        options = MintOptions(sent_at=find_sending_time(campaign_id, sent_at), test=test)
        make_mail = _mail_maker(mail, minter, campaign_id, eml, twin, replace, options)
        if recipients is not None and out is not None:
            kind = "eml" if eml else "html"

            def privacy_url(recipient: str) -> str:
                return minter.link(campaign_id, recipient, **options).privacy_url or ""

            with count_sent(campaign_id, sent, options) as count:
                filled, bad = _embed_list(make_mail, recipients, column, out, kind, privacy_url, count)
            refuse_bad_rows(filled, bad)
            return
        changed = make_mail(recipient)
        with count_sent(campaign_id, bool(sent and recipient), options) as count:
            count([recipient or ""])
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
    minter: Minter,
    campaign: str,
    is_eml: bool,
    twin: bool,
    replace: bool,
    options: MintOptions,
) -> MakeMail:
    """Returns a function that makes each recipient's mail. Finds the place in HTML once for all of them."""
    if is_eml:
        bare = mail.removeprefix(BOM_UTF8)
        byte_order_mark = mail[: len(mail) - len(bare)]

        def make_message(recipient: str | None) -> ChangedMessage:
            changed = add_pixel_to_bytes(
                bare, minter, campaign, recipient, twin=twin, replace=replace, **options
            )
            return changed._replace(raw=byte_order_mark + changed.raw)

        return make_message
    html_frame = frame(mail, replace=replace)

    def make_html(recipient: str | None) -> ChangedMessage:
        html = html_frame.fill(make_tags(minter, campaign, recipient or "", twin=twin, **options))
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
    privacy_url: Callable[[str], str],
    count_mails: CountSent,
) -> tuple[Filled, Path]:
    """Writes the mails as `0000/0000000.html` and so on. kind: `html` or `eml`.

    Returns the numbers of rows, and the file that names the rows that were left out.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise Failure(f"{out} exists, and is not empty")
    mail_count = 0

    def write_mails(recipients: Sequence[str]) -> list[tuple[str, str]]:
        count_mails(recipients)
        return [write_mail(recipient) for recipient in recipients]

    def write_mail(recipient: str) -> tuple[str, str]:
        nonlocal mail_count
        name = f"{mail_count // MAILS_PER_DIRECTORY:04}/{mail_count:07}.{kind}"
        changed = make_mail(recipient)
        if not mail_count:  # the warnings are the same for every mail
            _warn_sender(changed)
        mail_count += 1
        path = draft / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(changed.raw)
        return name, privacy_url(recipient)

    bad = out.with_name(f"{out.name}.bad")
    draft = out.with_name(f".{out.name}.{secrets.token_hex(8)}")
    try:
        with open_list(source, column, NEW_COLUMNS) as (recipients, on_progress):
            draft.mkdir()
            list_file = draft / f"mails.{'csv' if recipients.is_csv else 'ndjson'}"
            with list_file.open("xb") as file:
                filled = recipient_files.fill(recipients, file, bad, write_mails, on_progress)
            draft.replace(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return filled, bad
