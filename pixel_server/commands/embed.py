"""`pixel-server embed ...`, which works offline."""

from __future__ import annotations

import secrets
import shutil
import sys
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pixel_server.commands.list_options import STDIN, of_recipients, refuse_bad, rows_of
from pixel_server.commands.minting import check_campaign, minter
from pixel_server.commands.support import Failure

if TYPE_CHECKING:
    from pixel_server.mail.links import Minter
    from pixel_server.mail.message import Made

NEW_COLUMNS = ("mail_file", "privacy_url")
A_DIRECTORY = 1000
"""Mails in each directory."""


@click.command()
@click.argument("campaign_id", metavar="CAMPAIGN")
@click.argument("recipient", required=False)
@click.option("--eml", is_flag=True, help="It is a whole message, not HTML.")
@click.option("--twin", is_flag=True, help="One pixel at the top as well: tells whether mails are clipped.")
@click.option("--replace", is_flag=True, help="Take out the pixels that are there.")
@of_recipients
@click.option("--out", type=click.Path(path_type=Path), help="Of a list: a new directory for its mails.")
def embed(
    campaign_id: str,
    recipient: str | None,
    eml: bool,
    twin: bool,
    replace: bool,
    recipients: Path | None,
    column: str,
    out: Path | None,
) -> None:
    """Put the pixel into the mail on standard input; all else stays as it is. Works offline.

    With --recipients, one mail for each row goes into the directory OUT, with a list of them. OUT is there
    when all are done, or not at all. Of a message, RECIPIENT may be left out if it goes to one address alone.
    """
    from pixel_server.mail.links import check_recipient  # noqa: PLC0415
    from pixel_server.mail.placement import EmbedError  # noqa: PLC0415
    from pixel_server.mail.preflight import is_message, is_surely_message  # noqa: PLC0415

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
        try:
            check_recipient(recipient)
        except ValueError as error:
            raise Failure(f"recipient {error}") from None
    if is_surely_message(_of_utf_16(mail)):
        raise Failure("this message is in UTF-16, as no mail is sent: give it as it came")
    if eml and not is_message(mail):
        raise Failure("this is no whole message, it has no header: leave out --eml")
    if not eml and is_surely_message(mail):
        raise Failure("this looks like a whole message: say --eml")
    try:
        with_secrets = minter(campaign_id)
        make = _maker(mail, with_secrets, campaign_id, eml, twin, replace)
        if recipients is not None and out is not None:
            _embed_all(make, with_secrets, campaign_id, recipients, column, out, "eml" if eml else "html")
            return
        made = make(recipient)
    except (EmbedError, ValueError) as error:
        raise Failure(str(error)) from None
    _say(made)
    sys.stdout.buffer.write(made.raw)


def _maker(
    mail: bytes, with_secrets: Minter, campaign: str, eml: bool, twin: bool, replace: bool
) -> Callable[[str | None], Made]:
    """Makes the mail of a recipient; where HTML goes to, is found once."""
    from pixel_server.mail.links import make_tags  # noqa: PLC0415
    from pixel_server.mail.message import Made, add_pixel_to_bytes  # noqa: PLC0415
    from pixel_server.mail.placement import frame  # noqa: PLC0415

    if eml:
        bare = mail.removeprefix(BOM_UTF8)

        def make_message(recipient: str | None) -> Made:
            made = add_pixel_to_bytes(bare, with_secrets, campaign, recipient, twin=twin, replace=replace)
            return made._replace(raw=mail[: len(mail) - len(bare)] + made.raw)

        return make_message
    found = frame(mail, replace=replace)

    def make(recipient: str | None) -> Made:
        made = found.fill(make_tags(with_secrets, campaign, recipient or "", twin=twin))
        return Made(made, "", len(made))

    return make


def _of_utf_16(mail: bytes) -> bytes:
    """What it says, if a mark says that it is UTF-16."""
    is_it = mail.startswith((BOM_UTF16_LE, BOM_UTF16_BE))
    return mail.decode("utf-16", "replace").encode("utf-8", "replace") if is_it else b""


def _say(made: Made) -> None:
    """What a sender should know of it, on standard error."""
    from pixel_server.mail.placement import CLIP  # noqa: PLC0415

    if made.why:
        click.echo(f"pixel-server: no pixel: {made.why}", err=True)
    if made.size > CLIP:
        click.echo(
            f"pixel-server: {made.size:,} bytes of HTML: Gmail shows {CLIP:,} and may load no pixel below; "
            "--twin tells of how many",
            err=True,
        )


def _embed_all(
    make: Callable[[str | None], Made],
    with_secrets: Minter,
    campaign: str,
    source: Path,
    column: str,
    out: Path,
    kind: str,
) -> None:
    from pixel_server.mail import recipient_files  # noqa: PLC0415

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise Failure(f"{out} is there already, and not empty")
    count = 0

    def write(recipient: str) -> tuple[str, str]:
        nonlocal count
        name = f"{count // A_DIRECTORY:04}/{count:07}.{kind}"
        made = make(recipient)
        if not count:  # it is the same of all
            _say(made)
        count += 1
        path = draft / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(made.raw)
        return name, with_secrets.link(campaign, recipient).privacy_url or ""

    bad = out.with_name(f"{out.name}.bad")
    draft = out.with_name(f".{out.name}.{secrets.token_hex(8)}")
    try:
        with rows_of(source, column, NEW_COLUMNS) as (rows, tick):
            draft.mkdir()
            listed = draft / f"mails.{'csv' if rows.is_csv else 'ndjson'}"
            with listed.open("xb") as file:
                done = recipient_files.fill(rows, file, bad, write, tick)
            draft.replace(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    refuse_bad(done, bad)
