"""Calls of the API on withdrawals: list, add, end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from pixel_server.api import fields
from pixel_server.api.context import Api
from pixel_server.api.media_types import CSV, NDJSON, choose
from pixel_server.api.paging import Paging
from pixel_server.api.request_body import check_fields, read_json
from pixel_server.api.routing import Call, reply
from pixel_server.figures import csv_export
from pixel_server.problems import Problem
from pixel_server.recipients import withdrawals, withdrawals_export
from pixel_server.recipients.withdrawals import Periods
from pixel_server.secret import Secrets
from pixel_server.store import audit_log, replication
from pixel_server.times import iso_ms

_PAGING = Paging("(?:0|[1-9][0-9]{0,18})(?:-[0-9a-f]{16})?", fields.MAX_PAGE_SIZE)
"""A cursor is a cursor of Redis's HSCAN: `1536`. If HSCAN returned more marks than the page shows, the last
mark of the page follows: `1536-5f0c9a3be1d2a4b6`."""


def periods_json(periods: Periods) -> list[dict[str, str | None]]:
    """Returns periods as the API shows them. `from` is null for an erasure, which drops all earlier hits."""
    return [
        {"from": iso_ms(start) if start else None, "until": None if end is None else iso_ms(end)}
        for start, end in periods
    ]


def recipient_keys(content: Any, secrets: Secrets) -> list[bytes]:
    """Returns the keys of `{recipients: [...]}`. Raises Problem 422 that names each bad row."""
    body = check_fields(content, {"recipients": fields.recipients}, frozenset({"recipients"}))
    keys, errors = [], []
    for number, row in enumerate(body["recipients"]):
        try:
            keys.append(secrets.recipient_key(fields.recipient(row)))
        except ValueError as error:
            errors.append({"row": number, "field": "recipient", "message": str(error)})
    if errors:
        raise Problem(422, f"{len(errors)} rows cannot be used; nothing was changed", errors)
    return keys


async def withdrawals_page(
    api: Api, after: str | None, limit: int
) -> tuple[list[dict[str, Any]], str | None]:
    """Returns (at most `limit` withdrawals, the cursor of the next page or None).

    Raises Problem 422 if `after` or `limit` is bad.
    """
    page = _PAGING.parse({"limit": str(limit), **({} if after is None else {"after": after})})
    place, _, last_mark = (page.after or "0").partition("-")
    scanned, next_place = await withdrawals.page(api.store, int(place), fields.MAX_PAGE_SIZE)
    unshown = sorted(item for item in scanned if item[0] > bytes.fromhex(last_mark))
    items = [
        {"mark": mark.hex(), "periods": periods_json(periods)} for mark, periods in unshown[: page.limit]
    ]
    if len(unshown) > page.limit:
        return items, f"{place}-{items[-1]['mark']}"
    return items, str(next_place) if next_place else None


async def _lines(api: Api, media_type: str) -> AsyncIterator[bytes]:
    """Yields all withdrawals as CSV or NDJSON."""
    if media_type == CSV:
        yield csv_export.lines([withdrawals_export.COLUMNS])
    async for part in withdrawals_export.read(api.store, api.secrets, api.settings.shards):
        if media_type == CSV:
            yield csv_export.lines(line for item in part for line in withdrawals_export.lines(item))
        else:
            yield b"".join(map(withdrawals_export.json_line, part))


async def export(api: Api, media_type: str, who: str) -> Response:
    """Returns all withdrawals with their times and consents, as CSV or NDJSON.

    who: name for the audit log.
    """
    await audit_log.note(api.store, who, "withdrawals.exported")
    charset = "; charset=utf-8" if media_type == CSV else ""
    headers = {"Cache-Control": "no-store"}
    return StreamingResponse(_lines(api, media_type), 200, headers, media_type + charset)


async def list_withdrawals(api: Api, request: Request) -> Response:
    if (media_type := choose(request, NDJSON, CSV)) in (NDJSON, CSV):
        return await export(api, media_type, request.state.who)
    page = _PAGING.parse(request.query_params)
    items, next_cursor = await withdrawals_page(api, page.after, page.limit)
    return reply({"items": items, "next": next_cursor})


async def withdraw(api: Api, content: Any, who: str) -> dict[str, int]:
    """Stops the recording of recipients. who: name for the audit log. Raises Problem 422 if rows are bad.

    Returns {withdrawn, new}. withdrawn: number of recipients in the body. new: number of these recipients
    who were recorded until now.
    """
    recipients = recipient_keys(content, api.secrets)
    await audit_log.note(api.store, who, "withdrawals.added", recipients=len(recipients))
    new = await withdrawals.withdraw(api.store, api.secrets, recipients, api.clock(), api.settings.shards)
    for recipient in recipients:
        api.withdrawn.learn(recipient, True)
    await replication.confirm(api.store)
    return {"withdrawn": len(recipients), "new": new}


async def add_withdrawals(api: Api, request: Request) -> Response:
    return reply(await withdraw(api, await read_json(request), request.state.who))


async def allow(api: Api, content: Any, who: str) -> dict[str, int]:
    """Ends the withdrawals of recipients. who: name for the audit log. Raises Problem 422 if rows are bad.

    Returns {allowed}: number of recipients whose withdrawal ended.
    """
    recipients = recipient_keys(content, api.secrets)
    await audit_log.note(api.store, who, "withdrawals.ended", recipients=len(recipients))
    ended = await withdrawals.allow(api.store, api.secrets, recipients, api.clock())
    for recipient in recipients:
        api.withdrawn.learn(recipient, False)
    await replication.confirm(api.store)
    return {"allowed": ended}


async def end_withdrawals(api: Api, request: Request) -> Response:
    return reply(await allow(api, await read_json(request), request.state.who))


CALLS = (
    Call("GET", "/api/withdrawals", "people", list_withdrawals, query=_PAGING.parameters),
    Call("POST", "/api/withdrawals", "people", add_withdrawals),
    Call("DELETE", "/api/withdrawals", "people", end_withdrawals),
)
