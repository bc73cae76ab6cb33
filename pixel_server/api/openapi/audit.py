"""Who did what to data on people."""

from __future__ import annotations

from typing import get_args

from pixel_server.api.audit import CURSOR
from pixel_server.api.openapi.operation import call, ok, page, query
from pixel_server.api.openapi.schema import answer, count, instant, text
from pixel_server.store import audit_log

_AFTER = query("after", text("`next` of the page before.", pattern=CURSOR))
_PAGE = page("AuditLine")
_COUNTS = answer(
    **{what: count("How often, since the store is there.") for what in get_args(audit_log.Action)}
)

PATHS = {
    "/api/audit": {
        "get": call(
            "list_audit",
            "people",
            "Who did what to data on people, newest first",
            (422,),
            {200: ok("A page of it.", page("AuditLine"))},
            parameters=[_AFTER],
        ),
    },
    "/api/audit/recipients": {
        "get": call(
            "list_actions",
            "people",
            "What recipients did on the privacy page, newest first; not who",
            (422,),
            {200: ok("A page of it.", {**_PAGE, "properties": {**_PAGE["properties"], "counts": _COUNTS}})},
            parameters=[_AFTER],
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
