"""Compares campaigns: their rates, and whether each rate differs from the first by more than chance. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pixel_server.campaigns.campaign import Campaign
from pixel_server.figures import open_rate
from pixel_server.figures.opening_curve import Point

CampaignStats = tuple[Campaign, dict[str, Any]]
"""A campaign, and what `stats.read` returned for it."""
Counts = Callable[[CampaignStats], tuple[int, int] | None]
"""Function that returns (successes, trials) of a campaign, or None if they are not known."""


def side_by_side(
    campaigns: Sequence[CampaignStats], curves: Sequence[list[Point] | None]
) -> list[dict[str, Any]]:
    """Returns the items of the response to `GET /api/compare`. curves: see `opening_curve.read`."""
    return [
        {
            "campaign": campaign.id,
            "name": campaign.name,
            "from": stats["from"],
            "to": stats["to"],
            "totals": stats["totals"],
            "open_rate": stats["open_rate"],
            "over": stats["over"],
            "closed_at": stats["closed_at"],
            "to_first": difference,
            "opening_curve": curve,
        }
        for (campaign, stats), difference, curve in zip(
            campaigns, differences_to_first(campaigns, openers), curves, strict=True
        )
    ]


def differences_to_first(
    campaigns: Sequence[CampaignStats], counts: Counts
) -> list[open_rate.Difference | None]:
    """Returns the difference of each campaign's rate to the first campaign's rate.

    counts: function that returns the successes and trials of a campaign's rate. The difference is None for
    the first campaign, and for a campaign whose counts, or the first campaign's counts, are not known.
    """
    first = counts(campaigns[0])
    differences: list[open_rate.Difference | None] = [None]
    for campaign in campaigns[1:]:
        own = counts(campaign)
        differences.append(None if own is None or first is None else open_rate.compare_rates(own, first))
    return differences


def openers(campaign_stats: CampaignStats) -> tuple[int, int] | None:
    """Returns (visible recipients with an open by a person, visible recipients); see `open_rate` for visible.

    Hidden recipients are left out: a campaign with more of them would seem to have fewer openers, whether
    they read or not. Returns None if there are anonymous opens, because visible recipients may have made
    them.
    """
    _, stats = campaign_stats
    hidden = stats["hidden"]
    if stats["open_rate"] is None or hidden is None or stats["totals"]["opens_anonymous"]:
        return None
    visible = stats["delivered"] - hidden["recipients"]
    return stats["totals"]["unique_opens_person"] - hidden["person"], visible


def bounces(campaign_stats: CampaignStats) -> tuple[int, int] | None:
    """Returns (visits of one view, visits), or None if these are not known.

    Visits of one visitor resemble each other, so a difference in bounces is a rough guide.
    """
    _, stats = campaign_stats
    bounced, visits = stats["totals"].get("bounces"), stats["totals"].get("visits")
    return None if bounced is None or visits is None or bounced > visits else (bounced, visits)
