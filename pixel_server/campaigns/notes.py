"""Notes on dates: what the sender did, as "mail sent" or "site moved", so that a curve explains itself."""

from __future__ import annotations

import logging
import re
import secrets
from datetime import UTC, datetime
from typing import Any

import msgspec

from pixel_server.campaigns.storage import UnknownCampaign
from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis
from pixel_server.times import iso

log = logging.getLogger("pixel_server.campaigns.notes")

MOST = 200
"""Of one campaign."""
PATTERN = "[0-9a-f]{12}"
"""Of an id."""


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """at: seconds. text: 1 to 200 characters."""

    id: str
    at: int
    text: str


class Full(ValueError):
    """The campaign has as many notes as it may."""


class Unknown(LookupError):
    """The campaign has no such note."""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Note).decode

_ADD = """
-- KEYS: campaign, notes. ARGV: id, note, how many there may be. Returns 1; 0: no campaign; -1: no room.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
if redis.call('HLEN', KEYS[2]) >= tonumber(ARGV[3]) then return -1 end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
return 1
"""


async def add(store: AsyncRedis, campaign: str, at: int, text: str) -> Note:
    """at: seconds. Full. campaigns.Unknown: there is no such campaign."""
    note = Note(id=secrets.token_hex(6), at=at, text=text)
    names = (keys.campaign(campaign), keys.notes(campaign))
    done = await store.eval(_ADD, 2, *names, note.id, _encode(note), MOST)
    if done == 0:
        raise UnknownCampaign(campaign)
    if done < 0:
        raise Full(f"a campaign has {MOST} notes at most: remove one first")
    return note


async def listed(store: AsyncRedis, campaign: str) -> list[Note]:
    """All of a campaign's, in order of time."""
    return parse(await store.hvals(keys.notes(campaign)))


async def remove(store: AsyncRedis, campaign: str, note: str) -> None:
    """note: its id. Unknown: there is none."""
    if not re.fullmatch(PATTERN, note) or not await store.hdel(keys.notes(campaign), note):
        raise Unknown(note)


def parse(values: list[bytes]) -> list[Note]:
    """What the hash of a campaign's notes holds, in order of time; leaves out what cannot be read."""
    found = []
    for value in values:
        try:
            note = _decode(value)
            datetime.fromtimestamp(note.at, UTC)
            found.append(note)
        except (ValueError, TypeError, OverflowError, OSError) as error:
            log.error("a note cannot be read and is left as it is: %s", type(error).__name__)
    return sorted(found, key=lambda note: (note.at, note.id))


def to_json(note: Note) -> dict[str, Any]:
    """As the API shows it."""
    return {
        "id": note.id,
        "at": iso(note.at),
        "text": note.text,
    }
