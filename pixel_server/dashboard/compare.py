"""`/compare`: campaigns side by side, those of mail and those of pages apart."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api.context import Api
from pixel_server.api.stats import MAX_COMPARED
from pixel_server.campaigns import storage
from pixel_server.campaigns.campaign import Campaign, UnreadableCampaign
from pixel_server.counters.labels import OTHER
from pixel_server.dashboard import campaign as campaign_page
from pixel_server.dashboard import formatting, range_picker, render, svg
from pixel_server.figures import compare, open_rate, overview, ranges, stats
from pixel_server.figures.compare import Read
from pixel_server.figures.overview import MOST_QUERY
from pixel_server.problems import Problem

MOST_FOUND = 20
"""Campaigns to choose from, of a search."""
MOST_CLIENTS = 6
"""Columns of mail programs; the others are one."""
_TOPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Ends of the scale on which open rates stand."""


async def page(api: Api, request: Request) -> Response:
    query = request.query_params.get("q", "").strip()[:MOST_QUERY]
    chosen, wrong = await _chosen(api, _ids(request.query_params))
    status = 422 if len(chosen) > MAX_COMPARED else 404 if wrong else 200
    if len(chosen) > MAX_COMPARED:
        wrong.append(f"{MAX_COMPARED} campaigns can be compared at most.")
    given = {name: value for name, value in request.query_params.items() if name in ("from", "until", "to")}
    try:
        asked = range_picker.query(given)
        wanted = [ranges.parse(asked, campaign.time_zone, api.clock()) for campaign in chosen]
    except Problem as problem:
        asked, wanted, status = {}, [], problem.status
        wrong += [f"{text}." for text in range_picker.refused(problem)]
    is_shown = len(chosen) > 1 and status in (200, 404) and len(wanted) == len(chosen)
    late = await asyncio.to_thread(api.late_since)
    tables = [await _table(api, chosen, asked, kind) if is_shown else None for kind in ("email", "web")]
    context = {
        "late": late,
        "as_of": min(
            (row["found"]["as_of"] for table in tables if table for row in table["rows"]), default=""
        ),
        "chosen": chosen,
        "query": query,
        "found": await _to_choose(api, query, chosen) if query or not is_shown else [],
        "wrong": wrong,
        "form": _form(api, chosen, asked),
        "given": given,
        "mails": tables[0],
        "sites": tables[1],
    }
    return render.page(api, request, "compare.html", context, status)


def _ids(params: QueryParams) -> list[str]:
    """`id`, as forms send it, once for each; or `ids`, as the API takes it."""
    return params.getlist("id") or [one for one in params.get("ids", "").split(",") if one]


async def _chosen(api: Api, ids: Sequence[str]) -> tuple[list[Campaign], list[str]]:
    """(the campaigns, each once; what is said of ids that are none)."""
    found, wrong = [], []
    for name in list(dict.fromkeys(ids))[: MAX_COMPARED + 1]:
        try:
            found.append(await storage.get(api.store, name))
        except storage.UnknownCampaign:
            wrong.append(f"There is no campaign “{name[:64]}”.")
        except UnreadableCampaign:
            wrong.append(f"The campaign “{name[:64]}” cannot be read: update this server.")
    return found, wrong


async def _to_choose(api: Api, query: str, chosen: Sequence[Campaign]) -> list[Campaign]:
    found = await overview.read(api.store, api.settings, api.consent, query, "name", 1, api.clock())
    others = [row.campaign for row in found.rows if row.campaign not in chosen]
    return others[:MOST_FOUND]


def _form(api: Api, chosen: Sequence[Campaign], asked: dict[str, str]) -> dict[str, Any]:
    """Presets are days of the first campaign's zone; a date is a day in the zone of each."""
    zone = chosen[0].zone if chosen else ZoneInfo("UTC")
    wanted = ranges.parse(asked, zone.key, api.clock())
    more = [("id", campaign.id) for campaign in chosen]
    return range_picker.shown(asked, zone, wanted, api.clock(), more)


async def _table(api: Api, chosen: Sequence[Campaign], asked: dict[str, str], kind: str) -> Any:
    """The campaigns of a kind with their figures, and what is common to all; None: there is none."""
    now = api.clock()
    found: list[Read] = []
    rows: list[dict[str, Any]] = []
    for campaign in chosen:
        if campaign.kind != kind:
            continue
        wanted = ranges.parse(asked, campaign.time_zone, now)
        read = await stats.read(api.store, campaign, wanted, api.settings, now)
        found.append((campaign, read))
        rows.append(
            {
                "campaign": campaign,
                "found": read,
                "texts": campaign_page.figures(read),
                "changes": await campaign_page.changes(api, campaign, wanted, read, now),
            }
        )
    if not found:
        return None
    counts = compare.openers if kind == "email" else compare.bounces
    top = _top(found)
    for row, difference in zip(rows, compare.to_first(found, counts), strict=True):
        row["rate"] = svg.interval(row["found"]["open_rate"], top)
        row["to_first"] = _told(difference)
    return {
        "rows": rows,
        "top": top,
        "clients": clients(found),
    }


def _top(found: Sequence[Read]) -> float:
    """Where the scale ends that all open rates stand on."""
    most = max((read["open_rate"]["high"] for _, read in found if read["open_rate"]), default=0)
    return next(top for top in _TOPS if top >= most)


def _told(difference: open_rate.Difference | None) -> dict[str, Any] | None:
    if difference is None:
        return None
    low, high = difference["interval"]
    return {
        "points": formatting.points(difference["difference"], 0),
        "between": formatting.between(low, high),
        "significant": difference["significant"],
    }


def clients(found: Sequence[Read]) -> dict[str, Any] | None:
    """{names, rows}: of each campaign the share of opens by each mail program, None where not known. Pure."""
    shares = [_shares((read["opens_person_by"] or {"client": []})["client"]) for _, read in found]
    order = sorted({name for one in shares for name in one}, key=lambda name: (-_sum(shares, name), name))
    names = [name for name in order if name != OTHER][:MOST_CLIENTS]
    if not names:
        return None
    rows = []
    for one in shares:
        known = [one.get(name, 0.0) for name in names]
        rows.append([*known, abs(round(1 - sum(known), 6))] if one else None)
    return {"names": [*names, OTHER], "rows": rows}


def _shares(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Of all opens, by name; empty where there is none."""
    whole = sum(row["opens"] for row in rows)
    return {row["name"]: row["opens"] / whole for row in rows}


def _sum(shares: Sequence[dict[str, float]], name: str) -> float:
    return sum(one.get(name, 0.0) for one in shares)
