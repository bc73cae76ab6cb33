"""Who did what to data on people."""

from __future__ import annotations

from pixel_server.report import people
from pixel_server.report.openapi.operation import call, ok, page, query
from pixel_server.report.openapi.schema import answer, instant, text

PATHS = {
    "/api/audit": {
        "get": call(
            "list_audit",
            "people",
            "Who did what to data on people, newest first",
            (422,),
            {200: ok("A page of it.", page("AuditLine"))},
            parameters=[query("after", text("`next` of the page before.", pattern=people.CURSOR))],
        ),
    },
}

SCHEMAS = {
    "AuditLine": answer(
        at=instant("When."),
        who=text("`key ID`, `command line`, `privacy page`, `retention` or `PIXEL_API_KEY`."),
        what=text("As `recipient.erased`."),
        about={"type": "object", "additionalProperties": text("Ids and counts; no personal data.")},
    ),
}
