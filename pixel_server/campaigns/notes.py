"""Notes on dates: events that explain a curve, such as "mail sent" or "site moved"."""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime
from typing import Any

import msgspec

from pixel_server.campaigns.storage import UnknownCampaign
from pixel_server.logs import Log
from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.script import ScriptCall, script_call
from pixel_server.times import iso

log = Log(__name__)

MAX_NOTES = 200
"""Largest number of notes of a campaign."""
ID_PATTERN = "[0-9a-f]{12}"


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """A note. at: seconds since 1970. text: 1 to 200 characters."""

    id: str
    at: int
    text: str


class TooManyNotes(ValueError):
    """The campaign has MAX_NOTES notes."""

    def __init__(self) -> None:
        super().__init__(f"a campaign has {MAX_NOTES} notes at most: remove one first")


class UnknownNote(LookupError):
    """The campaign has no note with this id."""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Note).decode

_ADD = """
-- KEYS: campaign, notes. ARGV: id, note, largest number of notes.
-- Returns 1; 0 if the campaign does not exist; -1 if it has too many notes.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
if redis.call('HLEN', KEYS[2]) >= tonumber(ARGV[3]) then return -1 end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
return 1
"""


def _add_call(campaign: str, note: Note) -> ScriptCall:
    return script_call(
        _ADD,
        keys=(keys.campaign(campaign), keys.notes(campaign)),
        arguments=(note.id, _encode(note), MAX_NOTES),
    )


async def add(store: AsyncRedis, campaign: str, at: int, text: str) -> Note:
    """Adds a note at a time (s). Raises TooManyNotes or UnknownCampaign."""
    note = Note(id=secrets.token_hex(6), at=at, text=text)
    status = await store.eval(*_add_call(campaign, note))
    if status == 0:
        raise UnknownCampaign(campaign)
    if status < 0:
        raise TooManyNotes
    return note


async def list_notes(store: AsyncRedis, campaign: str) -> list[Note]:
    """Returns the notes of a campaign, in order of time."""
    return decode_notes(await store.hvals(keys.notes(campaign)))


_REPLACE = """
-- KEYS: notes. ARGV: id, note. Returns 1; 0 if the note was removed, because a change must not bring it back.
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
"""


def _replace_call(campaign: str, note_id: str, value: bytes) -> ScriptCall:
    return script_call(_REPLACE, keys=(keys.notes(campaign),), arguments=(note_id, value))


async def change(
    store: AsyncRedis, campaign: str, note_id: str, at: int | None = None, text: str | None = None
) -> Note:
    """Changes the time (s) or the text of a note, or both. Raises UnknownNote.

    Keeps the fields of the stored note that only a newer version knows.
    """
    stored = await store.hget(keys.notes(campaign), note_id) if re.fullmatch(ID_PATTERN, note_id) else None
    before = decode_notes([stored] if stored is not None else [])
    if stored is None or not before:
        raise UnknownNote(note_id)
    new = {name: value for name, value in (("at", at), ("text", text)) if value is not None}
    value = _encode({**msgspec.json.decode(stored), **new})
    if not await store.eval(*_replace_call(campaign, note_id, value)):
        raise UnknownNote(note_id)
    return msgspec.structs.replace(before[0], **new)


async def remove(store: AsyncRedis, campaign: str, note_id: str) -> None:
    """Removes a note. Raises UnknownNote."""
    if not re.fullmatch(ID_PATTERN, note_id) or not await store.hdel(keys.notes(campaign), note_id):
        raise UnknownNote(note_id)


def decode_notes(values: list[bytes]) -> list[Note]:
    """Returns the notes of stored values, in order of time. Leaves out notes that cannot be read."""
    notes = []
    for value in values:
        try:
            note = _decode(value)
            datetime.fromtimestamp(note.at, UTC)
            notes.append(note)
        except (ValueError, TypeError, OverflowError, OSError) as error:
            log.error("note-unreadable", "a note cannot be read and is left as it is: %(error)s", error=error)
    return sorted(notes, key=lambda note: (note.at, note.id))


def to_json(note: Note) -> dict[str, Any]:
    """Returns the note as the API shows it."""
    return {
        "id": note.id,
        "at": iso(note.at),
        "text": note.text,
    }
