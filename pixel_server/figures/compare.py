"""Campaigns side by side: their rates, and whether each differs from the first by more than chance. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pixel_server.campaigns.campaign import Campaign
from pixel_server.figures import open_rate

CampaignStats = tuple[Campaign, dict[str, Any]]
"""A campaign, and what `stats.read` returned for it."""
Counts = Callable[[CampaignStats], tuple[int, int] | None]
"""Returns (successes, trials) of a campaign, or None if they are not known."""


def side_by_side(campaigns: Sequence[CampaignStats]) -> dict[str, Any]:
    """Returns the answer of `GET /api/compare`."""
    return {
        "items": [
            {
                "campaign": campaign.id,
                "name": campaign.name,
                "totals": stats["totals"],
                "open_rate": stats["open_rate"],
                "over": stats["over"],
                "closed_at": stats["closed_at"],
                "to_first": difference,
            }
            for (campaign, stats), difference in zip(campaigns, to_first(campaigns, openers), strict=True)
        ],
        "next": None,
    }


def to_first(campaigns: Sequence[CampaignStats], counts: Counts) -> list[open_rate.Difference | None]:
    """Returns how each campaign differs from the first by these counts.

    Returns None for the first, and for a campaign if its counts or the first's are not known.
    """
    first = counts(campaigns[0])
    differences: list[open_rate.Difference | None] = [None]
    for campaign in campaigns[1:]:
        own = counts(campaign)
        differences.append(None if own is None or first is None else open_rate.compare_rates(own, first))
    return differences


def openers(campaign_stats: CampaignStats) -> tuple[int, int] | None:
    """Returns (recipients with an open by a person, recipients), without those whose client hides them.

    Among all delivered, the campaign with more hidden recipients would have fewer openers, read or not.
    Returns None if there are anonymous opens: visible recipients may have made them.
    """
    _, stats = campaign_stats
    hidden = stats["hidden"]
    if stats["open_rate"] is None or hidden is None or stats["totals"]["opens_anonymous"]:
        return None
    visible = stats["delivered"] - hidden["recipients"]
    return stats["totals"]["unique_opens_person"] - hidden["person"], visible


def bounces(campaign_stats: CampaignStats) -> tuple[int, int] | None:
    """Returns (visits of one view, visits), or None if not known.

    Visits of one visitor resemble each other, so a difference in bounces is a rough guide.
    """
    _, stats = campaign_stats
    bounced, visits = stats["totals"].get("bounces"), stats["totals"].get("visits")
    return None if bounced is None or visits is None or bounced > visits else (bounced, visits)
