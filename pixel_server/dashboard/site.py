"""What only the page of a site shows. `campaign` adds what all campaigns have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pixel_server.api.context import Api
from pixel_server.campaigns.campaign import Campaign
from pixel_server.dashboard import range_picker, svg
from pixel_server.figures import web_breakdowns
from pixel_server.problems import Problem

TEMPLATE = "site.html"
DIMENSIONS = (
    *("page", "entry_page", "exit_page", "referrer", "referrer_kind"),
    *("utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content"),
    *("country", "browser", "system", "device", "language"),
)
COLUMNS = (("views", "Views"), ("visits", "Visits"), ("unique_visitors", "Unique visitors"))
"""Columns of the table below the chart."""
MORE_FIGURES = {
    "hits": "Requests",
    "unique_ips": "Unique IP addresses",
    "views_bot": "Views by bots",
    "bounces": "Bounced visits",
    "visits_new": "New visits",
    "visits_returning": "Returning visits",
    "views_no_visitor": "Views without a visitor",
    "views_no_visit": "Views without a visit",
    "hits_gpc": "Asked not to be tracked",
    "dropped_gpc": "Dropped, asked not to be tracked",
    "dropped_opted_out": "Dropped, opted out",
    "refused_origin": "Refused, other origin",
}
"""Labels of the totals that the page does not show elsewhere."""


async def context(
    api: Api,
    campaign: Campaign,
    range_query: Mapping[str, str],
    campaign_stats: Mapping[str, Any],
    now: float,
) -> dict[str, Any]:
    """Returns the rows of each dimension: None if this range has no breakdowns."""
    return {"lists": await _breakdowns(api, campaign, range_query, campaign_stats, now)}


async def _breakdowns(
    api: Api,
    campaign: Campaign,
    range_query: Mapping[str, str],
    campaign_stats: Mapping[str, Any],
    now: float,
) -> dict[str, list[dict[str, Any]]] | None:
    try:
        period = range_picker.days(campaign.time_zone, range_query, now)
        answer = await web_breakdowns.read(api.store, campaign, period, list(DIMENSIONS), api.settings, now)
    except Problem:
        return None
    # Leaves out unused dimensions: a web site without UTM links needs no UTM tables.
    used = {name: rows for name, rows in answer["by"].items() if any(row["name"] != "(none)" for row in rows)}
    if campaign_stats["totals"]["visits"] is None:  # visitors are not told apart
        used = {name: rows for name, rows in used.items() if web_breakdowns.ranking_count(name) == "views"}
    return {name: svg.ranked(rows, web_breakdowns.ranking_count(name)) for name, rows in used.items()}
