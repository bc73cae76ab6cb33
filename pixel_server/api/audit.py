"""Calls of the API that read the audit log, and the log of what recipients did on the privacy page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api.context import Api
from pixel_server.api.paging import Paging
from pixel_server.api.routing import Call, reply
from pixel_server.store import audit_log
from pixel_server.times import iso_ms

_PAGING = Paging("[1-9][0-9]{0,14}-[0-9]{1,15}")
"""A cursor is the id of the last line of a page, `1796040000000-0` (time in ms, number)."""


async def audit_page(
    api: Api, query: Mapping[str, str], log_name: audit_log.Log = "audit"
) -> tuple[list[dict[str, Any]], str | None]:
    """Returns (lines of a log, newest first; the cursor of the next page or None).

    Raises Problem 422 if the query has a bad `after` or `limit`.
    """
    page = _PAGING.parse(query)
    lines, next_cursor = await audit_log.read_page(api.store, page.after, page.limit, log_name)
    return [_line_json(line) for line in lines], next_cursor


def _line_json(line: dict[str, str]) -> dict[str, Any]:
    """Returns {at, who, what, about}. about: all other fields of the line."""
    at = iso_ms(int(line.pop("id").partition("-")[0]))
    return {"at": at, "who": line.pop("who"), "what": line.pop("what"), "about": line}


async def list_audit(api: Api, request: Request) -> Response:
    items, next_cursor = await audit_page(api, request.query_params)
    return reply({"items": items, "next": next_cursor})


async def list_actions(api: Api, request: Request) -> Response:
    items, next_cursor = await audit_page(api, request.query_params, "recipients")
    return reply({"items": items, "next": next_cursor, "counts": await audit_log.recipient_counts(api.store)})


CALLS = (
    Call("GET", "/api/audit", "people", list_audit, query=_PAGING.parameters),
    Call("GET", "/api/audit/recipients", "people", list_actions, query=_PAGING.parameters),
)
