"""The page of a campaign's shared figures, for share links and keys with `read:CAMPAIGN`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api.context import Api
from pixel_server.campaigns import retention
from pixel_server.campaigns.campaign import Campaign
from pixel_server.dashboard import formatting, render, svg
from pixel_server.dashboard.glossary import DIMENSION_TITLES
from pixel_server.figures import disclosure, shared_stats, web_breakdowns
from pixel_server.figures.shared_stats import Shared
from pixel_server.problems import Problem
from pixel_server.times import DAY

MAX_DAYS_OF_LINK = 1100
"""Days of the longest range that a share link can request."""
MAX_FIGURES = 4
"""Figures that are shown above the chart, beside the open rate."""
_RANGE_PARAMS = ("from", "to", "interval", "tz")
LABELS = {
    "opens": "Opens, machines too",
    "unique_opens": "First opens, machines too",
    "views": "Views",
    "visits": "Visits",
    "unique_visitors": "Unique visitors",
}


async def read_shared(api: Api, campaign: Campaign, query: Mapping[str, str] | None = None) -> Shared:
    """Returns the shared figures of the range in the query. Default: the year up to yesterday."""
    late_since = await asyncio.to_thread(api.late_since)
    return await shared_stats.read_with_months(
        api.store, campaign, query or {}, api.settings, late_since, api.clock()
    )


async def json_for_link(api: Api, campaign: Campaign, query: Mapping[str, str]) -> bytes:
    """Returns the shared figures as JSON. They are read at most once per campaign, range and minute.

    The cache is needed because anyone with the link can request the figures without a key, at any rate.
    Raises Problem 422 if the range is too long.
    """
    now = api.clock()
    range_query = {name: query[name][:40] for name in _RANGE_PARAMS if name in query}
    oldest = retention.oldest_day(campaign, retention.campaign_days(api.settings, campaign).days, now)
    period = disclosure.parse(range_query, campaign, oldest, now)
    if period.end - period.start > (MAX_DAYS_OF_LINK + 1) * DAY:
        message = f"the range must not be longer than {MAX_DAYS_OF_LINK} days"
        raise Problem(422, "some parameters cannot be used", [{"field": "from", "message": message}])

    async def read_json() -> bytes:
        return msgspec.json.encode((await read_shared(api, campaign, range_query)).stats)

    key = ("shared", msgspec.json.encode(campaign), period, now // 60)
    content: bytes = await api.recent.get(key, read_json)
    return content


async def show(
    api: Api,
    request: Request,
    campaign: Campaign,
    chart_url: str,
    template: str = "shared.html",
    **options: Any,
) -> Response:
    """Returns the page. chart_url: address of the figures as JSON. options: parameters of `render.page`."""

    async def read_stats_and_lists() -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]], str]:
        shared = await read_shared(api, campaign)
        return shared.stats, *await _lists(api, campaign, shared)

    stats, lists, listed_days = await api.recent.get(
        ("page", msgspec.json.encode(campaign), api.clock() // 60), read_stats_and_lists
    )
    figure_names = list(stats["totals"])
    main_figure = figure_names[0]
    # The chart begins with the first day that is shown, and ends with the last.
    shown_places = [i for i, item in enumerate(stats["series"]) if item[main_figure] is not None]
    span = stats["series"][shown_places[0] : shown_places[-1] + 1] if shown_places else []
    path, highest = svg.bars([item[main_figure] for item in span], 800, 160)
    context = {
        "campaign": campaign,
        "stats": stats,
        "labels": {name: LABELS[name] for name in figure_names},
        "figures": _figures(campaign, stats),
        "rate": _rate_bar(stats.get("open_rate")),
        "path": path,
        "highest": highest,
        "days": [item for item in span if item[main_figure] is not None],
        "chart_url": f"{chart_url}?{_range(span)}",
        "lists": lists,
        "titles": DIMENSION_TITLES,
        "listed_days": listed_days,
    }
    return render.page(api, request, template, context, **options)


def _figures(campaign: Campaign, stats: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Returns (label, name of its definition or "", text) of at most MAX_FIGURES figures.

    If few figures are shared, others that follow from them are added, so that a page is not two numbers.
    """
    if campaign.kind == "email":
        return _figures_of_mailing(stats)
    totals = stats["totals"]
    shown = []
    for name, value in totals.items():
        if value is not None:
            is_by_day = name == "unique_visitors" and campaign.identity == "cookieless"
            label, definition = ("Visitor-days", "visitor-days") if is_by_day else (LABELS[name], name)
            shown.append((label, definition, formatting.number(value)))
    if totals.get("views") is not None and totals.get("visits"):
        shown.append(("Views per visit", "", f"{totals['views'] / totals['visits']:.1f}"))
    busiest = max(stats["series"], key=lambda item: item["views"] or 0, default=None)
    if busiest and busiest["views"]:
        shown.append(("Busiest day", "", formatting.day(busiest["start"], stats["time_zone"])))
    return shown[:MAX_FIGURES]


def _figures_of_mailing(stats: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Returns what `_figures` returns, for a mailing: the figures of its own page, as far as they are shared.

    With an open rate, the recipients are those that it counts.
    """
    totals, rate, delivered = stats["totals"], stats.get("open_rate"), stats.get("delivered")
    person = rate and round(rate["low"] * delivered)
    opened = round(rate["high"] * delivered) if rate else totals["unique_opens"]
    figures = (
        ("Opened by people", "unique_opens_person", person),
        ("Delivered", "delivered", delivered),
        ("Opened by people or machines", "unique_opens", opened),
        (LABELS["opens"], "opens", totals["opens"]),
    )
    return [(label, name, formatting.number(value)) for label, name, value in figures if value is not None]


def _rate_bar(rate: Mapping[str, Any] | None) -> dict[str, float] | None:
    return svg.open_rate_bar({**rate, "estimate": None}) if rate else None


def _range(span: Sequence[Mapping[str, Any]]) -> str:
    """Returns the days as a query: `"from=2026-11-01&to=2026-11-08"`. Returns "" if there are no days."""
    if not span:
        return ""
    first, last = (date.fromisoformat(item["start"][:10]) for item in (span[0], span[-1]))
    return urlencode({"from": first, "to": last + timedelta(days=1)})


async def _lists(api: Api, campaign: Campaign, shared: Shared) -> tuple[dict[str, list[dict[str, Any]]], str]:
    """Returns the ranked rows of each dimension that has shared rows, and the days of a mailing's rows.

    The days are such as `"17 Nov 2026 to 29 Nov 2026"`, or "" for a web site.
    """
    if campaign.kind == "web":
        breakdowns = await shared_stats.by_dimension(
            api.store, campaign, shared.months, list(disclosure.DIMENSIONS["web"]), api.settings.shards
        )
        # Leaves out unused dimensions: a web site without UTM links needs no UTM tables.
        used = {
            name: rows for name, rows in breakdowns.items() if any(row["name"] != "(none)" for row in rows)
        }
        return {name: svg.ranked(rows, web_breakdowns.ranking_count(name)) for name, rows in used.items()}, ""
    # Breakdowns of opens are available for a limited number of days.
    start = shared_stats.first_day_of_opens(campaign, api.clock())
    stats = (await read_shared(api, campaign, {"from": start})).stats
    opens_by = stats["opens_person_by"] or {}
    lists = {name: svg.ranked(rows, "opens") for name, rows in opens_by.items() if rows}
    return lists, _covered_days(stats) if lists else ""


def _covered_days(stats: Mapping[str, Any]) -> str:
    """Returns the first day, or that of sending if it is later, and the last day of the shown weeks."""
    first = stats["covered"]["from"]
    if stats["sent_at"]:
        zone = ZoneInfo(stats["time_zone"])
        first = max(first, datetime.fromisoformat(stats["sent_at"]).astimezone(zone).date().isoformat())
    last = (date.fromisoformat(stats["covered"]["to"]) - timedelta(days=1)).isoformat()
    first_day, last_day = (formatting.day(f"{day}T12:00:00+00:00") for day in (first, last))
    return first_day if first_day == last_day else f"{first_day} to {last_day}"
