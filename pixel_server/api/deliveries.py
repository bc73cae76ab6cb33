"""Calls of the API on what mail services report: events in NDJSON, and the sources of events."""

from __future__ import annotations

from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from pixel_server.api import fields
from pixel_server.api.context import Api
from pixel_server.api.media_types import NDJSON, refuse_codings
from pixel_server.api.paging import BY_TIME, cut_by_time
from pixel_server.api.request_body import Check, check_each_field, check_fields, read_json
from pixel_server.api.routing import Call, reply
from pixel_server.deliveries import count, lines, sources
from pixel_server.deliveries.providers import PROVIDERS
from pixel_server.deliveries.sources import Source
from pixel_server.deliveries.take import Taker
from pixel_server.problems import Problem, bad_fields
from pixel_server.recipients import lists
from pixel_server.store import audit_log


async def add_deliveries(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    if not lists.keeps_recipients(campaign, api.consent):
        raise Problem(409, lists.KEEPS_NONE)
    refuse_codings(request)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != NDJSON:
        raise Problem(415, f"send lines in UTF-8, with Content-Type: {NDJSON}")
    try:
        await count.begin(api.store, campaign.id, api.settings, api.clock())
    except lists.ListClosed as error:
        raise Problem(409, f"{error}; nothing was taken") from None
    await audit_log.note(api.store, request.state.who, "deliveries.import_begun", campaign=campaign.id)
    taker = new_taker(api, request.state.who)
    reader = lines.Reader(campaign.id, taker.take)
    try:
        async for chunk in request.stream():
            await reader.add(chunk)
        await reader.end()
    except ClientDisconnect:
        await reader.end(is_complete=False)
        return Response(status_code=400)  # the client is gone and reads no answer
    await taker.confirm()
    if reader.bad and not taker.taken.is_any:
        left_out = reader.bad - len(reader.errors)
        more = {"errors_left_out": left_out} if left_out else None
        raise Problem(422, "no line can be used; nothing was taken", reader.errors, more=more)
    return reply(answer(reader, taker))


def new_taker(api: Api, who: str) -> Taker:
    """Returns what takes the events of one request. who: name for the audit log."""

    def learn(recipient: bytes) -> None:
        api.withdrawn.learn(recipient, True)

    return Taker(api.store, api.secrets, api.settings, api.clock(), who, learn)


def answer(reader: lines.Reader, taker: Taker) -> dict[str, Any]:
    """Returns the answer to an import."""
    return {"lines": reader.lines, **taker.taken.to_json(), "bad": reader.bad, "errors": reader.errors}


async def list_sources(api: Api, request: Request) -> Response:
    page = BY_TIME.parse(request.query_params)
    listed = await sources.list_sources(api.store)
    items, next_cursor = cut_by_time(listed, page, lambda pair: (pair[0].created, pair[0].id))
    return reply({"items": [sources.to_json(*pair) for pair in items], "next": next_cursor})


async def add(api: Api, content: Any, who: str) -> tuple[Source, str]:
    """Adds a source from the JSON of a body, `{provider, name, key}`. Returns its record and its address.

    who: name for the audit log. Raises Problem 422 if fields are bad, and 409 if no base URL is set or there
    are too many sources.
    """
    checks: dict[str, Check] = {
        "provider": fields.one_of(*PROVIDERS),
        "name": fields.name,
        "key": fields.or_null(fields.string),
    }
    values, errors = check_each_field(content, checks, frozenset({"provider", "name"}))
    if "provider" in values and values.get("key") is not None:
        try:
            PROVIDERS[values["provider"]].stored_key(values["key"])
        except ValueError as error:
            errors.append({"field": "key", "message": str(error)})
    if errors:
        raise bad_fields(errors)
    base_url = api.settings.base_url
    if base_url is None:
        raise Problem(409, "set PIXEL_BASE_URL: mail services need an address")
    provider, name, key = values["provider"], values["name"], values.get("key")
    try:
        source, secret = await sources.add(api.store, provider, name, key, api.clock(), who)
    except sources.TooManySources as error:
        raise Problem(409, str(error)) from None
    return source, sources.url(base_url, source, secret)


async def add_source(api: Api, request: Request) -> Response:
    source, url = await add(api, await read_json(request), request.state.who)
    return reply({**sources.to_json(source, sources.Used()), "url": url}, 201)


async def set_key(api: Api, source_id: str, content: Any, who: str) -> Source:
    """Sets the key of a source from the JSON of a body, `{key}`. who: name for the audit log.

    Raises Problem 404 if the source is unknown, and 422 if the key is bad.
    """
    values = check_fields(content, {"key": fields.string}, frozenset({"key"}))
    try:
        return await sources.set_key(api.store, source_id, values["key"], who)
    except sources.UnknownSource:
        raise Problem(404, "there is no such source") from None
    except ValueError as error:
        raise bad_fields([{"field": "key", "message": str(error)}]) from None


async def set_source_key(api: Api, request: Request) -> Response:
    await set_key(api, request.path_params["source"], await read_json(request), request.state.who)
    return Response(status_code=204)


async def remove(api: Api, source_id: str, who: str) -> None:
    """Removes a source. who: name for the audit log. Raises Problem 404 if the source is unknown."""
    try:
        await sources.remove(api.store, source_id, who)
    except sources.UnknownSource:
        raise Problem(404, "there is no such source") from None


async def remove_source(api: Api, request: Request) -> Response:
    await remove(api, request.path_params["source"], request.state.who)
    return Response(status_code=204)


CALLS = (
    Call("POST", "/api/campaigns/{id}/deliveries", "people", add_deliveries),
    Call("GET", "/api/deliveries/sources", "read", list_sources, query=BY_TIME.parameters),
    Call("POST", "/api/deliveries/sources", "write", add_source),
    Call("PUT", "/api/deliveries/sources/{source}/key", "write", set_source_key),
    Call("DELETE", "/api/deliveries/sources/{source}", "write", remove_source),
)
