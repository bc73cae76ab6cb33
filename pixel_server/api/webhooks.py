"""Calls of the API on webhooks: their endpoints, what waits for them, and their deliveries."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api import fields
from pixel_server.api.context import Api
from pixel_server.api.openapi.values import flag
from pixel_server.api.paging import BY_NUMBER, BY_TIME, Paging, cut_by_time
from pixel_server.api.request_body import Check, check_each_field, check_fields, read_json
from pixel_server.api.routing import Call, Parameter, reply
from pixel_server.problems import Problem, bad_fields
from pixel_server.webhooks import deliveries, endpoint, queue, queue_view, report, storage
from pixel_server.webhooks.endpoint import Endpoint, EndpointError
from pixel_server.webhooks.event import PERSONAL
from pixel_server.webhooks.report import Report

MAX_UNITS = 1000
"""Largest number of requests that one call sends again by their ids."""
DELIVERIES = Paging("[1-9][0-9]{0,14}-[0-9]{1,15}")
"""A cursor is the id of the last line of a page."""
_LISTS = "events", "campaigns"
_is_unit_id = re.compile("[A-Za-z0-9_]{1,64}").fullmatch


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("must be a list of texts")
    return value


def _unit_ids(value: Any) -> list[str]:
    ids = _texts(value)
    if not 1 <= len(ids) <= MAX_UNITS or not all(map(_is_unit_id, ids)):
        raise ValueError(f"must be 1 to {MAX_UNITS} ids as in `webhook_id`")
    return list(dict.fromkeys(ids))


_SECRET: Check = fields.or_null(fields.string)
_FIELDS: dict[str, Check] = {
    "url": fields.string,
    "name": fields.string,
    "events": _texts,
    "campaigns": _texts,
}
_CREATE = {
    **_FIELDS,
    "events_per_request": fields.integer(1, endpoint.MAX_EVENTS_PER_REQUEST),
    "secret": _SECRET,
}
_CHANGE = {**_FIELDS, "is_enabled": fields.flag}
_ROTATE = {"secret": _SECRET, "overlap_seconds": fields.integer(0, storage.MAX_OVERLAP_SECONDS)}


def to_json(of: Report) -> dict[str, Any]:
    """Returns an endpoint with its queue and its state, as the API shows it."""
    waiting = {"waiting": of.length.units, "aside": of.length.aside, "waiting_events": of.length.events}
    return {**endpoint.to_json(of.endpoint), **waiting, "state": storage.state_json(of.state)}


async def find(api: Api, webhook_id: str) -> Endpoint:
    """Returns the endpoint with an id.

    Raises Problem 404 if it is unknown, and 409 if this version cannot read it.
    """
    try:
        return await storage.get(api.store, webhook_id)
    except storage.UnknownEndpoint:
        raise _unknown() from None
    except ValueError as error:
        raise Problem(409, f"{error}: update this server") from None


def _unknown() -> Problem:
    return Problem(404, "there is no such webhook")


async def report_on(api: Api, webhook_id: str) -> Report:
    """Returns an endpoint with its queue and its state. Raises Problem 404 if it is unknown."""
    return await report.read_one(api.store, await find(api, webhook_id), api.clock())


async def list_webhooks(api: Api, request: Request) -> Response:
    page = BY_TIME.parse(request.query_params)
    reports = await report.read(api.store, api.clock())
    items, next_cursor = cut_by_time(reports, page, lambda of: (of.endpoint.created, of.endpoint.id))
    return reply({"items": [to_json(of) for of in items], "next": next_cursor})


async def show_webhook(api: Api, request: Request) -> Response:
    return reply(to_json(await report_on(api, request.path_params["id"])))


async def create(api: Api, content: Any, who: str, own_scopes: Iterable[str]) -> tuple[Endpoint, str]:
    """Creates an endpoint from the JSON of a body. Returns its record, and its secret.

    who: name for the audit log. own_scopes: the scopes of the caller. Raises Problem 422 if fields are bad,
    and 409 if there are too many endpoints.
    """
    scopes = sorted(own_scopes)
    values = await _checked(api, content, _CREATE, scopes, required=frozenset({"url", "events"}))
    try:
        return await storage.create(api.store, api.settings, scopes=scopes, who=who, **values)
    except EndpointError as error:
        raise _bad_field(error) from None
    except storage.TooManyEndpoints as error:
        raise Problem(409, str(error)) from None


async def change(api: Api, webhook_id: str, content: Any, who: str, own_scopes: Iterable[str]) -> Endpoint:
    """Changes an endpoint by the JSON of a body. Returns the changed endpoint.

    Raises Problem 404 if it is unknown, 422 if fields are bad, and 403 if the caller lacks the scope `people`
    and the endpoint gets events on recipients: the new address would get them too.
    """
    known = await find(api, webhook_id)
    if endpoint.PEOPLE_SCOPE not in own_scopes and set(known.events) & set(PERSONAL):
        raise Problem(403, "this webhook gets events on recipients: changing it needs the scope 'people'")
    values = await _checked(api, content, _CHANGE, known.scopes, known.campaigns)
    try:
        return await storage.change(api.store, api.settings, webhook_id, values, who)
    except EndpointError as error:
        raise _bad_field(error) from None
    except storage.UnknownEndpoint:
        raise _unknown() from None


async def _checked(
    api: Api,
    content: Any,
    checks: Mapping[str, Check],
    scopes: Collection[str],
    known_campaigns: Collection[str] = (),
    required: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """Returns the checked fields of an endpoint. Raises Problem 422 that names each bad field.

    scopes: the endpoint's scopes. known_campaigns: ids that need not exist any more.
    """
    values, errors = check_each_field(content, checks, required)
    is_private_allowed = bool(api.settings.webhook_private)
    faults = endpoint.field_errors(values, scopes, is_private_allowed)
    errors += [{"field": fault.field, "message": str(fault)} for fault in faults]
    if not any(error["field"] == "campaigns" for error in errors):
        errors += await _missing_campaigns(api, set(values.get("campaigns", ())) - set(known_campaigns))
    if errors:
        raise bad_fields(errors)
    return values


async def _missing_campaigns(api: Api, ids: Iterable[str]) -> list[dict[str, Any]]:
    """Returns a list with the error of the first campaign that does not exist, or [] if all exist."""
    try:
        for campaign_id in sorted(ids):
            await api.campaign(campaign_id)
    except Problem as problem:
        if problem.status != 404:
            raise
        return [{"field": "campaigns", "message": problem.detail}]
    return []


def _bad_field(error: EndpointError) -> Problem:
    return bad_fields([{"field": error.field, "message": str(error)}])


async def create_webhook(api: Api, request: Request) -> Response:
    made, secret = await create(api, await read_json(request), request.state.who, request.state.scopes)
    return reply({**to_json(await report_on(api, made.id)), "secret": secret}, 201)


async def change_webhook(api: Api, request: Request) -> Response:
    webhook_id, content = request.path_params["id"], await read_json(request)
    await change(api, webhook_id, content, request.state.who, request.state.scopes)
    return reply(to_json(await report_on(api, webhook_id)))


async def delete(api: Api, webhook_id: str, who: str) -> None:
    """Deletes an endpoint with all that waits for it. Raises Problem 404 if it is unknown."""
    try:
        await storage.delete(api.store, webhook_id, who)
    except storage.UnknownEndpoint:
        raise _unknown() from None


async def delete_webhook(api: Api, request: Request) -> Response:
    await delete(api, request.path_params["id"], request.state.who)
    return Response(status_code=204)


async def rotate(api: Api, webhook_id: str, content: Any, who: str) -> str:
    """Gives an endpoint a new secret by the JSON of a body. Returns the secret.

    Raises Problem 404 if the endpoint is unknown, and 422 if fields are bad.
    """
    values = check_fields(content, _ROTATE)
    try:
        return await storage.rotate_secret(api.store, webhook_id, who, **values)
    except storage.UnknownEndpoint:
        raise _unknown() from None
    except EndpointError as error:
        raise _bad_field(error) from None


async def rotate_webhook_secret(api: Api, request: Request) -> Response:
    webhook_id = request.path_params["id"]
    secret = await rotate(api, webhook_id, await read_json(request), request.state.who)
    return reply({**to_json(await report_on(api, webhook_id)), "secret": secret})


async def send_test(api: Api, webhook_id: str) -> str:
    """Sends a test event to an endpoint. Returns its id. Raises Problem 404, or 409 if it is disabled."""
    known = await find(api, webhook_id)
    try:
        return await queue.send_test(api.store, api.secrets, known, api.settings.webhook_queue)
    except queue.DisabledError as error:
        raise Problem(409, str(error)) from None


async def test_webhook(api: Api, request: Request) -> Response:
    return reply({"webhook_id": await send_test(api, request.path_params["id"])}, 202)


async def send_again(api: Api, webhook_id: str, content: Any) -> int:
    """Makes requests due now by the JSON of a body: the requests with these ids, or all that were set aside.

    Returns their number. Raises Problem 404 if the endpoint is unknown, 409 if it is disabled, and 422 if
    fields are bad.
    """
    values = check_fields(content, {"webhook_ids": fields.or_null(_unit_ids)})
    known = await find(api, webhook_id)
    if not known.is_enabled:
        raise Problem(409, str(queue.DisabledError()))
    return await queue.send_again(api.store, webhook_id, values.get("webhook_ids"))


async def send_webhook_again(api: Api, request: Request) -> Response:
    found = await send_again(api, request.path_params["id"], await read_json(request))
    return reply({"sent_again": found}, 202)


async def deliveries_page(
    api: Api, webhook_id: str, query: Mapping[str, str]
) -> tuple[list[deliveries.Delivery], str | None]:
    """Returns (lines of an endpoint's log, newest first; the cursor of the next page or None).

    Raises Problem 404 if the endpoint is unknown, and 422 if the query is bad.
    """
    page = DELIVERIES.parse(query)
    await find(api, webhook_id)
    lines, next_cursor = await deliveries.page(api.store, webhook_id, page.after, page.limit)
    return [line for _, line in lines], next_cursor


async def list_webhook_deliveries(api: Api, request: Request) -> Response:
    lines, next_cursor = await deliveries_page(api, request.path_params["id"], request.query_params)
    return reply({"items": [deliveries.to_json(line) for line in lines], "next": next_cursor})


async def queue_page(
    api: Api, webhook_id: str, query: Mapping[str, str]
) -> tuple[list[queue_view.Waiting], str | None]:
    """Returns (requests that wait or were set aside, oldest first; the cursor of the next page or None).

    Raises Problem 404 if the endpoint is unknown, and 422 if the query is bad.
    """
    aside = query.get("aside", "false")
    is_bad = aside not in ("true", "false")
    page = BY_NUMBER.parse(query, [{"field": "aside", "message": "must be true or false"}] if is_bad else [])
    await find(api, webhook_id)
    start = int(page.after or 0)
    found = await queue_view.page(
        api.store, webhook_id, is_aside=aside == "true", start=start, limit=page.limit + 1
    )
    return found[: page.limit], str(start + page.limit) if len(found) > page.limit else None


async def list_webhook_queue(api: Api, request: Request) -> Response:
    found, next_cursor = await queue_page(api, request.path_params["id"], request.query_params)
    return reply({"items": [queue_view.to_json(waiting) for waiting in found], "next": next_cursor})


_QUEUE_QUERY = (Parameter("aside", flag("Show what was set aside, not what waits.")), *BY_NUMBER.parameters)

CALLS = (
    Call("GET", "/api/webhooks", "read", list_webhooks, query=BY_TIME.parameters),
    Call("POST", "/api/webhooks", "write", create_webhook),
    Call("GET", "/api/webhooks/{id}", "read", show_webhook),
    Call("PATCH", "/api/webhooks/{id}", "write", change_webhook),
    Call("DELETE", "/api/webhooks/{id}", "write", delete_webhook),
    Call("POST", "/api/webhooks/{id}/secret", "write", rotate_webhook_secret),
    Call("POST", "/api/webhooks/{id}/test", "write", test_webhook),
    Call("POST", "/api/webhooks/{id}/again", "write", send_webhook_again),
    Call("GET", "/api/webhooks/{id}/queue", "read", list_webhook_queue, query=_QUEUE_QUERY),
    Call(
        "GET", "/api/webhooks/{id}/deliveries", "read", list_webhook_deliveries, query=DELIVERIES.parameters
    ),
)
