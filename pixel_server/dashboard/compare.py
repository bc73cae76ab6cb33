"""`/compare`: compares campaigns, in a table of mailings and a table of web sites."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api.context import Api
from pixel_server.api.stats import MAX_COMPARED
from pixel_server.campaigns.campaign import Campaign
from pixel_server.counters.labels import OTHER
from pixel_server.dashboard import (
    campaign_picker,
    curves,
    figure_texts,
    formatting,
    range_picker,
    render,
    svg,
)
from pixel_server.figures import compare, open_rate, opening_curve, ranges, stats
from pixel_server.figures.compare import CampaignStats
from pixel_server.problems import Problem

MAX_CLIENTS = 6
"""Largest number of mail programs with a column. One more column has all other programs."""
_SCALE_TOPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Possible right ends of the scale of open rates."""

NOT_COMPARED: dict[compare.NotCompared, str] = {
    "too_few_mails": f"{{}} has too few mails to compare, fewer than {compare.MIN_DELIVERED} delivered",
    "no_open_rate": "{} has no open rate",
    "sent_at_not_set": "the time of sending of {} is not set",
    "not_sent_yet": "{} is not sent yet",
    "anonymous_opens": "some opens of {} belong to no known recipient",
    "hidden_in_range": "{} has recipients whose mail program hides opens, who are counted for all time only",
    "too_few_visible": "too few recipients of {} have a mail program that shows who reads",
}
"""Words for each reason not to compare a mailing, with a place for its name."""


async def page(api: Api, request: Request) -> Response:
    query = campaign_picker.search_text(request.query_params)
    ids = campaign_picker.ids(request.query_params, "ids")
    chosen, errors = await campaign_picker.chosen(api, ids[: MAX_COMPARED + 1])
    status = 422 if len(chosen) > MAX_COMPARED else 404 if errors else 200
    if len(chosen) > MAX_COMPARED:
        errors.append(f"At most {MAX_COMPARED} campaigns can be compared.")
    submitted = {
        name: value for name, value in request.query_params.items() if name in ("from", "until", "to")
    }
    try:
        range_query = range_picker.query(submitted)
        periods = [ranges.parse(range_query, campaign.time_zone, api.clock()) for campaign in chosen]
    except Problem as problem:
        range_query, periods, status = {}, [], problem.status
        errors += [f"{text}." for text in range_picker.error_messages(problem)]
    is_shown = len(chosen) > 1 and status in (200, 404) and len(periods) == len(chosen)
    late_since = await asyncio.to_thread(api.late_since)
    tables = [await _table(api, chosen, range_query, kind) if is_shown else None for kind in ("email", "web")]
    context = {
        "late_since": late_since,
        "as_of": min(
            (row["stats"]["as_of"] for table in tables if table for row in table["rows"]), default=""
        ),
        "chosen": chosen,
        "query": query,
        "matches": await campaign_picker.search(api, query, chosen) if query or not is_shown else [],
        "errors": errors,
        "picker": _picker(api, chosen, range_query),
        "submitted": submitted,
        "curve_labels": list(curves.HOURS.values()),
        "mails": tables[0],
        "sites": tables[1],
    }
    return render.page(api, request, "compare.html", context, status)


def _picker(api: Api, chosen: Sequence[Campaign], range_query: dict[str, str]) -> dict[str, Any]:
    """Returns the range picker. Presets are days in the time zone of the first campaign."""
    zone = chosen[0].zone if chosen else ZoneInfo("UTC")
    period = ranges.parse(range_query, zone.key, api.clock())
    more = [("id", campaign.id) for campaign in chosen]
    return range_picker.context(range_query, zone, period, api.clock(), more)


async def _table(api: Api, chosen: Sequence[Campaign], range_query: dict[str, str], kind: str) -> Any:
    """Returns the table of the chosen campaigns of a kind, or None if no chosen campaign is of this kind."""
    now = api.clock()
    campaign_figures: list[CampaignStats] = []
    rows: list[dict[str, Any]] = []
    for campaign in chosen:
        if campaign.kind != kind:
            continue
        period = ranges.parse(range_query, campaign.time_zone, now)
        campaign_stats = await stats.read(api.store, campaign, period, api.settings, now)
        campaign_stats = figure_texts.without_misleading(campaign_stats, campaign, period)
        changes = await figure_texts.changes(api, campaign, period, campaign_stats, now)
        campaign_figures.append((campaign, campaign_stats))
        rows.append(
            {
                "campaign": campaign,
                "stats": campaign_stats,
                "texts": figure_texts.texts_of(campaign_stats),
                "changes": changes.texts,
                "without_today": changes.without_today,
            }
        )
    if not campaign_figures:
        return None
    counts = compare.openers if kind == "email" else compare.bounces
    is_all_time = campaign_figures[0][1]["from"] is None
    top = _scale_top(campaign_figures)
    for row, difference in zip(rows, compare.differences_to_first(campaign_figures, counts), strict=True):
        row["rate"] = svg.open_rate_bar(row["stats"]["open_rate"], top)
        row["to_first"] = _difference_texts(difference)
        row["why_no_difference"] = why_no_difference(campaign_figures[0], (row["campaign"], row["stats"]))
        points = curves.up_to(await opening_curve.read(api.store, row["campaign"], api.settings, now))
        row["points"] = points
        row["curve"] = curves.share_texts(points, curves.HOURS) if points else []
        row["estimate"] = curves.estimate_text(row["stats"]["open_rate"])
    return {
        "rows": rows,
        "has_differences": kind == "web" or is_all_time,
        "top": top,
        "clients": client_shares(campaign_figures),
        "curves": [
            curves.drawn(
                row["campaign"].name, row["points"], row["stats"]["open_rate"] if is_all_time else None
            )
            for row in rows
            if row["points"]
        ],
    }


def _scale_top(campaign_figures: Sequence[CampaignStats]) -> float:
    """Returns the right end of the scale that all open rates share."""
    highest = max(
        (figures["open_rate"]["high"] for _, figures in campaign_figures if figures["open_rate"]), default=0
    )
    return next(top for top in _SCALE_TOPS if top >= highest)


def _difference_texts(difference: open_rate.Difference | None) -> dict[str, Any] | None:
    if difference is None:
        return None
    low, high = difference["interval"]
    return {
        "points": formatting.whole_points(difference["difference"]),
        "is_higher": difference["difference"] > 0,
        "is_none": difference["difference"] == 0,
        "between": formatting.between(low, high),
        "significant": difference["significant"],
    }


def why_no_difference(*compared: CampaignStats) -> str:
    """Returns why two campaigns have no difference: `"Spring mail has no open rate"`, or "". Pure."""
    for campaign, campaign_stats in compared:
        if campaign.kind == "web":
            if not campaign_stats["totals"]["visits"]:
                return f"{campaign.name} has no visits"
        elif reason := compare.why_not_compared((campaign, campaign_stats)):
            return NOT_COMPARED[reason].format(campaign.name)
    return ""


def client_shares(campaign_figures: Sequence[CampaignStats]) -> dict[str, Any] | None:
    """Returns {programs, rows}: a row per campaign with each mail program's share of opens. Pure.

    The program with most opens in all campaigns comes first. A row is None if its shares are not known.
    Returns None if no shares are known.
    """
    opens = [
        _opens((figures["opens_person_by"] or {"client": []})["client"]) for _, figures in campaign_figures
    ]
    totals: Counter[str] = sum(opens, Counter())
    order = sorted(totals, key=lambda name: (-totals[name], name))
    programs = [name for name in order if name != OTHER][:MAX_CLIENTS]
    if not programs:
        return None
    rows = []
    for by_name in opens:
        row = [by_name[name] / by_name.total() for name in programs] if by_name else []
        rows.append([*row, abs(round(1 - sum(row), 6))] if by_name else None)
    return {"programs": [*programs, OTHER], "rows": rows}


def _opens(rows: Sequence[dict[str, Any]]) -> Counter[str]:
    return Counter({row["name"]: row["opens"] for row in rows})
