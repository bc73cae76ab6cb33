"""Notes on dates of a campaign."""

from __future__ import annotations

from pixel_server.api.openapi.operation import BODY, CAMPAIGN, GONE, call, ok, page, path
from pixel_server.api.openapi.schema import NAME, answer, instant, ref, taken, text
from pixel_server.campaigns import notes

PATHS = {
    "/api/campaigns/{id}/notes": {
        "parameters": [CAMPAIGN],
        "get": call(
            "list_notes",
            "read",
            "Notes on dates of a campaign, in order of time",
            (404,),
            {200: ok("All of them: there is one page.", page("Note"))},
        ),
        "post": call(
            "add_note",
            "write",
            "Note what happened on a date",
            (*BODY, 404, 409),
            {201: ok("The note.", ref("Note"))},
            description=f"409: the campaign has {notes.MAX_NOTES} notes already.",
            body="NewNote",
        ),
    },
    "/api/campaigns/{id}/notes/{note}": {
        "parameters": [CAMPAIGN, path("note", "A note's id.", ref("NoteId"))],
        "delete": call("remove_note", "write", "Remove a note", (404,), {204: GONE}),
    },
}

_WORDS = {**NAME, "description": "What happened. Not only blanks, no control characters."}

SCHEMAS = {
    "NoteId": text("A note's id.", pattern=f"^{notes.ID_PATTERN}$"),
    "Note": answer(id=ref("NoteId"), at=instant("When it happened."), text=_WORDS),
    "NewNote": taken(
        ("text",), at=instant("When it happened, to the second, 1970 to 2106. Default: now."), text=_WORDS
    ),
}
