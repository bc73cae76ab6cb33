"""Calls of the API on the figures of campaigns: stats, breakdowns, comparison."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api.context import Api
from pixel_server.api.media_types import JSON, choose
from pixel_server.api.openapi.schema import ref
from pixel_server.api.openapi.values import Schema, choice, text
from pixel_server.api.paging import BY_NUMBER, cut_by_number
from pixel_server.api.routing import Call, Parameter, reply
from pixel_server.campaigns import retention
from pixel_server.campaigns.campaign import Campaign
from pixel_server.figures import (
    breakdowns,
    compare,
    csv_export,
    filtered,
    opening_curve,
    ranges,
    sending_ranges,
    shared_stats,
    stats,
    visit_filters,
)
from pixel_server.figures.ranges import Range
from pixel_server.figures.visit_filters import Filters
from pixel_server.problems import bad_parameter
from pixel_server.slug import is_slug
from pixel_server.times import iso_ms

MAX_COMPARED = 20
"""Largest number of campaigns that one call compares."""


async def show_stats(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    now, query = api.clock(), request.query_params
    if request.state.has_shared_key:
        visit_filters.refuse(query)
        late_since = await asyncio.to_thread(api.late_since)
        figures = await shared_stats.read(api.store, campaign, query, api.settings, late_since, now)
    else:
        time_range = sending_ranges.parse(query, campaign, bucket_days(api, campaign), now)
        late_since = await asyncio.to_thread(api.late_since)
        figures = await read_stats(api, campaign, time_range, visit_filters.parse(query, campaign), now)
        figures["late_since"] = None if late_since is None else iso_ms(late_since)
    if choose(request, csv_export.MEDIA) != JSON:
        return series_csv(campaign, figures)
    return reply(figures)


async def read_stats(
    api: Api, campaign: Campaign, time_range: Range, filters: Filters, now: float
) -> dict[str, Any]:
    """Returns the stats of a campaign, or those of the visits that pass the filters if there are any."""
    if filters:
        return await filtered.read_stats(api.store, campaign, time_range, filters, api.settings, now)
    return await stats.read(api.store, campaign, time_range, api.settings, now)


def bucket_days(api: Api, campaign: Campaign) -> int:
    """Returns the number of days for which the campaign's 15-minute series is kept."""
    return retention.campaign_days(api.settings, campaign).buckets


def series_csv(campaign: Campaign, figures: Mapping[str, Any]) -> Response:
    """Returns the `series` of stats as a CSV file."""
    return _csv_file(f"{campaign.id}-{figures['interval']}.csv", csv_export.of_series(figures["series"]))


async def show_breakdowns(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    now, query = api.clock(), request.query_params
    if request.state.has_shared_key:
        visit_filters.refuse(query)
        late_since = await asyncio.to_thread(api.late_since)
        answer = await shared_stats.read_breakdowns(api.store, campaign, query, api.settings, late_since, now)
    else:
        time_range = ranges.parse(query, campaign.time_zone, now)
        dimensions = breakdowns.parse(query, campaign.kind)
        filters = visit_filters.parse(query, campaign)
        answer = await read_breakdowns(api, campaign, time_range, filters, dimensions, now)
    if choose(request, csv_export.MEDIA) != JSON:
        return breakdowns_csv(campaign, answer)
    return reply(answer)


async def read_breakdowns(
    api: Api,
    campaign: Campaign,
    time_range: Range,
    filters: Filters,
    dimensions: list[str],
    now: float,
) -> dict[str, Any]:
    """Returns the breakdowns of a campaign, of the visits that pass the filters if there are any."""
    store, settings = api.store, api.settings
    if filters:
        return await filtered.read_breakdowns(store, campaign, time_range, filters, dimensions, settings, now)
    return await breakdowns.read(store, campaign, time_range, dimensions, settings, now)


def breakdowns_csv(campaign: Campaign, answer: Mapping[str, Any]) -> Response:
    """Returns the answer of `show_breakdowns` as a CSV file."""
    counts = {"email": ("opens",), "web": ("views", "visits")}[campaign.kind]
    return _csv_file(f"{campaign.id}-breakdowns.csv", csv_export.of_breakdowns(answer["by"], counts))


def _csv_file(name: str, content: bytes) -> Response:
    headers = {"Cache-Control": "no-store", "Content-Disposition": f'attachment; filename="{name}"'}
    return Response(content, 200, headers, f"{csv_export.MEDIA}; charset=utf-8")


async def compare_campaigns(api: Api, request: Request) -> Response:
    ids = request.query_params.get("ids", "").split(",")
    if not 2 <= len(ids) <= MAX_COMPARED or len(set(ids)) != len(ids) or not all(map(is_slug, ids)):
        message = f"must be 2 to {MAX_COMPARED} ids of campaigns, with commas between"
        raise bad_parameter("ids", message)
    query, now = request.query_params, api.clock()
    shown, next_cursor = cut_by_number(ids, BY_NUMBER.parse(query))
    compared, curves = [], []
    for campaign_id in [ids[0], *(campaign_id for campaign_id in shown if campaign_id != ids[0])]:
        campaign = await api.campaign(campaign_id)
        time_range = ranges.parse(query, campaign.time_zone, now)
        figures = await stats.read(api.store, campaign, time_range, api.settings, now)
        compared.append((campaign, figures))
        curves.append(await opening_curve.read(api.store, campaign, api.settings, now))
    items = compare.side_by_side(compared, curves)
    return reply({"items": items if ids[0] in shown else items[1:], "next": next_cursor})


def _boundary(description: str) -> Schema:
    return {
        "anyOf": [{"type": "string", "format": "date"}, {"type": "string", "format": "date-time"}],
        "description": (
            f"{description} A date or instant at which an interval begins in the zone, so that the figures "
            "of adjacent ranges add up. An instant without an offset is in the zone. Years "
            f"{ranges.FIRST_YEAR} to {ranges.END_YEAR - 1}."
        ),
        "examples": ["2026-11-24", "2026-11-24T09:00:00Z"],
    }


_FROM_AND_TO = (
    Parameter("from", _boundary("First instant of the range.")),
    Parameter("to", _boundary("End of the range: the first instant after it.")),
)
_FILTERS = tuple(
    Parameter(
        name,
        text(
            "Only visits that saw this page."
            if name == "page"
            else f"Only visits with this name in the breakdown by `{name}`.",
            maxLength=visit_filters.MAX_LENGTH,
            minLength=1,
        ),
    )
    for name in visit_filters.NAMES
)
_DIMENSION = f"({'|'.join(sorted({name for names in breakdowns.DIMENSIONS.values() for name in names}))})"
_STATS_QUERY = (
    *_FROM_AND_TO,
    Parameter("interval", choice(ranges.INTERVALS, "Interval of `series`.", default="day")),
    Parameter("tz", {**ref("TimeZone"), "description": "Default: the campaign's time zone."}),
    Parameter(
        sending_ranges.PARAMETER,
        choice(
            sending_ranges.CHOICES,
            "Range from the campaign's `sent_at`, instead of `from`, `to` and `interval`.",
        ),
    ),
    *_FILTERS,
)
_BREAKDOWNS_QUERY = (
    Parameter(
        "by",
        text(
            "Names of dimensions of this kind of campaign, with commas between. Default: all.",
            pattern=f"^{_DIMENSION}(,{_DIMENSION})*$",
        ),
    ),
    *_FROM_AND_TO,
    Parameter(
        "interval", choice(ranges.INTERVALS, "Must be `day`: breakdowns are counted by day.", default="day")
    ),
    Parameter("tz", {**ref("TimeZone"), "description": "Must be the campaign's time zone."}),
    *_FILTERS,
)
_IDS = Parameter("ids", text(f"2 to {MAX_COMPARED} ids of campaigns, with commas between."), is_required=True)
_COMPARE_QUERY = (_IDS, *_FROM_AND_TO, *BY_NUMBER.parameters)

CALLS = (
    Call("GET", "/api/campaigns/{id}/stats", "read", show_stats, allows_shared_key=True, query=_STATS_QUERY),
    Call(
        *("GET", "/api/campaigns/{id}/breakdowns", "read", show_breakdowns),
        allows_shared_key=True,
        query=_BREAKDOWNS_QUERY,
    ),
    Call("GET", "/api/compare", "read", compare_campaigns, query=_COMPARE_QUERY),
)
