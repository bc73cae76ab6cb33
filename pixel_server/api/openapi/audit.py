"""The audit log, and the log of what recipients did on the privacy page."""

from __future__ import annotations

from typing import get_args

from pixel_server.api.openapi.operation import Operation, ok
from pixel_server.api.openapi.schema import answer, mapping, page
from pixel_server.api.openapi.values import count, instant, text
from pixel_server.store import audit_log

_PAGE = page("AuditLine")
_COUNTS = answer(
    **{
        action: count("Number of these actions since the store was created.")
        for action in get_args(audit_log.Action)
    }
)

OPERATIONS = {
    "list_audit": Operation("Who did what with personal data, newest first", ok("A page of lines.", _PAGE)),
    "list_actions": Operation(
        "What recipients did on the privacy page, newest first, without their names",
        ok("A page of lines.", {**_PAGE, "properties": {**_PAGE["properties"], "counts": _COUNTS}}),
    ),
}

SCHEMAS = {
    "AuditLine": answer(
        at=instant("Time of the action."),
        who=text(
            "`key ID`, `USER, by the proxy`, `command line`, `privacy page`, `retention` or `PIXEL_API_KEY`."
        ),
        what=text("The action, such as `recipient.erased`."),
        about=mapping(text("An id or a count; never personal data."), "Other fields of the line."),
    ),
}
