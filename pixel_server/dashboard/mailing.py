"""What only the page of a mailing shows. `campaign` adds what all campaigns have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pixel_server.api.context import Api
from pixel_server.campaigns.campaign import Campaign
from pixel_server.dashboard import svg

TEMPLATE = "mailing.html"
COLUMNS = (("opens", "Opens"), ("unique_opens", "Unique opens"), ("unique_opens_person", "By a person"))
"""Columns of the table below the chart."""
MORE_FIGURES = {
    "hits": "Requests",
    "unique_ips": "Unique IP addresses",
    "opens_anonymous": "Anonymous opens",
    "hits_gpc": "Asked not to be tracked",
    "dropped_gpc": "Dropped, asked not to be tracked",
    "dropped_opted_out": "Dropped, opted out",
}
"""Labels of the totals that the page does not show elsewhere."""


async def context(
    api: Api,
    campaign: Campaign,
    range_query: Mapping[str, str],
    campaign_stats: Mapping[str, Any],
    now: float,
) -> dict[str, Any]:
    """Returns the open rate's bar, and the rows of each dimension: None if this range has no breakdowns."""
    opens_by = campaign_stats["opens_person_by"]
    return {
        "rate": svg.open_rate_bar(campaign_stats["open_rate"]),
        "lists": opens_by and {name: svg.ranked(rows, "opens") for name, rows in opens_by.items()},
    }
