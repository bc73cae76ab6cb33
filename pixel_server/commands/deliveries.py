"""`pixel-server deliveries ...`"""

from __future__ import annotations

import json
import sys
from typing import IO

import click

from pixel_server.api import deliveries as api_deliveries
from pixel_server.api import fields as api_fields
from pixel_server.commands.failures import Failure
from pixel_server.commands.support import as_json, base_url_of_up, print_table, warn_if_local, with_store
from pixel_server.deliveries import lines, sources
from pixel_server.deliveries.providers import PROVIDERS
from pixel_server.deliveries.sources import Source
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
    """Let mail services report mails: delivered, bounced, complained, unsubscribed."""


@deliveries.command("add")
@click.argument("provider", type=click.Choice(list(PROVIDERS)))
@click.argument("name", required=False)
@click.option(
    "--key", help="What the provider signs with, see `deliveries key`; `-` reads it from standard input."
)
@as_json
def add(provider: str, name: str | None, key: str | None, as_json: bool) -> None:
    """Add a mail service, and show the address for its webhook this once."""
    shown_name = name or PROVIDERS[provider].label
    try:
        api_fields.name(shown_name)
    except ValueError as error:
        raise Failure(f"name {error}") from None

    async def act(store: AsyncRedis, settings: Settings) -> tuple[Source, str]:
        base_url = settings.base_url or base_url_of_up(settings)
        if base_url is None:
            raise Failure("set PIXEL_BASE_URL to the public address of this server")
        now = await clock.read_time(store)
        source, secret = await sources.add(store, provider, shown_name, _read_key(key), now)
        return source, sources.url(base_url, source, secret)

    try:
        source, url = with_store(act)
    except sources.TooManySources as error:
        raise Failure(str(error)) from None
    except ValueError as error:
        raise Failure(f"--key {error}") from None
    shown = sources.to_json(source, sources.Used())
    click.echo(json.dumps({**shown, "url": url}) if as_json else url)
    warn_if_local(url)
    if shown["needs_key"]:
        click.echo(
            f"pixel-server: it takes events once you run: pixel-server deliveries key {source.id} KEY "
            f"(KEY is {PROVIDERS[provider].key_help})",
            err=True,
        )


@deliveries.command("list")
@as_json
def list_all(as_json: bool) -> None:
    """List the mail services that may report events, oldest first."""
    pairs = with_store(lambda store, _: sources.list_sources(store))
    items = [sources.to_json(*pair) for pair in pairs]
    if as_json:
        click.echo(json.dumps({"items": items, "next": None}))
        return
    rows = [("ID", "SERVICE", "COUNTED", "IGNORED", "LAST USED", "NAME")]
    for item in items:
        last = "needs its key" if item["needs_key"] else item["last_used"] or "never used"
        counts = f"{item['counted']:,}", f"{item['ignored']:,}"
        rows.append((item["id"], item["provider"], *counts, last, item["name"]))
    print_table(rows)


@deliveries.command("key")
@click.argument("id")
@click.argument("key")
@as_json
def set_key(id: str, key: str, as_json: bool) -> None:  # noqa: A002
    """Set the KEY of a mail service; `-` reads it from standard input.

    For Amazon SES it is the ARN of the SNS topic, for SendGrid the verification key, for Mailgun the HTTP
    webhook signing key. For the others it is user:password of basic auth, and not needed.
    """
    try:
        with_store(lambda store, _: sources.set_key(store, id, _read_key(key) or ""))
    except sources.UnknownSource:
        raise Failure(f"there is no mail service {id}") from None
    except ValueError as error:
        raise Failure(f"KEY {error}") from None
    click.echo(json.dumps({"id": id}) if as_json else f"set the key of {id}")


@deliveries.command("remove")
@click.argument("id")
@as_json
def remove(id: str, as_json: bool) -> None:  # noqa: A002
    """Remove a mail service by its id. Its address takes no more events."""
    try:
        with_store(lambda store, _: sources.remove(store, id))
    except sources.UnknownSource:
        raise Failure(f"there is no mail service {id}") from None
    click.echo(json.dumps({"removed": id}) if as_json else f"removed {id}")


def _read_key(key: str | None) -> str | None:
    """Returns the key, read from standard input if it is `-`, so that it is in no list of processes."""
    return sys.stdin.readline().strip() if key == "-" else key


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
        details = {} if campaign is None else {"campaign": campaign}
        await audit_log.note(store, audit_log.COMMAND, "deliveries.import_begun", **details)
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
