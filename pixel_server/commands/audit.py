"""`pixel-server audit`"""

from __future__ import annotations

import json

import click

from pixel_server.commands.support import as_json, with_store
from pixel_server.settings import Settings
from pixel_server.store import audit_log
from pixel_server.store.protocols import AsyncRedis
from pixel_server.times import iso_ms


@click.command()
@click.option("--last", default=100, show_default=True, type=click.IntRange(1, 10_000), help="Lines to show.")
@click.option("--recipients", is_flag=True, help="Show what recipients did on the privacy page instead.")
@as_json
def audit(last: int, recipients: bool, as_json: bool) -> None:
    """Show who did what with personal data. The newest line comes first."""

    async def read_lines(
        store: AsyncRedis, settings: Settings
    ) -> tuple[list[dict[str, str]], dict[str, int]]:
        lines, _ = await audit_log.read_page(store, None, last, "recipients" if recipients else "audit")
        return lines, await audit_log.recipient_counts(store) if recipients else {}

    lines, counts = with_store(read_lines)
    for line in lines:
        line["at"] = iso_ms(int(line.pop("id").partition("-")[0]))
    if as_json:
        click.echo(json.dumps({"items": lines, "next": None, **({"counts": counts} if recipients else {})}))
        return
    for line in lines:
        columns = f"{line.pop('at')}  {line.pop('who'):<16}  {line.pop('what'):<24}"
        click.echo("  ".join([columns, *(f"{name}={value}" for name, value in line.items())]))
    if recipients:
        click.echo("in all: " + ", ".join(f"{count} {what}" for what, count in counts.items()))
