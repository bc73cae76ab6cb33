"""Calls of the API that read the audit log, and the log of what recipients did on the privacy page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api import fields
from pixel_server.api.context import Api
from pixel_server.api.openapi.values import text
from pixel_server.api.paging import Paging
from pixel_server.api.routing import Call, Parameter, reply
from pixel_server.problems import bad_parameters
from pixel_server.slug import PATTERN, is_slug
from pixel_server.store import audit_log
from pixel_server.times import iso_ms

_PAGING = Paging("[1-9][0-9]{0,14}-[0-9]{1,15}")
"""A cursor is the id of the last line of a page, `1796040000000-0` (time in ms, number)."""
MAX_CHARACTERS = {"who": 300, "what": 100}
"""Largest number of characters of the texts that a filter looks for."""


async def audit_page(
    api: Api,
    query: Mapping[str, str],
    log_name: audit_log.Log = "audit",
    who_too: Iterable[str] = (),
    more_errors: Iterable[dict[str, Any]] = (),
    campaigns_too: Sequence[str] = (),
) -> tuple[list[dict[str, Any]], str | None]:
    """Returns (lines of a log, newest first; the cursor of the next page or None).

    who_too: texts that `who` of a line may contain instead of the parameter `who`, if that is given.
    campaigns_too: ids of campaigns that the text in the parameter `campaign` names, besides its id.
    more_errors: errors that the caller found. Raises Problem 422 if there is an error in the query or there.
    """
    wanted, errors = _parse_filter(query, who_too, campaigns_too)
    page = _PAGING.parse(query, [*errors, *more_errors])
    lines, next_cursor = await audit_log.read_page(api.store, page.after, page.limit, log_name, wanted)
    return [_line_json(line) for line in lines], next_cursor


async def read_all(
    api: Api,
    query: Mapping[str, str],
    who_too: Iterable[str] = (),
    more_errors: Iterable[dict[str, Any]] = (),
    campaigns_too: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Returns all lines of the audit log that a query wants, newest first.

    Raises Problem 422 as `audit_page` does.
    """
    wanted, errors = _parse_filter(query, who_too, campaigns_too)
    if errors := [*errors, *more_errors]:
        raise bad_parameters(errors)
    lines, _ = await audit_log.read_page(api.store, None, audit_log.MAX_LINES, "audit", wanted)
    return [_line_json(line) for line in lines]


def _parse_filter(
    query: Mapping[str, str], who_too: Iterable[str] = (), campaigns_too: Sequence[str] = ()
) -> tuple[audit_log.Filter, list[dict[str, Any]]]:
    """Returns the filter of a query, and the errors of its parameters. An empty parameter filters nothing."""
    errors: list[dict[str, Any]] = []
    times: dict[str, int] = {}
    for name in ("from", "to"):
        if given := query.get(name, ""):
            try:
                times[name] = fields.local_instant(given, ZoneInfo("UTC")) * 1000
            except ValueError as error:
                errors.append({"field": name, "message": str(error)})
    for name, most in MAX_CHARACTERS.items():
        if len(query.get(name, "")) > most:
            errors.append({"field": name, "message": f"must have at most {most} characters"})
    campaign, who = query.get("campaign", ""), query.get("who", "")
    if campaign and not campaigns_too and not is_slug(campaign):
        errors.append({"field": "campaign", "message": "must be the id of a campaign"})
    wanted = audit_log.Filter(
        (who, *who_too) if who else (),
        query.get("what", ""),
        (campaign, *campaigns_too) if campaign else (),
        times.get("from", 0),
        times.get("to"),
    )
    return wanted, errors


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


_FILTER = (
    Parameter("who", text("Only lines whose `who` contains this text.", maxLength=MAX_CHARACTERS["who"])),
    Parameter(
        "what",
        text(
            "Only actions that contain this text: `recipient` or `key.revoked`.",
            maxLength=MAX_CHARACTERS["what"],
        ),
    ),
    Parameter("campaign", text("Only lines on the campaign with this id.", pattern=f"^{PATTERN}$")),
    Parameter("from", text("Only lines from this day or instant on. A day is one of UTC.")),
    Parameter("to", text("Only lines before this day or instant.")),
)

CALLS = (
    Call("GET", "/api/audit", "people", list_audit, query=(*_FILTER, *_PAGING.parameters)),
    Call("GET", "/api/audit/recipients", "people", list_actions, query=_PAGING.parameters),
)
