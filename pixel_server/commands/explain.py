"""`pixel-server explain`"""

from __future__ import annotations

import json

import click

from pixel_server.commands.support import Failure, as_json, settings_here


@click.command()
@click.option("--ua", required=True, help="The user agent.")
@click.option("--ip", required=True, help="The client's address.")
@click.option("--header", "headers", multiple=True, help="One more, as `Referer: https://...`.")
@click.option("--delay", type=float, help="Seconds from sending to this open.")
@as_json
def explain(ua: str, ip: str, headers: tuple[str, ...], delay: float | None, as_json: bool) -> None:
    """Say what a hit would be taken for, and by which rule. Needs no Redis."""
    from pixel_server.classify.explain import explain as judged  # noqa: PLC0415

    if bad := [header for header in headers if not header.partition(":")[0].strip() or ":" not in header]:
        raise Failure(f"--header {bad[0]!r} must have a name and a value, as `Referer: https://...`")
    named = {name.strip(): value.strip() for name, _, value in (header.partition(":") for header in headers)}
    try:
        found = judged(settings_here(), ua, ip, named, delay)
    except ValueError as error:
        raise Failure(str(error)) from None
    if as_json:
        click.echo(json.dumps(found))
        return
    for name, value in found.items():
        click.echo(f"{name.replace('_', ' '):<14} {', '.join(value) if isinstance(value, list) else value}")
