"""Breakdowns of a campaign of either kind: of views and visits, or of opens by people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pixel_server.campaigns.campaign import Campaign
from pixel_server.figures import mail_breakdowns, web_breakdowns
from pixel_server.figures.ranges import Range
from pixel_server.problems import Problem, bad_parameter
from pixel_server.settings import Settings
from pixel_server.store.protocols import AsyncRedis

DIMENSIONS = {"email": mail_breakdowns.DIMENSIONS, "web": web_breakdowns.SHOWN_DIMENSIONS}
"""Names for the parameter `by`, by kind of campaign."""
READERS = {"email": mail_breakdowns.read, "web": web_breakdowns.read}


def parse(query: Mapping[str, str], kind: str, default: Sequence[str] | None = None) -> list[str]:
    """Returns the dimensions in the parameter `by`. Default: `default`, or else all of the kind.

    Raises Problem 422 if a dimension is unknown, and 409 if it is one of the other kind of campaign.
    """
    known = DIMENSIONS[kind]
    dimensions = list(dict.fromkeys(query["by"].split(","))) if "by" in query else list(default or known)
    if not set(dimensions) <= {name for names in DIMENSIONS.values() for name in names}:
        raise bad_parameter("by", f"must be some of these, with commas between: {', '.join(known)}")
    if not set(dimensions) <= set(known):
        raise Problem(409, f"this kind of campaign has breakdowns by {', '.join(known)} only")
    return dimensions


async def read(
    store: AsyncRedis,
    campaign: Campaign,
    time_range: Range,
    dimensions: list[str],
    settings: Settings,
    now: float,
) -> dict[str, Any]:
    """Returns the response to `GET /api/campaigns/{id}/breakdowns`. Raises Problem 409 as the readers do."""
    return await READERS[campaign.kind](store, campaign, time_range, dimensions, settings, now)
