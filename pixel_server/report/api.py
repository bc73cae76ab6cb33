"""The HTTP API: one table of routes, who may call them, and what they call."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import redis
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pixel_server import apikeys, campaigns, withdrawals
from pixel_server.campaigns import Campaign
from pixel_server.consent import Consent
from pixel_server.directory import Directory
from pixel_server.links import Minter
from pixel_server.report import body, links, openapi, people, ranges, stats
from pixel_server.report.problems import Problem, away
from pixel_server.secret import Secrets
from pixel_server.series import NewerFormat
from pixel_server.settings import Settings
from pixel_server.slug import is_slug
from pixel_server.store import AsyncRedis
from pixel_server.withdrawals import Withdrawn

log = logging.getLogger("pixel_server.api")

STEP = 200
"""Links minted between two turns of the event loop, so that pixels do not wait for a long list."""


@dataclass(frozen=True, slots=True)
class Api:
    """What the handlers work with. late_since: ms, since when a spool waits. clock: seconds."""

    store: AsyncRedis
    settings: Settings
    secrets: Secrets
    directory: Directory
    consent: Consent
    withdrawn: Withdrawn
    late_since: Callable[[], int | None]
    clock: Callable[[], float]

    def minter(self, base_url: str | None) -> Minter:
        """Problem 409: there is no address to make links from."""
        address = base_url or self.settings.base_url
        if address is None:
            raise Problem(409, "set PIXEL_BASE_URL, or the campaign's base_url: links need an address")
        return Minter(address, self.secrets)

    async def campaign(self, name: str) -> Campaign:
        """Problem 404: there is none."""
        try:
            return await campaigns.get(self.store, name)
        except campaigns.Unknown:
            raise Problem(404, f"there is no campaign {name[:64]!r}") from None


Handler = Callable[[Api, Request], Awaitable[Response]]


class Call(NamedTuple):
    """One entry of the API: method, path, the scope its key must have (None: open to all), handler."""

    method: str
    path: str
    scope: str | None
    handler: Handler


_json = msgspec.json.Encoder().encode


def reply(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON that no cache keeps."""
    return Response(
        _json(content), status, {"Cache-Control": "no-store", **(headers or {})}, "application/json"
    )


async def create_campaign(api: Api, request: Request) -> Response:
    known = {
        "id": body.slug,
        "name": body.name,
        "kind": body.one_of("email", "web"),
        "sent": body.sent,
        "time_zone": body.time_zone,
        "base_url": body.base_url,
        "mode": api.consent.check,
        "gpc": body.signals,
    }
    fields = body.check(await body.read(request), known, frozenset({"id", "name", "kind"}))
    fields.setdefault("mode", api.consent.default.mode.name.lower())
    made = campaigns.new(**fields)
    try:
        await campaigns.create(api.store, made)
    except campaigns.Exists:
        raise Problem(409, f"the id {made.id!r} is taken, or was: ids are never given twice") from None
    api.directory.learn(made)
    return reply(campaigns.to_json(made), 201, {"Location": f"campaigns/{made.id}"})


async def list_campaigns(api: Api, request: Request) -> Response:
    text = request.query_params.get("limit", str(body.PAGE))
    limit = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
    after = request.query_params.get("after")
    errors = []
    if not 1 <= limit <= body.MOST_PAGE:
        errors.append({"field": "limit", "message": f"must be a whole number from 1 to {body.MOST_PAGE}"})
    if after is not None and not is_slug(after):
        errors.append({"field": "after", "message": "must be a cursor from `next`"})
    if errors:
        raise Problem(422, "some parameters cannot be used", errors)
    items, following = await campaigns.page(api.store, after, limit)
    return reply({"items": [campaigns.to_json(item) for item in items], "next": following})


async def show_campaign(api: Api, request: Request) -> Response:
    return reply(campaigns.to_json(await api.campaign(request.path_params["id"])))


async def change_campaign(api: Api, request: Request) -> Response:
    known = {
        "name": body.name,
        "sent": body.sent,
        "time_zone": body.time_zone,
        "base_url": body.base_url,
        "mode": api.consent.check,
        "gpc": body.signals,
    }
    name = request.path_params["id"]
    await api.campaign(name)
    fields = body.check(await body.read(request), known)
    try:
        changed = await campaigns.change(api.store, name, fields)
    except campaigns.Unknown:
        raise Problem(404, f"there is no campaign {name[:64]!r}") from None
    except campaigns.Sealed:
        raise Problem(
            409,
            "after the first hit the time zone is fixed; after that or the first link, the mode only falls",
        ) from None
    api.directory.learn(changed)
    return reply(campaigns.to_json(changed))


async def delete_campaign(api: Api, request: Request) -> Response:
    name = request.path_params["id"]
    await api.campaign(name)
    try:
        await campaigns.delete(api.store, name, api.settings.shards)
    except campaigns.Unknown:
        raise Problem(404, f"there is no campaign {name[:64]!r}") from None
    api.directory.forget(name)
    return Response(status_code=204)


async def make_links(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    if campaign.kind != "email":
        raise Problem(409, "a web campaign has one pixel for all: /p/" + campaign.id + ".gif")
    minter = api.minter(campaign.base_url)
    rows = links.rows(await body.read(request), api.consent.rule(campaign.mode, None).mode)
    await campaigns.note_links(api.store, campaign.id)
    made: list[dict[str, Any]] = []
    for i in range(0, len(rows), STEP):
        made += [links.mint(minter, campaign.id, row, api.clock()) for row in rows[i : i + STEP]]
        await asyncio.sleep(0)
    if "application/x-ndjson" in request.headers.get("accept", ""):
        lines = b"".join(_json(link) + b"\n" for link in made)
        return Response(lines, 200, {"Cache-Control": "no-store"}, "application/x-ndjson")
    return reply({"links": made})


async def show_stats(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    now = api.clock()
    wanted = ranges.parse(request.query_params, campaign.time_zone, now)
    late = await asyncio.to_thread(api.late_since)
    figures = await stats.read(api.store, campaign, wanted, api.settings, now)
    return reply({**figures, "late_since": None if late is None else ranges.show_ms(late)})


async def find_recipient(api: Api, request: Request) -> Response:
    return reply({"key": people.named(await body.read(request), api.secrets).hex()})


async def show_recipient(api: Api, request: Request) -> Response:
    recipient = people.key(request.path_params["key"])
    return reply(await people.show(api.store, api.secrets, api.settings.shards, recipient))


async def erase_recipient(api: Api, request: Request) -> Response:
    recipient = people.key(request.path_params["key"])
    names = await campaigns.every(api.store, "email")
    count = api.settings.shards
    held = await withdrawals.erase(api.store, api.secrets, recipient, names, api.clock(), count)
    api.withdrawn.learn(recipient, True)
    note = "sums stay as they were; from a HyperLogLog of addresses nobody can be taken out, nor named"
    return reply({"key": recipient.hex(), "removed_from": held, "note": note})


async def list_withdrawals(api: Api, request: Request) -> Response:
    after = request.query_params.get("after", "0")
    if not (after.isascii() and after.isdigit() and len(after) <= 20):
        errors = [{"field": "after", "message": "must be a cursor from `next`"}]
        raise Problem(422, "some parameters cannot be used", errors)
    found, following = await withdrawals.page(api.store, int(after), body.MOST_PAGE)
    items = [{"mark": mark.hex(), "periods": people.periods(when)} for mark, when in found]
    return reply({"items": items, "next": str(following) if following else None})


async def add_withdrawals(api: Api, request: Request) -> Response:
    found = people.recipients(await body.read(request), api.secrets)
    added = await withdrawals.withdraw(api.store, api.secrets, found, api.clock(), api.settings.shards)
    for recipient in found:
        api.withdrawn.learn(recipient, True)
    return reply({"withdrawn": len(found), "new": added})


async def end_withdrawals(api: Api, request: Request) -> Response:
    found = people.recipients(await body.read(request), api.secrets)
    ended = await withdrawals.allow(api.store, api.secrets, found, api.clock())
    for recipient in found:
        api.withdrawn.learn(recipient, False)
    return reply({"allowed": ended})


async def list_keys(api: Api, request: Request) -> Response:
    found = await apikeys.listed(api.store)
    return reply({"items": [apikeys.to_json(record) for record in found], "next": None})


async def create_key(api: Api, request: Request) -> Response:
    known = {"name": body.name, "scopes": body.some_of(*apikeys.SCOPES)}
    fields = body.check(await body.read(request), known, frozenset(known))
    try:
        record, key = await apikeys.create(api.store, fields["name"], fields["scopes"])
    except ValueError as error:
        errors = [{"field": "name", "message": str(error)}]
        raise Problem(422, "some fields cannot be used", errors) from None
    return reply({**apikeys.to_json(record), "key": key}, 201)


async def revoke_key(api: Api, request: Request) -> Response:
    name = request.path_params["id"]
    try:
        if not (name.isascii() and name.isalnum()):
            raise apikeys.Unknown(name)
        await apikeys.revoke(api.store, name)
    except apikeys.Unknown:
        raise Problem(404, "there is no such key") from None
    return Response(status_code=204)


async def describe(api: Api, request: Request) -> Response:
    return reply(openapi.document(api.settings.base_url))


CALLS = (
    Call("GET", "/api/campaigns", "read", list_campaigns),
    Call("POST", "/api/campaigns", "write", create_campaign),
    Call("GET", "/api/campaigns/{id}", "read", show_campaign),
    Call("PATCH", "/api/campaigns/{id}", "write", change_campaign),
    Call("DELETE", "/api/campaigns/{id}", "write", delete_campaign),
    Call("POST", "/api/campaigns/{id}/links", "write", make_links),
    Call("GET", "/api/campaigns/{id}/stats", "read", show_stats),
    Call("POST", "/api/recipients/find", "people", find_recipient),
    Call("GET", "/api/recipients/{key}", "people", show_recipient),
    Call("DELETE", "/api/recipients/{key}", "people", erase_recipient),
    Call("GET", "/api/withdrawals", "people", list_withdrawals),
    Call("POST", "/api/withdrawals", "people", add_withdrawals),
    Call("DELETE", "/api/withdrawals", "people", end_withdrawals),
    Call("GET", "/api/keys", "read", list_keys),
    Call("POST", "/api/keys", "write", create_key),
    Call("DELETE", "/api/keys/{id}", "write", revoke_key),
    Call("GET", "/api/openapi.json", None, describe),
)


def routes(api: Api) -> list[Route]:
    """One Starlette route a path, so that a wrong method is 405 with what is allowed."""
    by_path: dict[str, dict[str, Call]] = {}
    for call in CALLS:
        by_path.setdefault(call.path, {})[call.method] = call
    return [
        Route(path, _endpoint(api, calls), methods=list(calls), name=f"api:{path}")
        for path, calls in by_path.items()
    ]


def _endpoint(api: Api, calls: dict[str, Call]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        call = calls["GET" if request.method == "HEAD" else request.method]
        try:
            if call.scope is not None:
                await _admit(api, request, call.scope)
            return await call.handler(api, request)
        except Problem as problem:
            return problem.response()
        except (redis.ConnectionError, redis.TimeoutError, redis.exceptions.BusyLoadingError, OSError):
            return away().response()
        except NewerFormat as error:
            return Problem(503, f"{error}; update this server").response()
        except redis.ResponseError as error:
            # Full, read-only or failing over: it answers, but not with what was asked.
            log.error("api: Redis refuses %s: %s", request.url.path, error)
            return away().response()

    return endpoint


async def _admit(api: Api, request: Request, scope: str) -> None:
    kind, _, key = request.headers.get("authorization", "").partition(" ")
    challenge = {"WWW-Authenticate": "Bearer"}
    if kind.lower() != "bearer" or not key.strip():
        raise Problem(401, "send an API key: Authorization: Bearer KEY", headers=challenge)
    record = await apikeys.find(api.store, key.strip())
    if record is None:
        raise Problem(401, "this API key is not known", headers=challenge)
    if scope not in record.scopes:
        raise Problem(403, f"this API key has no scope {scope!r}")


def not_found(request: Request, error: Exception) -> Response:
    """404 and 405 of the router, as problems."""
    assert isinstance(error, HTTPException)
    detail = "there is nothing at this address" if error.status_code == 404 else str(error.detail)
    return Problem(error.status_code, detail, headers=error.headers).response()
