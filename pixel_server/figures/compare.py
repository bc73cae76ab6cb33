"""Compares campaigns: their rates, and whether each rate differs from the first by more than chance. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Literal

from pixel_server.campaigns.campaign import Campaign
from pixel_server.figures import open_rate
from pixel_server.figures.opening_curve import Point

CampaignStats = tuple[Campaign, dict[str, Any]]
"""A campaign, and what `stats.read` returned for it."""
Counts = Callable[[CampaignStats], tuple[int, int] | None]
"""Function that returns (successes, trials) of a campaign, or None if they are not known."""

MIN_DELIVERED = 30
"""Smallest number of delivered mails with which a mailing is compared. With fewer, a difference of 30 points
can be chance."""
NotCompared = Literal[
    "not_a_mailing",
    "too_few_mails",
    "no_open_rate",
    "sent_at_not_set",
    "not_sent_yet",
    "anonymous_opens",
    "hidden_in_range",
    "too_few_visible",
]
"""Reason why a campaign is not compared with others."""


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
            "not_compared": why_not_compared((campaign, stats)),
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
    they read or not. Returns None if there is a reason not to compare the campaign.
    """
    if why_not_compared(campaign_stats) is not None:
        return None
    _, stats = campaign_stats
    hidden = stats["hidden"]
    visible_openers = stats["totals"]["unique_opens_person"] - hidden["person"]
    return visible_openers, stats["delivered"] - hidden["recipients"]


def why_not_compared(campaign_stats: CampaignStats) -> NotCompared | None:
    """Returns the first reason not to compare the opens of a campaign with other campaigns, or None.

    Without a time of sending it is not known whether the mailing was sent. Visible recipients (see
    `open_rate`) may have made anonymous opens. If few recipients are visible, the campaign has no estimate.
    """
    campaign, stats = campaign_stats
    if campaign.kind == "web":
        return "not_a_mailing"
    delivered, hidden = stats["delivered"] or 0, stats["hidden"]
    reasons: dict[NotCompared, bool] = {
        "too_few_mails": stats["delivered"] is not None and delivered < MIN_DELIVERED,
        "no_open_rate": stats["open_rate"] is None,
        "sent_at_not_set": campaign.sent_at is None,
        "not_sent_yet": (campaign.sent_at or 0) > datetime.fromisoformat(stats["as_of"]).timestamp(),
        "anonymous_opens": bool(stats["totals"].get("opens_anonymous")),
        "hidden_in_range": hidden is None,
        "too_few_visible": delivered - (hidden["recipients"] if hidden else 0) < open_rate.MIN_VISIBLE,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def bounces(campaign_stats: CampaignStats) -> tuple[int, int] | None:
    """Returns (visits of one view, visits), or None if these are not known.

    Visits of one visitor resemble each other, so a difference in bounces is a rough guide.
    """
    _, stats = campaign_stats
    bounced, visits = stats["totals"].get("bounces"), stats["totals"].get("visits")
    return None if bounced is None or visits is None or bounced > visits else (bounced, visits)
