"""Calls of the API under the scope `people`: recipients, lists of them, withdrawals, the audit log."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from pixel_server.api import people, request_body, uploads
from pixel_server.api.routing import Api, Call, reply
from pixel_server.api.uploads import CSV, NDJSON, Upload
from pixel_server.campaigns import retention, storage
from pixel_server.campaigns.campaign import Campaign, UnreadableCampaign
from pixel_server.figures import inactive_recipients, recipients
from pixel_server.problems import Problem
from pixel_server.recipients import erasure, lists, withdrawals
from pixel_server.store import audit_log, keys
from pixel_server.times import iso_ms

log = logging.getLogger("pixel_server.api")

NO_STORE = {"Cache-Control": "no-store"}


async def upload_recipients(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    is_named = _is_named(api, campaign)
    who = request.state.who
    put = uploads.list_writer(api.store, api.secrets, api.settings, campaign.id, is_named, api.clock(), who)
    upload = Upload(request.headers.get("content-type", ""), put, is_named)
    try:
        await upload.read(request.stream())
    except ClientDisconnect:
        log.warning("api: a list of %s was cut off; lines 1 to %d are taken", campaign.id, upload.lines)
        return Response(status_code=400)  # nobody reads it
    except lists.ListClosed as error:
        raise Problem(409, f"{error}; {upload.progress}") from None
    except storage.UnknownCampaign:
        raise Problem(404, "this campaign was deleted meanwhile") from None
    finally:
        await uploads.log_end(api.store, upload, campaign.id, who)
    if upload.bad:
        detail = f"{upload.bad} lines cannot be used and are left out; the others are taken"
        raise Problem(422, detail, upload.errors, more=upload.counts)
    return reply(upload.counts)


def _is_named(api: Api, campaign: Campaign) -> bool:
    """As `lists.keeps_names`. Problem 409: its recipients are not told apart."""
    try:
        return lists.keeps_names(campaign, api.consent)
    except lists.ListClosed as error:
        raise Problem(409, str(error)) from None


async def list_recipients(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    query = request.query_params
    state, after = query.get("state", "opened"), query.get("after", "0")
    found = await rows_of(api, campaign, state, after, request.state.who)
    return await _rows(request, found, recipients.FIELDS, places(api))


async def rows_of(
    api: Api, campaign: Campaign, state: str, after: str, who: str, at_once: int = recipients.AT_ONCE
) -> AsyncIterator[tuple[int, list[recipients.Row]]]:
    """A campaign's recipients in a state, from a place on; noted in the audit log. As `recipients.rows`.

    Problem 422: state or place are none. 409: this campaign keeps none, or not any more.
    """
    errors = []
    if state not in recipients.STATES:
        errors.append({"field": "state", "message": f"must be one of: {', '.join(recipients.STATES)}"})
    if not _is_place(after, places(api)):
        errors.append({"field": "after", "message": "must be a cursor from `next`"})
    if errors:
        raise Problem(422, "some parameters cannot be used", errors)
    is_named = _is_named(api, campaign)
    if campaign.closed_at is not None:
        raise Problem(409, "this campaign is closed: its recipients are gone")
    shards = api.settings.shards
    if state == "unopened" and not await lists.count_listed(api.store, campaign.id, shards):
        raise Problem(
            409, "upload a list, or make links with `sent`: else who did not open a mail is not known"
        )
    await audit_log.note(api.store, who, "recipients.read", campaign=campaign.id, state=state)
    return recipients.rows(api.store, api.secrets, campaign.id, shards, state, is_named, int(after), at_once)


def places(api: Api) -> int:
    """How many places there are in lists of recipients."""
    return api.settings.shards * keys.PEOPLE_BUCKETS


async def list_quiet(api: Api, request: Request) -> Response:
    query, end = request.query_params, api.settings.shards * keys.PEOPLE_BUCKETS
    after, errors, since = query.get("after", "0"), [], 0
    try:
        since = request_body.day(query.get("quiet_since"))
    except ValueError as error:
        errors.append({"field": "quiet_since", "message": str(error)})
    if not _is_place(after, end):
        errors.append({"field": "after", "message": "must be a cursor from `next`"})
    if errors:
        raise Problem(422, "some parameters cannot be used", errors)
    await audit_log.note(api.store, request.state.who, "recipients.read", state="quiet")
    span = inactive_recipients.Span(since, int(api.clock()))
    sources, shards = await _told_apart(api), api.settings.shards
    found = inactive_recipients.rows(api.store, api.secrets, sources, shards, span, int(after))
    return await _rows(request, found, inactive_recipients.FIELDS, end)


async def _told_apart(api: Api) -> list[inactive_recipients.Source]:
    """The campaigns that keep recipients, and still do."""
    sources = []
    for name in await storage.ids_of_kind(api.store, "email"):
        with suppress(storage.UnknownCampaign, UnreadableCampaign):
            found, uses = await storage.get_uses(api.store, name)
            if found.closed_at is None and lists.keeps_recipients(found, api.consent):
                is_named = lists.keeps_names(found, api.consent)
                sources.append(
                    inactive_recipients.Source(name, retention.sending_time(found, uses), is_named)
                )
    return sources


def _is_place(text: str, end: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10 and int(text) < end


async def _rows(
    request: Request, found: AsyncIterator[tuple[int, list[recipients.Row]]], columns: Sequence[str], end: int
) -> Response:
    """All of them as lines or a table if the caller accepts such, else a page."""
    accept = request.headers.get("accept", "")
    if NDJSON in accept:
        return StreamingResponse(recipients.ndjson(found), 200, NO_STORE, NDJSON)
    if CSV in accept:
        rows = recipients.as_csv(found, columns)
        return StreamingResponse(rows, 200, NO_STORE, "text/csv; charset=utf-8")
    items: list[recipients.Row] = []
    following = end
    async for place, part in found:
        items += part
        following = place
        if len(items) >= request_body.MOST_PAGE:
            break
    return reply({"items": items, "next": str(following) if following < end else None})


async def audit_page(
    api: Api, after: str | None, name: audit_log.Log = "audit"
) -> tuple[list[dict[str, Any]], str | None]:
    """(lines of this log, newest first; the cursor of the next page). Problem 422: `after` is none."""
    if after is not None and not re.fullmatch(people.CURSOR, after, re.ASCII):
        errors = [{"field": "after", "message": "must be a cursor from `next`"}]
        raise Problem(422, "some parameters cannot be used", errors)
    lines, following = await audit_log.page(api.store, after, request_body.PAGE, name)
    return [_line(line) for line in lines], following


async def list_audit(api: Api, request: Request) -> Response:
    items, following = await audit_page(api, request.query_params.get("after"))
    return reply({"items": items, "next": following})


async def list_actions(api: Api, request: Request) -> Response:
    items, following = await audit_page(api, request.query_params.get("after"), "recipients")
    return reply({"items": items, "next": following, "counts": await audit_log.recipient_counts(api.store)})


def _line(line: dict[str, str]) -> dict[str, Any]:
    """{at, who, what, about}; about: the rest."""
    at = iso_ms(int(line.pop("id").partition("-")[0]))
    return {"at": at, "who": line.pop("who"), "what": line.pop("what"), "about": line}


async def find_recipient(api: Api, request: Request) -> Response:
    return reply({"key": people.named(await request_body.read(request), api.secrets).hex()})


async def show(api: Api, key: str, who: str) -> dict[str, Any]:
    """All that is kept of one recipient; noted in the audit log. Problem 404: this is no key."""
    recipient = people.key(key)
    await audit_log.note(api.store, who, "recipient.shown")
    return await people.show(api.store, api.secrets, api.settings.shards, recipient)


async def show_recipient(api: Api, request: Request) -> Response:
    return reply(await show(api, request.path_params["key"], request.state.who))


async def erase(api: Api, key: str, who: str) -> erasure.Erased:
    """What was removed of one recipient, who is recorded no more. Problem 404: this is no key."""
    recipient = people.key(key)
    count = api.settings.shards
    erased = await erasure.erase(api.store, api.secrets, recipient, api.clock(), count, who)
    api.withdrawn.learn(recipient, True)
    return erased


async def erase_recipient(api: Api, request: Request) -> Response:
    key = request.path_params["key"]
    erased = await erase(api, key, request.state.who)
    note = "sums stay as they were; from a HyperLogLog of addresses nobody can be taken out, nor named"
    found = {"removed_from": erased.campaigns, "removed": erased.removed}
    return reply({"key": key, **found, "note": note})


async def withdrawals_page(api: Api, after: str, limit: int) -> tuple[list[dict[str, Any]], str | None]:
    """(about `limit` withdrawals, the cursor of the next page). Problem 422: `after` is none."""
    if not (after.isascii() and after.isdigit() and len(after) <= 20 and int(after) < 1 << 64):
        errors = [{"field": "after", "message": "must be a cursor from `next`"}]
        raise Problem(422, "some parameters cannot be used", errors)
    found, following = await withdrawals.page(api.store, int(after), limit)
    items = [{"mark": mark.hex(), "periods": people.periods(when)} for mark, when in found]
    return items, str(following) if following else None


async def list_withdrawals(api: Api, request: Request) -> Response:
    items, following = await withdrawals_page(
        api, request.query_params.get("after", "0"), request_body.MOST_PAGE
    )
    return reply({"items": items, "next": following})


async def withdraw(api: Api, content: Any, who: str) -> dict[str, int]:
    """How many recipients are recorded no more, and how many of them were till now. Problem 422: bad rows."""
    found = people.recipients(content, api.secrets)
    await audit_log.note(api.store, who, "withdrawals.added", recipients=len(found))
    added = await withdrawals.withdraw(api.store, api.secrets, found, api.clock(), api.settings.shards)
    for recipient in found:
        api.withdrawn.learn(recipient, True)
    return {"withdrawn": len(found), "new": added}


async def add_withdrawals(api: Api, request: Request) -> Response:
    return reply(await withdraw(api, await request_body.read(request), request.state.who))


async def allow(api: Api, content: Any, who: str) -> dict[str, int]:
    """How many recipients are recorded again. Problem 422: bad rows."""
    found = people.recipients(content, api.secrets)
    await audit_log.note(api.store, who, "withdrawals.ended", recipients=len(found))
    ended = await withdrawals.allow(api.store, api.secrets, found, api.clock())
    for recipient in found:
        api.withdrawn.learn(recipient, False)
    return {"allowed": ended}


async def end_withdrawals(api: Api, request: Request) -> Response:
    return reply(await allow(api, await request_body.read(request), request.state.who))


CALLS = (
    Call("PUT", "/api/campaigns/{id}/recipients", "people", upload_recipients),
    Call("GET", "/api/campaigns/{id}/recipients", "people", list_recipients, query=("state", "after")),
    Call("GET", "/api/recipients", "people", list_quiet, query=("quiet_since", "after")),
    Call("POST", "/api/recipients/find", "people", find_recipient),
    Call("GET", "/api/recipients/{key}", "people", show_recipient),
    Call("DELETE", "/api/recipients/{key}", "people", erase_recipient),
    Call("GET", "/api/withdrawals", "people", list_withdrawals, query=("after",)),
    Call("POST", "/api/withdrawals", "people", add_withdrawals),
    Call("DELETE", "/api/withdrawals", "people", end_withdrawals),
    Call("GET", "/api/audit", "people", list_audit, query=("after",)),
    Call("GET", "/api/audit/recipients", "people", list_actions, query=("after",)),
)
