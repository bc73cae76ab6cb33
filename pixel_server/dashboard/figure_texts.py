"""Formats the figures of a campaign, and their changes since the previous period, as texts.

Each text has its figure's path in the stats as key, such as `totals.opens`. The page of a campaign, its live
events and the comparison show the same texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

from pixel_server.api.context import Api
from pixel_server.campaigns.campaign import Campaign
from pixel_server.dashboard import formatting
from pixel_server.figures import ranges, sending_ranges, stats, web_breakdowns
from pixel_server.figures.ranges import Range

_SHARES = ("bounce_share",)
_DURATIONS = ("time_to_open", "time_on_page", "time_of_visit")
_QUARTILES = ("quartile_1", "median", "quartile_3")


def texts_of(campaign_stats: Mapping[str, Any]) -> dict[str, str]:
    """Returns the text of each figure by its path in the stats: `{"totals.opens": "1,204"}`."""
    texts = {path: _text(path, value) for path, value in _values(campaign_stats)}
    rate = campaign_stats["open_rate"]
    texts.update({f"open_rate.{part}": text for part, text in formatting.rate_parts(rate).items()})
    for name in ("unique_opens_person", "unique_opens"):
        is_single = campaign_stats["totals"].get(name) == 1
        texts[f"unit.{name}"] = "recipient" if is_single else "recipients"
    for name in _DURATIONS:
        for part in _QUARTILES:
            texts.setdefault(f"{name}.{part}", formatting.UNKNOWN)
    return {**texts, "as_of": formatting.instant(campaign_stats["as_of"], campaign_stats["time_zone"])}


def without_misleading(
    campaign_stats: Mapping[str, Any], campaign: Campaign, period: Range
) -> dict[str, Any]:
    """Returns the stats without the figures of a mailing that mislead in this period.

    - A limited period has no time to open: late openers are not in it, or only late openers are.
    - A limited period that begins after sending has no open rate, because earlier openers are not in it.
    """
    if campaign.kind == "web" or period.is_all_time:
        return dict(campaign_stats)
    shown = {**campaign_stats, "time_to_open": None}
    return shown if sending_ranges.includes_sending(campaign, period) else {**shown, "open_rate": None}


class Changes(NamedTuple):
    """Changes of a campaign's figures since the previous period.

    texts: the change of each figure by its path in the stats: `{"totals.views": "+6.1%"}`. not_before: start
    (s) of the first day with figures if the previous period begins before it; then nothing is compared.
    without_today: whether today, which is not over, is left out on both sides.
    """

    texts: dict[str, str]
    not_before: int | None = None
    without_today: bool = False


async def changes(
    api: Api, campaign: Campaign, period: Range, campaign_stats: Mapping[str, Any], now: float
) -> Changes:
    """Returns the changes since the previous period of the same length.

    Has no changes if the period is all time or only today, or if the previous period has no hits. A mailing
    has none either: its opens become fewer each day after sending, so every period would show a fall.
    """
    compared = _without_today(period, now)
    if campaign.kind == "email" or compared is None:
        return Changes({})
    period_before = _previous(compared)
    first = await web_breakdowns.first_day(api.store, campaign, api.settings, now)
    if first and period_before.start < (start := ranges.midnight(first, campaign.zone)):
        return Changes({}, start)
    before = await stats.read(api.store, campaign, period_before, api.settings, now)
    if not before["totals"]["hits"]:
        return Changes({})
    if compared is not period:
        campaign_stats = await stats.read(api.store, campaign, compared, api.settings, now)
    values_before = dict(_values(before))
    texts = {
        path: (formatting.points if path in _SHARES else formatting.change)(value, values_before.get(path))
        for path, value in _values(campaign_stats)
    }
    changed = {path: change for path, change in texts.items() if change}
    return Changes(changed, without_today=compared is not period)


def _without_today(period: Range, now: float) -> Range | None:
    """Returns the part of a period before today, or None if the period begins today or is all time.

    Returns the period itself if it ends before now.
    """
    if period.is_all_time:
        return None
    if period.end <= now:
        return period
    today = datetime.fromtimestamp(now, period.zone).date()
    end = ranges.midnight(today, period.zone)
    return replace(period, end=end) if end > period.start else None


def _previous(period: Range) -> Range:
    """Returns the period of the same length before this period, counted in days if `interval` is `day`."""
    if period.interval != "day":
        return Range(2 * period.start - period.end, period.start, period.interval, period.zone, False)
    first = date.fromisoformat(ranges.show(period.start, period.zone)[:10])
    start = ranges.midnight(first - timedelta(days=len(period.starts())), period.zone)
    return Range(start, period.start, "day", period.zone, False)


def _values(campaign_stats: Mapping[str, Any]) -> Iterator[tuple[str, float | None]]:
    """Yields each path with its value: `("verdicts.person.hits", 12)`."""
    for name in ("sent", "bounced", "delivered", "bounce_share"):
        yield name, campaign_stats[name]
    for name, value in (campaign_stats["deliveries"] or {}).items():
        yield f"deliveries.{name}", value
    for name, value in campaign_stats["totals"].items():
        yield f"totals.{name}", value
    for name, counts in campaign_stats["verdicts"].items():
        for count, value in counts.items():
            yield f"verdicts.{name}.{count}", value
    for name in _DURATIONS:
        for part, value in (campaign_stats[name] or {}).items():
            yield f"{name}.{part}", value


def _text(path: str, value: float | None) -> str:
    if path in _SHARES:
        return formatting.share(value)
    if path.startswith("time_") and path.rpartition(".")[2] in _QUARTILES:
        return formatting.span(value)
    return formatting.number(value)
