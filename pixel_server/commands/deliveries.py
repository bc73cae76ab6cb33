"""`pixel-server deliveries ...`"""

from __future__ import annotations

import json
from typing import IO

import click

from pixel_server.api import deliveries as api_deliveries
from pixel_server.commands.failures import Failure
from pixel_server.commands.support import as_json, with_store
from pixel_server.deliveries import lines
from pixel_server.deliveries.take import Taker
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import audit_log, clock
from pixel_server.store.protocols import AsyncRedis

CHUNK_BYTES = 64 << 10
REASONS = {
    "no_campaign": "without a campaign",
    "unknown_campaign": "of a campaign that does not exist",
    "keeps_no_recipients": "of a campaign that keeps no recipients",
    "closed": "of a campaign whose time to keep recipients is over",
    "other_event": "that say nothing of delivery",
}
"""Texts on the reasons why events are not counted."""


@click.group()
def deliveries() -> None:
    """Count what mail services report: delivered, bounced, complained, unsubscribed."""


@deliveries.command("import")
@click.argument("file", type=click.File("rb"))
@click.option("--campaign", metavar="ID", help="Campaign of all lines. Otherwise each line names its own.")
@as_json
def import_file(file: IO[bytes], campaign: str | None, as_json: bool) -> None:
    """Count the events in a file.

    FILE is NDJSON; `-` is standard input. A line is an object with `recipient`, `event` (delivered,
    bounced_hard, bounced_soft, complained or unsubscribed), and perhaps `time` and `campaign`. A file can be
    imported again: each recipient counts once.
    """

    async def read(store: AsyncRedis, settings: Settings) -> tuple[lines.Reader, Taker]:
        secrets = Secrets.load(settings.data, settings.signing_secrets, settings.recipient_secret)
        await audit_log.note(store, audit_log.COMMAND, "deliveries.import_begun")
        taker = Taker(store, secrets, settings, await clock.read_time(store), audit_log.COMMAND)
        reader = lines.Reader(campaign, taker.take)
        while chunk := file.read(CHUNK_BYTES):
            await reader.add(chunk)
        await reader.end()
        await taker.confirm()
        return reader, taker

    reader, taker = with_store(read)
    taken = taker.taken
    if not (taken.is_any or reader.bad):
        raise Failure(f"{file.name}: there is no event in it")
    if as_json:
        click.echo(json.dumps(api_deliveries.answer(reader, taker)))
    else:
        click.echo(f"{taken.new:,} new, {taken.known:,} known, {taken.withdrawn:,} withdrawn")
    for reason, number in sorted(taken.ignored.items()):
        click.echo(f"pixel-server: {file.name}: not counted: {number:,} events {REASONS[reason]}", err=True)
    if reader.bad:
        first = reader.errors[0]
        why = f"lines left out: {reader.bad:,}; line {first['line']}: {first['message']}"
        raise Failure(f"{file.name}: {why}")
    if taken.ignored and not (taken.new or taken.known or taken.withdrawn):
        raise Failure(f"{file.name}: no event was counted")
