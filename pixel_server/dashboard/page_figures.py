"""The figures that a campaign's page shows."""

from __future__ import annotations

from typing import Any

from pixel_server.api.context import Api
from pixel_server.campaigns import storage
from pixel_server.campaigns.campaign import Campaign, Uses
from pixel_server.dashboard import figure_texts
from pixel_server.figures import ranges, stats
from pixel_server.figures.ranges import Range

_OF_ALL_TIME = ("over", "hidden")


def is_waiting(campaign: Campaign, uses: Uses) -> bool:
    """Returns whether a campaign waits for its first counted request."""
    return not uses.first_hit and campaign.closed_at is None


async def is_never_counted(api: Api, campaign: Campaign) -> bool:
    """Returns what `is_waiting` returns, for pages that have not read the campaign's uses."""
    return is_waiting(campaign, (await storage.get_uses(api.store, campaign.id))[1])


async def read(api: Api, campaign: Campaign, period: Range, now: float) -> dict[str, Any]:
    """Returns the stats of a range, without the figures of a mailing that mislead in it.

    The open rate of a mailing is that of the range. It is None in a range that begins after sending, because
    earlier openers are not in it, and if that of all time is not known. `whole` has the stats of all time. If
    a range of whole days is shown by hours, its totals are read from the days: the number of visitors and the
    breakdowns of opens are stored for days only.
    """
    in_range = await _read_range(api, campaign, period, now)
    if campaign.kind == "web" or period.is_all_time:
        return {**in_range, "whole": in_range}
    all_time = ranges.parse({"tz": period.zone.key}, campaign.time_zone, now)
    whole = await stats.read(api.store, campaign, all_time, api.settings, now)
    if whole["open_rate"] is None:
        in_range["open_rate"] = None
    return {**in_range, **{name: whole[name] for name in _OF_ALL_TIME}, "whole": whole}


async def _read_range(api: Api, campaign: Campaign, period: Range, now: float) -> dict[str, Any]:
    by_interval = await stats.read(api.store, campaign, period, api.settings, now)
    by_interval = figure_texts.without_misleading(by_interval, campaign, period)
    whole_days = ranges.by_days(period)
    if period.is_all_time or whole_days in (None, period) or period.zone.key != campaign.time_zone:
        return by_interval
    by_day = await stats.read(api.store, campaign, whole_days, api.settings, now)
    by_day = figure_texts.without_misleading(by_day, campaign, whole_days)
    return {**by_day, **{name: by_interval[name] for name in ("interval", "series", "notes")}}
