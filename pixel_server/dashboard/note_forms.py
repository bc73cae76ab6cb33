"""The forms for notes on the page of a campaign."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from pixel_server.api.context import Api
from pixel_server.campaigns import notes
from pixel_server.campaigns.campaign import Campaign

FIELDS = {"at": "", "time": "", "text": "", "was": ""}
"""The empty fields of a form. was: the day and time before a change, `"2026-11-24T09:00"`."""


async def context(
    api: Api, campaign: Campaign, page_stats: Mapping[str, Any], edited: str = ""
) -> dict[str, Any]:
    """Returns what the template of the notes needs. edited: the id of the note whose change was refused."""
    shown, all_notes = page_stats["notes"], await notes.list_notes(api.store, campaign.id)
    return {
        "notes_elsewhere": len(all_notes) - len(shown),
        "note_fields": {note["id"]: _fields(note, campaign.zone) for note in shown},
        "edited": edited,
    }


def _fields(note: Mapping[str, str], zone: ZoneInfo) -> dict[str, str]:
    """Returns the fields of the form that changes a note."""
    at = datetime.fromisoformat(note["at"]).astimezone(zone)
    day, time = f"{at:%Y-%m-%d}", f"{at:%H:%M}"
    return {"at": day, "time": time, "text": note["text"], "was": f"{day}T{time}"}
