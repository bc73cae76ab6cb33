"""`pixel-server note ...`"""

from __future__ import annotations

import json
from zoneinfo import ZoneInfo

import click

from pixel_server.api import fields as api_fields
from pixel_server.campaigns import notes, storage
from pixel_server.commands.failures import Failure
from pixel_server.commands.support import as_json, with_store
from pixel_server.store import clock
from pixel_server.store.protocols import AsyncRedis

_AT_HELP = (
    "When it happened, as 2026-11-24 or 2026-11-24T09:00; without an offset in the campaign's time zone.  "
    "[default: now]"
)


@click.group()
def note() -> None:
    """Add, list, change and remove notes on dates."""


@note.command("add")
@click.argument("campaign")
@click.argument("text")
@click.option("--at", help=_AT_HELP)
@as_json
def add_note(campaign: str, text: str, at: str | None, as_json: bool) -> None:
    """Note what happened to a campaign on a date."""
    _check(text, at)

    async def add(store: AsyncRedis, _: object) -> notes.Note:
        record = await storage.get(store, campaign)
        happened_at = int(await clock.read_time(store)) if at is None else _instant(at, record.zone)
        return await notes.add(store, campaign, happened_at, text)

    try:
        added = with_store(add)
    except notes.TooManyNotes as error:
        raise Failure(str(error)) from None
    click.echo(json.dumps(notes.to_json(added)) if as_json else f"noted {added.id}")


def _check(text: str | None, at: str | None) -> None:
    """Raises Failure if the text or the time is bad, whether the campaign exists or not."""
    try:
        if text is not None:
            api_fields.name(text)
    except ValueError as error:
        raise Failure(f"text {error}") from None
    if at is not None:
        _instant(at, ZoneInfo("UTC"))


def _instant(at: str, zone: ZoneInfo) -> int:
    """Returns the seconds since 1970. Raises Failure if the text is not a time."""
    try:
        return api_fields.local_instant(at, zone)
    except ValueError as error:
        raise Failure(f"--at {error}") from None


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


@note.command("change")
@click.argument("campaign")
@click.argument("note_id", metavar="NOTE")
@click.option("--text", help="The new text.")
@click.option("--at", help=_AT_HELP.partition(".  ")[0] + ".")
@as_json
def change_note(campaign: str, note_id: str, text: str | None, at: str | None, as_json: bool) -> None:
    """Change the text or the time of a note, by its id."""
    if text is None and at is None:
        raise Failure("give --text or --at, or both")
    _check(text, at)

    async def change(store: AsyncRedis, _: object) -> notes.Note:
        record = await storage.get(store, campaign)
        happened_at = None if at is None else _instant(at, record.zone)
        return await notes.change(store, campaign, note_id, happened_at, text)

    try:
        changed = with_store(change)
    except notes.UnknownNote:
        raise Failure(f"{campaign} has no note {note_id}") from None
    click.echo(json.dumps(notes.to_json(changed)) if as_json else f"changed {note_id}")


@note.command("remove")
@click.argument("campaign")
@click.argument("note_id", metavar="NOTE")
@as_json
def remove_note(campaign: str, note_id: str, as_json: bool) -> None:
    """Remove a note by its id."""

    async def remove(store: AsyncRedis, _: object) -> None:
        await storage.get(store, campaign)
        await notes.remove(store, campaign, note_id)

    try:
        with_store(remove)
    except notes.UnknownNote:
        raise Failure(f"{campaign} has no note {note_id}") from None
    click.echo(json.dumps({"removed": note_id}) if as_json else f"removed {note_id}")
