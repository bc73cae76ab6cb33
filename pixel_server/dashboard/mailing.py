"""Parts that only the page of a mailing has. `campaign` adds what all campaigns have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pixel_server.api.context import Api
from pixel_server.campaigns.campaign import Campaign
from pixel_server.counters.delivery_record import Kind
from pixel_server.dashboard import curves, formatting, range_picker, svg
from pixel_server.dashboard.glossary import CLASS_LABELS
from pixel_server.figures import open_rate, opening_curve, sending_ranges
from pixel_server.figures.ranges import Range

TEMPLATE = "mailing.html"
COLUMNS = (
    ("opens", "Opens, machines too"),
    ("unique_opens_person", "First opens by people"),
    ("unique_opens", "First opens, machines too"),
)
"""Columns of the table below the chart of opens. The chart draws the first two."""
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
_OF_EACH_MAIL: tuple[Kind, ...] = ("delivered", "bounced_hard", "bounced_soft")
"""Each recipient with a report is in one of these."""
MIN_REPORTED_SHARE = 0.5
"""Smallest share of the sent mails with a report for which the page shows reported deliveries and bounces."""
SOURCES = {
    "given": "entered",
    "deliveries": "reported by the mail service",
    "lists": "recipients with links",
}
"""Words that say where the number of sent mails comes from, by `sent_source`."""


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
    """Returns the open rate, the classes of requests and the breakdowns of a mailing, for its template."""
    rate, whole = campaign_stats["open_rate"], campaign_stats["whole"]
    return {
        "deliveries": deliveries(whole),
        "sent_source": SOURCES.get(whole["sent_source"], ""),
        "is_sent": sending_ranges.is_sent(campaign, now),
        "rate": svg.open_rate_bar(rate),
        "lead": lead(rate),
        "all_time": all_time(whole["open_rate"]),
        "why_no_rate": why_no_rate(whole) if whole["open_rate"] is None else "",
        "why_no_estimate": why_no_estimate(whole) if whole["open_rate"] else "",
        "parts": svg.stack({name: counts["hits"] for name, counts in campaign_stats["verdicts"].items()}),
        "by_whom": _by_whom(campaign_stats["verdicts"]),
        "class_labels": CLASS_LABELS,
        "curve": await _curve(api, campaign, range_query, campaign_stats, now),
        **_lists(campaign_stats["opens_person_by"]),
    }


async def _curve(
    api: Api,
    campaign: Campaign,
    range_query: Mapping[str, str],
    campaign_stats: Mapping[str, Any],
    now: float,
) -> dict[str, Any] | None:
    """Returns {drawn, table} of the opening curve in a range since sending, see `curves`.

    Returns None for other ranges, and if the curve or its shares are not known.
    """
    choice = range_query.get(sending_ranges.PARAMETER)
    if choice is None:
        return None
    is_limited = choice in sending_ranges.DAYS
    hours = 24 * sending_ranges.DAYS[choice] if is_limited else float("inf")
    points = curves.up_to(await opening_curve.read(api.store, campaign, api.settings, now), hours)
    if not points:
        return None
    rate = None if is_limited else campaign_stats["open_rate"]
    return {
        "drawn": [curves.drawn("Opened by people", points, rate, with_high=True)],
        "table": curves.table(points, rate),
    }


def deliveries(whole: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns {says, labels}: sentences on what mail services reported, and the labels of the shown numbers.

    Deliveries and bounces are left out if most mails have no report, because they would contradict the number
    of delivered mails. whole: stats of all time. Returns None if nothing was reported.
    """
    counts, sent, source = whole["deliveries"], whole["sent"], whole["sent_source"]
    if not counts:
        return None
    reported = sum(counts[kind] for kind in _OF_EACH_MAIL)
    is_useful = not sent or source == "deliveries" or reported >= MIN_REPORTED_SHARE * sent
    of_sent = f"{formatting.number(reported)} of " if sent else ""
    says = f"The mail service has reported on {of_sent}{formatting.counted(sent or reported, 'mail')}."
    if source is not None:
        is_entered = whole["bounced"] != counts["bounced_hard"] + counts["bounced_soft"]
        bounced = formatting.counted(whole["bounced"], "bounce")
        says += f" Delivered is {formatting.counted(sent, 'mail')} sent ({SOURCES[source]}), "
        says += f"less {bounced} ({'entered' if is_entered else 'reported'})."
    labels = {kind: text for kind, text in DELIVERIES.items() if is_useful or kind not in _OF_EACH_MAIL}
    return {"says": says, "labels": labels}


def all_time(rate: Mapping[str, Any] | None) -> str:
    """Returns the open rate of all time in a few words: `"≈ 34% (28% to 55%)"`, `"34.2%"`, or ""."""
    if rate is None:
        return ""
    texts = formatting.rate_parts(rate)
    ends = f"{texts['low']} to {texts['high']}"
    if rate["low"] == rate["high"]:
        return texts["low"]
    return ends if rate["estimate"] is None else f"{lead(rate)} ({ends})"


def _by_whom(verdicts: Mapping[str, Mapping[str, int | None]]) -> dict[str, int]:
    """Returns the number of requests by people, by machines, own, unknown, and of all."""
    hits = {name: counts["hits"] or 0 for name, counts in verdicts.items()}
    return {
        "people": hits["person"] + hits["proxy"],
        "machines": hits["prefetch"] + hits["scanner"],
        "own": hits["own"],
        "unknown": hits["unknown"],
        "all": sum(hits.values()),
    }


def _lists(opens_by: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns {lists, bases, rests}: the rows of each dimension, the opens that they divide, and `svg.rest`.

    `lists` is None if this range has no breakdowns.
    """
    if opens_by is None:
        return {"lists": None, "bases": {}, "rests": {}}
    return {
        "lists": {name: svg.ranked(rows, "opens") for name, rows in opens_by.items()},
        "rests": {name: svg.rest(rows, "opens") for name, rows in opens_by.items()},
        "bases": {name: sum(row["opens"] for row in rows) for name, rows in opens_by.items()},
    }


def lead(rate: Mapping[str, Any] | None) -> str:
    """Returns the open rate in one figure: `"≈ 34%"`, or `"34.2%"` if it is known exactly.

    Returns "" if the rate or the estimate is not known.
    """
    if rate is None:
        return ""
    texts = formatting.rate_parts(rate)
    if rate["low"] == rate["high"]:
        return texts["low"]
    return "" if rate["estimate"] is None else f"≈ {texts['estimate']}"


def why_no_rate(campaign_stats: Mapping[str, Any]) -> str:
    """Returns the reason why a mailing has no open rate, as a sentence. campaign_stats: of all time."""
    if campaign_stats["totals"]["unique_opens"] is None:
        return "Recipients are not told apart here, so there is no rate. Opens are counted."
    if campaign_stats["over"]:
        return "More recipients opened than mails were delivered: check the number of sent mails."
    if campaign_stats["delivered"] == 0:
        return "No mail was delivered, so there is no rate."
    return "The number of sent mails is not known, so there is no rate."


def why_no_estimate(campaign_stats: Mapping[str, Any]) -> str:
    """Returns the reason why an uncertain open rate has no estimate, as a sentence. Returns "" if it has.

    campaign_stats: of all time.
    """
    rate, totals, hidden = (campaign_stats[name] for name in ("open_rate", "totals", "hidden"))
    if rate["estimate"] is not None or rate["low"] == rate["high"]:
        return ""
    if totals["opens_anonymous"]:
        return "No estimate is made, because some opens belong to no known recipient."
    if campaign_stats["delivered"] - hidden["recipients"] < open_rate.MIN_VISIBLE:
        return "No estimate is made, because too few recipients have a mail program that shows who reads."
    return "No estimate is made, because recipients with hidden opens read more than others in this campaign."
