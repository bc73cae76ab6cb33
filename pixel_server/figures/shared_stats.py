"""The figures of one campaign for a shared key: the figures of `stats`, limited by `disclosure`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pixel_server.campaigns import retention
from pixel_server.campaigns.campaign import Campaign
from pixel_server.counters import labels, open_breakdown
from pixel_server.figures import disclosure, stats
from pixel_server.figures.web_breakdowns import by_day, kind_of, refuse_mail, rows
from pixel_server.settings import Settings
from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis


async def read(
    store: AsyncRedis,
    campaign: Campaign,
    query: Mapping[str, str],
    settings: Settings,
    late_since: int | None,
    now: float,
) -> dict[str, Any]:
    """Returns the response to `GET /api/campaigns/{id}/stats` for a shared key.

    late_since: time of the oldest hit in the spool (ms), or None. Raises Problem 403 if the range is not
    shared, or 422 if it is bad.
    """
    oldest = retention.oldest_day(campaign, retention.campaign_days(settings, campaign).days, now)
    time_range = disclosure.parse(query, campaign, oldest, now)
    answer = await stats.read(store, campaign, time_range, settings, now)
    counted_until = datetime.fromisoformat(answer["as_of"]).timestamp()
    until = min([now, counted_until, *([] if late_since is None else [late_since / 1000])])
    shown = disclosure.figures(answer, campaign, time_range, until)
    if campaign.kind == "web":
        return shown
    if answer["opens_person_by"] is None:
        return {**shown, "opens_person_by": None}
    whole = disclosure.wholes(shown, campaign.kind)
    days = await _clients(store, campaign.id, sorted(whole), settings.shards)
    published = [disclosure.publish(days[day], campaign.min_cell, whole[day]) for day in sorted(whole)]
    ranked = disclosure.ranked(disclosure.add_up(published), stats.MAX_NAMES)
    clients = [{"name": name, "opens": opens} for name, (opens, _) in ranked]
    return {**shown, "opens_person_by": {"client": clients}}


async def breakdowns(
    store: AsyncRedis,
    campaign: Campaign,
    query: Mapping[str, str],
    dimensions: list[str],
    settings: Settings,
    late_since: int | None,
    now: float,
) -> dict[str, Any]:
    """Returns the response to `GET /api/campaigns/{id}/breakdowns` for a shared key.

    Raises Problem 403 if a dimension or the range is not shared, 422 if one of them is bad, and 409 for mail.
    """
    disclosure.check(dimensions)
    refuse_mail(campaign)
    shown = await read(store, campaign, query, settings, late_since, now)
    return {
        **{name: shown[name] for name in ("campaign", "from", "to", "time_zone")},
        "by": await by_dimension(store, campaign, shown, dimensions, settings.shards),
    }


async def by_dimension(
    store: AsyncRedis, campaign: Campaign, shown: Mapping[str, Any], dimensions: list[str], shards: int
) -> dict[str, list[dict[str, Any]]]:
    """Returns the breakdowns of a web campaign over its published days. shown: from `read`."""
    whole = disclosure.wholes(shown, campaign.kind)
    days = {
        day: {
            dimension: {name: (views, visits) for name, (views, visits) in by_name.items()}
            for dimension, by_name in counts.items()
        }
        async for day, counts in by_day(store, campaign.id, sorted(whole), dimensions, shards)
    }
    published = disclosure.breakdowns(days, whole, campaign.min_cell, kind_of)
    return {dimension: rows(published.get(dimension, {})) for dimension in dimensions}


async def _clients(
    store: AsyncRedis, campaign: str, days: list[str], shards: int
) -> dict[str, dict[str, disclosure.Cell]]:
    """Returns the opens by people, by day (`"20261124"`) and mail client. A cell is (opens, opens)."""
    months = sorted({day[:6] for day in days})
    if not months:
        return {}
    pipe = store.pipeline(transaction=False)
    for shard in range(shards):
        pipe.hmget(keys.breakdown(shard, campaign), months)
    opens: dict[str, Counter[str]] = {day: Counter() for day in days}
    for values in await pipe.execute():
        unpacked = {month: open_breakdown.unpack(value) for month, value in zip(months, values, strict=True)}
        for day in days:
            opens[day].update(unpacked[day[:6]].get(int(day[6:]), {}))
    return {
        day: {label[1:]: (n, n) for label, n in counts.items() if label[0] == labels.CLIENT}
        for day, counts in opens.items()
    }
