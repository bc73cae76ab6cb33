"""`pixel-server explain`"""

from __future__ import annotations

import json

import click

from pixel_server.classify.explain import explain as explain_hit
from pixel_server.commands.failures import Failure
from pixel_server.commands.support import as_json, settings_here


@click.command()
@click.option("--ua", required=True, help="User agent.")
@click.option("--ip", required=True, help="Client's address.")
@click.option("--header", "headers", multiple=True, help="Another header, as `Referer: https://...`.")
@click.option("--delay", type=float, help="Seconds from sending to this open.")
@as_json
def explain(ua: str, ip: str, headers: tuple[str, ...], delay: float | None, as_json: bool) -> None:
    """Show how a hit would be classified, and by which rule. Needs no Redis."""
    other_headers = {}
    for header in headers:
        name, colon, value = header.partition(":")
        if not colon or not name.strip():
            raise Failure(f"--header {header!r} must have a name and a value, as `Referer: https://...`")
        other_headers[name.strip()] = value.strip()
    try:
        explanation = explain_hit(settings_here(), ua, ip, other_headers, delay)
    except ValueError as error:
        raise Failure(str(error)) from None
    if as_json:
        click.echo(json.dumps(explanation))
        return
    for name, value in explanation.items():
        click.echo(f"{name.replace('_', ' '):<14} {', '.join(value) if isinstance(value, list) else value}")
