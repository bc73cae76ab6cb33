"""Calls of the API: campaigns, their links and figures."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api import links, request_body
from pixel_server.api.routing import Api, Call, reply
from pixel_server.campaigns import storage
from pixel_server.campaigns.campaign import Campaign, UnfitField, campaign_json, new_campaign, refuse_unfit
from pixel_server.classify import explain
from pixel_server.classify.networks import NetworksError
from pixel_server.classify.rules import RulesError
from pixel_server.figures import compare, csv_export, disclosure, ranges, shared_stats, stats, web_breakdowns
from pixel_server.problems import Problem
from pixel_server.recipients import lists
from pixel_server.recipients.lists import ListEntry
from pixel_server.slug import is_slug
from pixel_server.store import audit_log
from pixel_server.times import iso_ms

MOST_COMPARED = 20
STEP = 200
"""Links minted between two turns of the event loop, so that pixels do not wait for a long list."""

_json = msgspec.json.Encoder().encode


async def create(api: Api, content: Any) -> Campaign:
    """The campaign that was made of JSON. Problem 422: bad fields. 409: the id is taken, or was."""
    known = {
        "id": request_body.slug,
        "kind": request_body.one_of("email", "web"),
        **request_body.of_campaign(api.settings),
    }
    fields = request_body.check(content, known, frozenset({"id", "name", "kind"}))
    fields.setdefault("mode", api.consent.default.mode.name.lower())
    fields.setdefault("time_zone", api.settings.time_zone)
    made = new_campaign(**fields, created=api.clock())
    try:
        refuse_unfit(made.kind, fields, made)
        await storage.create(api.store, made)
    except storage.CampaignExists:
        detail = f"the id {made.id!r} is taken, or was: ids are never given twice"
        errors = [{"field": "id", "message": "is taken, or was: ids are never given twice"}]
        raise Problem(409, detail, errors) from None
    except UnfitField as error:
        raise _unfit(error) from None
    api.campaign_cache.learn(made)
    return made


def _unfit(error: UnfitField) -> Problem:
    return Problem(409, str(error), [{"field": error.field, "message": str(error)}])


async def create_campaign(api: Api, request: Request) -> Response:
    made = await create(api, await request_body.read(request))
    return reply(campaign_json(made), 201, {"Location": f"campaigns/{made.id}"})


async def list_campaigns(api: Api, request: Request) -> Response:
    text = request.query_params.get("limit", str(request_body.PAGE))
    limit = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
    after = request.query_params.get("after")
    errors = []
    if not 1 <= limit <= request_body.MOST_PAGE:
        errors.append(
            {"field": "limit", "message": f"must be a whole number from 1 to {request_body.MOST_PAGE}"}
        )
    if after is not None and not is_slug(after):
        errors.append({"field": "after", "message": "must be a cursor from `next`"})
    if errors:
        raise Problem(422, "some parameters cannot be used", errors)
    items, following = await storage.page(api.store, after, limit)
    return reply({"items": [campaign_json(item) for item in items], "next": following})


async def show_campaign(api: Api, request: Request) -> Response:
    shown = campaign_json(await api.campaign(request.path_params["id"]))
    if request.state.shared:
        return reply({field: shown[field] for field in disclosure.FIELDS})
    return reply(shown)


async def change(api: Api, name: str, content: Any, who: str) -> Campaign:
    """The campaign with these fields. who: for the audit log. Problem 404: there is none. 422: bad fields.
    409: they are of the other kind, or fixed.
    """
    await api.campaign(name)
    fields = request_body.check(content, request_body.of_campaign(api.settings))
    try:
        changed = await storage.change(api.store, name, fields, who)
    except storage.UnknownCampaign:
        raise Problem(404, f"there is no campaign {name[:64]!r}") from None
    except UnfitField as error:
        raise _unfit(error) from None
    except storage.SealedField as error:
        raise Problem(409, str(error)) from None
    api.campaign_cache.learn(changed)
    return changed


async def change_campaign(api: Api, request: Request) -> Response:
    content = await request_body.read(request)
    changed = await change(api, request.path_params["id"], content, request.state.who)
    return reply(campaign_json(changed))


async def delete(api: Api, name: str, who: str) -> None:
    """who: for the audit log. Problem 404: there is no such campaign."""
    await api.campaign(name)
    await audit_log.note(api.store, who, "campaign.deleted", campaign=name)
    try:
        await storage.delete(api.store, name, api.settings.shards)
    except storage.UnknownCampaign:
        raise Problem(404, f"there is no campaign {name[:64]!r}") from None
    api.campaign_cache.forget(name)


async def delete_campaign(api: Api, request: Request) -> Response:
    await delete(api, request.path_params["id"], request.state.who)
    return Response(status_code=204)


async def link(api: Api, campaign: Campaign, content: Any) -> list[dict[str, Any]]:
    """Links as `links.mint` makes them. Problem 409: this campaign has none. 422: bad rows."""
    if campaign.kind != "email":
        raise Problem(409, "a web campaign has one pixel for all: /p/" + campaign.id + ".gif")
    if campaign.closed_at is not None:
        raise Problem(409, "this campaign is closed: its time to keep recipients is over")
    minter = api.minter(campaign.base_url)
    rows, is_sent = links.rows(content, api.consent.rule(campaign.mode, None).mode)
    await storage.note_links(api.store, campaign.id, api.clock())
    if is_sent:
        await _note_mails(api, campaign.id, rows)
    made: list[dict[str, Any]] = []
    for i in range(0, len(rows), STEP):
        made += [links.mint(minter, campaign.id, row, api.clock()) for row in rows[i : i + STEP]]
        await asyncio.sleep(0)
    return made


async def make_links(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    made = await link(api, campaign, await request_body.read(request))
    if "application/x-ndjson" in request.headers.get("accept", ""):
        lines = b"".join(_json(link) + b"\n" for link in made)
        return Response(lines, 200, {"Cache-Control": "no-store"}, "application/x-ndjson")
    return reply({"links": made})


async def _note_mails(api: Api, campaign: str, rows: list[links.Row]) -> None:
    """Whom the mails of these links go to; of recipients that may not be told apart, how many."""
    now, settings = api.clock(), api.settings
    days, others = links.mailed(rows, now)
    try:
        if days:
            await lists.begin(api.store, campaign, False, settings, now)
        for at, told in days.items():
            for i in range(0, len(told), STEP):
                part = [ListEntry(recipient, None) for recipient in told[i : i + STEP]]
                await lists.put(api.store, api.secrets, campaign, part, settings.shards, False, mailed=at)
        if others:
            await lists.count_mails(api.store, campaign, others)
    except lists.ListClosed as error:
        raise Problem(409, f"{error}; no links were made") from None
    except storage.UnknownCampaign:
        raise Problem(404, "this campaign was deleted meanwhile") from None


async def show_stats(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    now = api.clock()
    if request.state.shared:
        late = await asyncio.to_thread(api.late_since)
        query = request.query_params
        return reply(await shared_stats.read(api.store, campaign, query, api.settings, late, now))
    wanted = ranges.parse(request.query_params, campaign.time_zone, now)
    late = await asyncio.to_thread(api.late_since)
    figures = await stats.read(api.store, campaign, wanted, api.settings, now)
    if csv_export.MEDIA in request.headers.get("accept", ""):
        return series_csv(campaign, figures)
    return reply({**figures, "late_since": None if late is None else iso_ms(late)})


def series_csv(campaign: Campaign, figures: Mapping[str, Any]) -> Response:
    """The `series` of stats as a file."""
    name = f"{campaign.id}-{figures['interval']}.csv"
    headers = {"Cache-Control": "no-store", "Content-Disposition": f'attachment; filename="{name}"'}
    return Response(
        csv_export.of_series(figures["series"]), 200, headers, f"{csv_export.MEDIA}; charset=utf-8"
    )


async def show_breakdowns(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    now, query = api.clock(), request.query_params
    if request.state.shared:
        late = await asyncio.to_thread(api.late_since)
        names = web_breakdowns.parse(query, disclosure.DIMENSIONS)
        found = await shared_stats.breakdowns(api.store, campaign, query, names, api.settings, late, now)
        return reply(found)
    wanted = ranges.parse(query, campaign.time_zone, now)
    names = web_breakdowns.parse(query)
    return reply(await web_breakdowns.read(api.store, campaign, wanted, names, api.settings, now))


async def explain_hit(api: Api, request: Request) -> Response:
    known = {
        "user_agent": request_body.text,
        "ip": request_body.address,
        "headers": request_body.headers,
        "delay": request_body.delay,
    }
    fields = request_body.check(await request_body.read(request), known, frozenset({"user_agent", "ip"}))
    agent, headers, delay = fields["user_agent"], fields.get("headers", {}), fields.get("delay")
    try:
        found = await asyncio.to_thread(explain.explain, api.settings, agent, fields["ip"], headers, delay)
    except (RulesError, NetworksError) as error:
        raise Problem(503, str(error)) from None
    return reply(found)


async def compare_campaigns(api: Api, request: Request) -> Response:
    ids = request.query_params.get("ids", "").split(",")
    if not 2 <= len(ids) <= MOST_COMPARED or len(set(ids)) != len(ids) or not all(map(is_slug, ids)):
        message = f"must be 2 to {MOST_COMPARED} ids of campaigns, with commas between"
        raise Problem(422, "some parameters cannot be used", [{"field": "ids", "message": message}])
    now = api.clock()
    found = []
    for name in ids:
        campaign = await api.campaign(name)
        wanted = ranges.parse({}, campaign.time_zone, now)
        found.append((campaign, await stats.read(api.store, campaign, wanted, api.settings, now)))
    return reply(compare.side_by_side(found))


_RANGE = ("from", "to", "interval", "tz")
CALLS = (
    Call("GET", "/api/campaigns", "read", list_campaigns, query=("after", "limit")),
    Call("POST", "/api/campaigns", "write", create_campaign),
    Call("GET", "/api/campaigns/{id}", "read", show_campaign, shared=True),
    Call("PATCH", "/api/campaigns/{id}", "write", change_campaign),
    Call("DELETE", "/api/campaigns/{id}", "write", delete_campaign),
    Call("POST", "/api/campaigns/{id}/links", "write", make_links),
    Call("GET", "/api/campaigns/{id}/stats", "read", show_stats, shared=True, query=_RANGE),
    Call(
        "GET", "/api/campaigns/{id}/breakdowns", "read", show_breakdowns, shared=True, query=("by", *_RANGE)
    ),
    Call("GET", "/api/compare", "read", compare_campaigns, query=("ids",)),
    Call("POST", "/api/explain", "read", explain_hit),
)
