"""Breakdowns of people's opens of a mail campaign, by mail client, device and country."""

from __future__ import annotations

from typing import Any

from pixel_server.campaigns.campaign import Campaign
from pixel_server.figures import campaign_sums, stats
from pixel_server.figures.ranges import Range
from pixel_server.problems import Problem
from pixel_server.settings import Settings
from pixel_server.store.protocols import AsyncRedis

DIMENSIONS = ("client", "device", "country")
NOT_KNOWN = (
    "opens are divided for all time, and for whole days of the campaign's own time zone, at most "
    f"{campaign_sums.MAX_BREAKDOWN_DAYS}, that are kept; not in a mode that stores no recipients, nor after "
    "the campaign is closed"
)


async def read(
    store: AsyncRedis,
    campaign: Campaign,
    time_range: Range,
    dimensions: list[str],
    settings: Settings,
    now: float,
) -> dict[str, Any]:
    """Returns the response to `GET /api/campaigns/{id}/breakdowns` for a mail campaign.

    Raises Problem 409 if the opens of this range are not divided.
    """
    figures = await stats.read(store, campaign, time_range, settings, now)
    opens_by = figures["opens_person_by"]
    if opens_by is None:
        raise Problem(409, NOT_KNOWN)
    return {
        **{name: figures[name] for name in ("campaign", "from", "to", "time_zone")},
        "by": {dimension: opens_by[dimension] for dimension in dimensions},
    }
