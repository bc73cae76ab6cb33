"""Calls of the API that read the audit log, and the log of what recipients did on the privacy page."""

from __future__ import annotations

import re
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api import fields
from pixel_server.api.context import Api
from pixel_server.api.openapi.values import text
from pixel_server.api.routing import Call, Parameter, reply
from pixel_server.problems import BAD_CURSOR, bad_parameters
from pixel_server.store import audit_log
from pixel_server.times import iso_ms

CURSOR_PATTERN = "^[1-9][0-9]{0,14}-[0-9]{1,15}$"
"""Pattern of a cursor: the id of the last line of a page, `1796040000000-0` (ms-number)."""


async def audit_page(
    api: Api, after: str | None, log: audit_log.Log = "audit"
) -> tuple[list[dict[str, Any]], str | None]:
    """Returns (lines of a log, newest first; the cursor of the next page or None).

    Raises Problem 422 if `after` is not a cursor.
    """
    if after is not None and not re.fullmatch(CURSOR_PATTERN, after, re.ASCII):
        raise bad_parameters([BAD_CURSOR])
    lines, next_cursor = await audit_log.read_page(api.store, after, fields.PAGE_SIZE, log)
    return [_line_json(line) for line in lines], next_cursor


def _line_json(line: dict[str, str]) -> dict[str, Any]:
    """Returns {at, who, what, about}. about: all other fields of the line."""
    at = iso_ms(int(line.pop("id").partition("-")[0]))
    return {"at": at, "who": line.pop("who"), "what": line.pop("what"), "about": line}


async def list_audit(api: Api, request: Request) -> Response:
    items, next_cursor = await audit_page(api, request.query_params.get("after"))
    return reply({"items": items, "next": next_cursor})


async def list_actions(api: Api, request: Request) -> Response:
    items, next_cursor = await audit_page(api, request.query_params.get("after"), "recipients")
    return reply({"items": items, "next": next_cursor, "counts": await audit_log.recipient_counts(api.store)})


_AFTER = Parameter("after", text("`next` of the page before.", pattern=CURSOR_PATTERN))

CALLS = (
    Call("GET", "/api/audit", "people", list_audit, query=(_AFTER,)),
    Call("GET", "/api/audit/recipients", "people", list_actions, query=(_AFTER,)),
)
