"""`/campaigns/{id}`: the overview of one campaign."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api.context import Api
from pixel_server.api.routing import reply
from pixel_server.api.stats import breakdowns_csv, read_breakdowns, read_stats, series_csv
from pixel_server.campaigns.campaign import Campaign
from pixel_server.dashboard import (
    chart,
    figure_texts,
    forms,
    mailing,
    note_forms,
    page_figures,
    range_picker,
    render,
    shared_figures,
    site,
)
from pixel_server.dashboard.glossary import DIMENSION_TITLES
from pixel_server.dashboard.refused import NOTHING_REFUSED, Refused
from pixel_server.figures import breakdowns, ranges, visit_filters
from pixel_server.figures.visit_filters import Filters
from pixel_server.problems import Problem
from pixel_server.recipients import lists
from pixel_server.times import iso_ms


async def page(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    if request.state.has_shared_key:
        chart_url = render.url(api.settings, f"campaigns/{campaign.id}/stats.json")
        return await shared_figures.show(api, request, campaign, chart_url)
    params = request.query_params
    try:
        return await show(api, request, campaign, params)
    except Problem as problem:
        if problem.status not in (409, 422):
            raise
        # The page of the default range, with the error beside the form.
        refused = Refused(range_errors=range_picker.error_messages(problem), submitted=params)
        response = await show(api, request, campaign, {}, refused)
        response.status_code = problem.status
        return response


async def show(
    api: Api,
    request: Request,
    campaign: Campaign,
    params: Mapping[str, str],
    refused: Refused = NOTHING_REFUSED,
) -> Response:
    """Returns the page of a campaign. params: parameters of the address.

    Raises Problem 409 or 422 if a parameter cannot be used.
    """
    if campaign.kind == "web":
        return await site.show(api, request, campaign, params, refused)
    now = api.clock()
    range_query = range_picker.with_default(range_picker.query(params), campaign, now)
    period = range_picker.parse(api, campaign, range_query, now)
    late_since = await asyncio.to_thread(api.late_since)
    campaign_stats = await page_figures.read(api, campaign, period, now)
    picker = mailing.picker(api, campaign, range_query, period, now)
    context: dict[str, Any] = {
        "campaign": campaign,
        "submitted": refused.submitted,
        "stats": campaign_stats,
        "late_since": late_since,
        "texts": figure_texts.texts_of(campaign_stats),
        "changes": {},
        "range_query": urlencode(range_query),
        "page_query": urlencode(range_query),
        "picker": picker,
        "range_errors": refused.range_errors,
        "default_days": ranges.DEFAULT_DAYS,
        "chart": chart.context(campaign, campaign_stats, mailing.COLUMNS),
        "is_never_counted": await page_figures.is_never_counted(api, campaign),
        **await note_forms.context(api, campaign, campaign_stats, refused.note_id),
        "titles": DIMENSION_TITLES,
        "keeps_recipients": keeps_recipients(api, campaign),
        "more_figures": {
            name: label
            for name, label in mailing.MORE_FIGURES.items()
            if campaign_stats["totals"].get(name) is not None
        },
        **await mailing.context(api, campaign, range_query, campaign_stats, now),
    }
    note = refused.note or {**note_forms.FIELDS, "at": picker["today"]}
    return forms.page(api, request, mailing.TEMPLATE, note, context, refused.problem)


async def stats_json(api: Api, request: Request) -> Response:
    """Returns the same stats as `GET /api/campaigns/{id}/stats`."""
    campaign = await api.campaign(request.path_params["id"])
    if request.state.has_shared_key:
        shared = await shared_figures.read_shared(api, campaign, request.query_params)
        return reply(shared.stats)
    campaign_stats = await _read_stats(api, campaign, request.query_params)
    late_since = await asyncio.to_thread(api.late_since)
    return reply({**campaign_stats, "late_since": None if late_since is None else iso_ms(late_since)})


async def series(api: Api, request: Request) -> Response:
    """Returns the series of the chart as CSV."""
    campaign = await api.campaign(request.path_params["id"])
    return series_csv(campaign, await _read_stats(api, campaign, request.query_params))


async def download_breakdowns(api: Api, request: Request) -> Response:
    """Returns the breakdowns of the page's range as CSV."""
    campaign = await api.campaign(request.path_params["id"])
    params = request.query_params
    period = range_picker.days(campaign.time_zone, range_picker.query(params), api.clock())
    dimensions = breakdowns.parse({}, campaign.kind)
    filters = _filters(campaign, params)
    answer = await read_breakdowns(api, campaign, period, filters, dimensions, api.clock())
    return breakdowns_csv(campaign, answer)


async def texts_and_as_of(
    api: Api, campaign: Campaign, params: Mapping[str, str]
) -> tuple[dict[str, str], str]:
    """Returns the texts of all figures in the range of a page's query, and `as_of` in ISO 8601."""
    now = api.clock()
    period = range_picker.parse(api, campaign, range_picker.query(params), now)
    campaign_stats = await page_figures.read(api, campaign, period, now)
    return figure_texts.texts_of(campaign_stats), campaign_stats["as_of"]


async def _read_stats(api: Api, campaign: Campaign, params: Mapping[str, str]) -> dict[str, Any]:
    period = range_picker.parse(api, campaign, range_picker.query(params), api.clock())
    return await read_stats(api, campaign, period, _filters(campaign, params), api.clock())


def _filters(campaign: Campaign, params: Mapping[str, str]) -> Filters:
    """Returns the filters of a site's page. The page of a mailing has none."""
    return visit_filters.parse(params, campaign) if campaign.kind == "web" else {}


def keeps_recipients(api: Api, campaign: Campaign) -> bool:
    """Returns whether data of single recipients is stored for this campaign now."""
    return campaign.closed_at is None and lists.keeps_recipients(campaign, api.consent)
