"""`pixel-server check`, which works offline."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from pixel_server.commands.support import as_json, base_url_of_up
from pixel_server.mail import preflight
from pixel_server.secret import FILE, Secrets
from pixel_server.settings import Settings

_MARKS = {True: "ok", False: "!!", None: "  "}


@click.command()
@click.argument("mail", type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True))
@click.option("--campaign", metavar="CAMPAIGN", help="Campaign that the pixel should belong to.")
@click.option("--recipient", metavar="RECIPIENT", help="Recipient that the pixel should belong to.")
@as_json
@click.pass_context
def check(ctx: click.Context, mail: Path, campaign: str | None, recipient: str | None, as_json: bool) -> None:
    """Check the pixel of a mail before it is sent.

    MAIL is a file of HTML or of a whole message, or - for standard input. The lines say whether there is a
    pixel, of which campaign, whether its signature is right, whether it is the last thing in the mail, and
    whether it will be loaded. The exit code is 1 if something must be mended.
    """
    settings = Settings.from_env()
    secrets = None
    are_secrets_set = settings.signing_secrets and settings.recipient_secret
    if are_secrets_set or (settings.data / FILE).exists():  # a check must not make new secrets
        secrets = Secrets.load(settings.data, settings.signing_secrets, settings.recipient_secret)
    base_url = settings.base_url or base_url_of_up(settings)
    content = sys.stdin.buffer.read() if str(mail) == "-" else mail.read_bytes()
    lines = preflight.check(
        content,
        secrets.signing if secrets else None,
        base_url,
        preflight.Expected(campaign, recipient, secrets.recipient_key if secrets else None),
    )
    is_ok = all(line.ok is not False for line in lines)
    if as_json:
        items = [{"ok": line.ok, "text": line.text} for line in lines]
        click.echo(json.dumps({"ok": is_ok, "lines": items}))
    else:
        for line in lines:
            click.echo(f"{_MARKS[line.ok]} {line.text}")
    ctx.exit(0 if is_ok else 1)
