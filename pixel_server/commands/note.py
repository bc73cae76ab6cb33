"""`pixel-server note ...`"""

from __future__ import annotations

import json

import click

from pixel_server.api import fields as api_fields
from pixel_server.campaigns import notes, storage
from pixel_server.commands.failures import Failure
from pixel_server.commands.support import as_json, with_store
from pixel_server.store import clock
from pixel_server.store.protocols import AsyncRedis


@click.group()
def note() -> None:
    """Add, list and remove notes on dates."""


@note.command("add")
@click.argument("campaign")
@click.argument("text")
@click.option("--at", help="When it happened, as 2026-11-24T09:00:00Z.  [default: now]")
@as_json
def add_note(campaign: str, text: str, at: str | None, as_json: bool) -> None:
    """Note what happened to a campaign on a date."""
    try:
        api_fields.name(text)
    except ValueError as error:
        raise Failure(f"text {error}") from None
    try:
        instant = None if at is None else api_fields.instant(at)
    except ValueError as error:
        raise Failure(f"--at {error}") from None

    async def add(store: AsyncRedis, _: object) -> notes.Note:
        await storage.get(store, campaign)
        happened_at = int(await clock.read_time(store)) if instant is None else instant
        return await notes.add(store, campaign, happened_at, text)

    try:
        added = with_store(add)
    except notes.TooManyNotes as error:
        raise Failure(str(error)) from None
    click.echo(json.dumps(notes.to_json(added)) if as_json else f"noted {added.id}")


@note.command("list")
@click.argument("campaign")
@as_json
def list_notes(campaign: str, as_json: bool) -> None:
    """List a campaign's notes in order of time."""

    async def read_notes(store: AsyncRedis, _: object) -> list[notes.Note]:
        await storage.get(store, campaign)
        return await notes.list_notes(store, campaign)

    items = [notes.to_json(note) for note in with_store(read_notes)]
    if as_json:
        click.echo(json.dumps({"items": items, "next": None}))
        return
    for item in items:
        click.echo(f"{item['id']}  {item['at']}  {item['text']}")


@note.command("remove")
@click.argument("campaign")
@click.argument("note")
@as_json
def remove_note(campaign: str, note: str, as_json: bool) -> None:
    """Remove a note by its id."""

    async def remove(store: AsyncRedis, _: object) -> None:
        await storage.get(store, campaign)
        await notes.remove(store, campaign, note)

    try:
        with_store(remove)
    except notes.UnknownNote:
        raise Failure(f"{campaign} has no note {note}") from None
    click.echo(json.dumps({"removed": note}) if as_json else f"removed {note}")
