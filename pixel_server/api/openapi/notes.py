"""Notes on dates of a campaign."""

from __future__ import annotations

from pixel_server.api.openapi.operation import Operation, ok
from pixel_server.api.openapi.schema import body, page, record, ref
from pixel_server.api.openapi.values import NAME, instant, text
from pixel_server.campaigns import notes

OPERATIONS = {
    "list_notes": Operation(
        "Notes on dates of a campaign, in order of time", ok("A page of notes.", page("Note"))
    ),
    "add_note": Operation(
        "Note what happened on a date",
        ok("The note.", ref("Note")),
        f"409: the campaign has {notes.MAX_NOTES} notes already.",
        status=201,
        body="NewNote",
        problems=(409,),
    ),
    "change_note": Operation(
        "Change the time or the text of a note", ok("The changed note.", ref("Note")), body="NoteChange"
    ),
    "remove_note": Operation("Remove a note"),
}

_TEXT = {**NAME, "description": "What happened. Must not be blank, and must not contain control characters."}

SCHEMAS = {
    "NoteId": text("A note's id.", pattern=f"^{notes.ID_PATTERN}$"),
    "Note": record(notes.Note, id=ref("NoteId"), at=instant("Time of the event."), text=_TEXT),
    "NoteChange": body((), at=instant("Time of the event, to the second, 1970 to 2106."), text=_TEXT),
    "NewNote": body(
        ("text",), at=instant("Time of the event, to the second, 1970 to 2106. Default: now."), text=_TEXT
    ),
}
