"""Parts that only the page of a mailing has. `campaign` adds what all campaigns have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pixel_server.api.context import Api
from pixel_server.campaigns.campaign import Campaign
from pixel_server.counters.delivery_record import Kind
from pixel_server.dashboard import formatting, range_picker, svg
from pixel_server.figures import open_rate, sending_ranges
from pixel_server.figures.ranges import Range

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
DELIVERIES: dict[Kind, str] = {
    "delivered": "Reported as delivered",
    "bounced_hard": "Bounced for good",
    "bounced_soft": "Bounced for now",
    "complained": "Reported as spam",
    "unsubscribed": "Unsubscribed",
}
"""Labels of what mail services report."""


def picker(
    api: Api, campaign: Campaign, range_query: Mapping[str, str], period: Range, now: float
) -> dict[str, Any]:
    """Returns the range picker: of ranges since sending if the mailing was sent, else of calendar days."""
    if sending_ranges.is_sent(campaign, now):
        return range_picker.since_sending(api, campaign, range_query, period, now)
    return range_picker.context(range_query, campaign.zone, period, now)


async def context(
    api: Api,
    campaign: Campaign,
    range_query: Mapping[str, str],
    campaign_stats: Mapping[str, Any],
    now: float,
) -> dict[str, Any]:
    """Returns the open rate's bar and texts, and the rows of each dimension.

    The rows are None if this range has no breakdowns.
    """
    opens_by = campaign_stats["opens_person_by"]
    rate = campaign_stats["open_rate"]
    return {
        "delivery_labels": DELIVERIES,
        "is_sent": sending_ranges.is_sent(campaign, now),
        "rate": svg.open_rate_bar(rate),
        "lead": lead(rate),
        "why_no_rate": why_no_rate(campaign_stats) if rate is None else "",
        "why_no_estimate": why_no_estimate(campaign_stats) if rate else "",
        "lists": opens_by and {name: svg.ranked(rows, "opens") for name, rows in opens_by.items()},
    }


def lead(rate: Mapping[str, Any] | None) -> str:
    """Returns the open rate in one figure: `"≈ 34%"`, or `"34.2%"` if it is known exactly.

    Returns "" if there is no rate or no estimate. The figure has a decimal if the whole percent would lie
    outside the certain range.
    """
    if rate is None:
        return ""
    low, high, estimate = rate["low"], rate["high"], rate["estimate"]
    if low == high:
        return formatting.share(low)
    if estimate is None:
        return ""
    is_whole_within = estimate >= 0.1 and low <= round(estimate, 2) <= high
    return "≈ " + (f"{estimate:.0%}" if is_whole_within else formatting.share(estimate))


def why_no_rate(campaign_stats: Mapping[str, Any]) -> str:
    """Returns the reason why there is no open rate, as a sentence."""
    if campaign_stats["totals"]["unique_opens"] is None:
        return "Recipients are not told apart here, so there is no rate. Opens are counted."
    if campaign_stats["over"]:
        return "More recipients opened than mails were delivered: check the number of sent mails."
    if campaign_stats["delivered"] == 0:
        return "No mail was delivered, so there is no rate."
    if campaign_stats["delivered"] is None:
        return "The number of sent mails is not known, so there is no rate."
    return "There is no rate for a range that begins after sending: earlier openers are not in it."


def why_no_estimate(campaign_stats: Mapping[str, Any]) -> str:
    """Returns the reason why an uncertain open rate has no estimate, as a sentence. Returns "" if it has."""
    rate, totals, hidden = (campaign_stats[name] for name in ("open_rate", "totals", "hidden"))
    if rate["estimate"] is not None or rate["low"] == rate["high"]:
        return ""
    if campaign_stats["from"] is not None:
        return "The true rate lies between these. An estimate is made for all time only."
    if totals["opens_anonymous"]:
        return "No estimate is made, because some opens belong to no known recipient."
    if campaign_stats["delivered"] - hidden["recipients"] < open_rate.MIN_VISIBLE:
        return "No estimate is made, because too few recipients have a mail program that shows who reads."
    return "No estimate is made, because recipients with hidden opens read more than others in this campaign."
