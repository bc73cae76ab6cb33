"""`pixel-server check ...`, which works offline."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from pixel_server.commands.support import as_json
from pixel_server.secret import FILE, Secrets
from pixel_server.settings import Settings

_SIGNS = {True: "ok", False: "!!", None: "  "}


@click.command()
@click.argument("mail", type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True))
@as_json
@click.pass_context
def check(ctx: click.Context, mail: Path, as_json: bool) -> None:
    """Look at a mail before it goes out: a file of HTML or a whole message, or - for standard input.

    Is there a pixel, of which campaign, does it verify, is it the last thing, will it be loaded. The exit
    code is 1 if something is to be done.
    """
    from pixel_server.mail import preflight as checking  # noqa: PLC0415
    from pixel_server.run.up_state import read_up_state  # noqa: PLC0415

    settings = Settings.from_env()
    keys = None
    if (settings.data / FILE).exists() or (
        settings.signing and settings.recipient_secret
    ):  # to look makes none
        keys = Secrets.load(settings.data, settings.signing, settings.recipient_secret).signing
    found = read_up_state(settings.data)
    base_url = settings.base_url or (found.base_url if found else None)
    content = sys.stdin.buffer.read() if str(mail) == "-" else mail.read_bytes()
    lines = checking.check(content, keys, base_url)
    ok = all(line.ok is not False for line in lines)
    if as_json:
        shown = [{"ok": line.ok, "text": line.text} for line in lines]
        click.echo(json.dumps({"ok": ok, "lines": shown}))
    else:
        for line in lines:
            click.echo(f"{_SIGNS[line.ok]} {line.text}")
    ctx.exit(0 if ok else 1)
