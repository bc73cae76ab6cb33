"""The opening curve of a mailing: how many recipients had opened it by each time since sending.

The first HOURS are read from 15-minute series, and have a point for each hour after the quarter of an hour in
which the mails were sent. Later points are the ends of local days. Once the 15-minute series are removed, the
curve has days only.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, TypedDict

from pixel_server.campaigns.campaign import Campaign
from pixel_server.counters.series import BUCKET_SECONDS
from pixel_server.figures import ranges, stats
from pixel_server.figures.ranges import Range
from pixel_server.settings import Settings
from pixel_server.store.protocols import AsyncRedis
from pixel_server.times import DAY

HOURS = 48
"""Number of hours after sending that have a point each."""
DAYS = 30
"""Number of days after sending in which the curve lies."""
_HOUR = 3600
_BUCKETS_PER_HOUR = _HOUR // BUCKET_SECONDS
_COUNT = "unique_opens_person"


class Point(TypedDict):
    """The state of a mailing at a time. hours: time since sending.

    unique_opens_person: recipients whose first open by a person came before. share: their share of the
    delivered mails, None if that is not known.
    """

    hours: float
    unique_opens_person: int
    share: float | None


async def read(store: AsyncRedis, campaign: Campaign, settings: Settings, now: float) -> list[Point] | None:
    """Returns the opening curve. now: seconds.

    Returns None for a web campaign, if the time of sending is not set or lies ahead, and if the campaign does
    not tell recipients apart.
    """
    if campaign.kind != "email" or campaign.sent_at is None or campaign.sent_at >= now:
        return None
    sent_at = campaign.sent_at // BUCKET_SECONDS * BUCKET_SECONDS
    by_day = await stats.read(store, campaign, _days(campaign, sent_at, now), settings, now)
    by_bucket = await stats.read(store, campaign, _first_hours(campaign, sent_at, now), settings, now)
    counts = _points_by_hour([item[_COUNT] for item in by_bucket["series"]], (now - sent_at) / _HOUR)
    after = counts[-1][0] if counts else 0.0
    counts += [
        (hours, count)
        for hours, count in _points_by_day(by_day["series"], sent_at, now)
        if after < hours <= DAYS * 24
    ]
    return _with_shares(counts, by_day["delivered"]) if counts else None


def _days(campaign: Campaign, sent_at: int, now: float) -> Range:
    """Returns the local days from the day of sending to now, or to the end of the curve."""
    last = datetime.fromtimestamp(min(now, sent_at + DAYS * DAY), campaign.zone).date()
    first = datetime.fromtimestamp(sent_at, campaign.zone).date()
    start, end = (ranges.midnight(day, campaign.zone) for day in (first, last + timedelta(days=1)))
    return Range(start, end, "day", campaign.zone, is_all_time=False)


def _first_hours(campaign: Campaign, sent_at: int, now: float) -> Range:
    """Returns the buckets of the first hours after sending."""
    end = min(sent_at + HOURS * _HOUR, -(-int(now) // BUCKET_SECONDS) * BUCKET_SECONDS)
    return Range(sent_at, max(end, sent_at + BUCKET_SECONDS), "15m", campaign.zone, is_all_time=False)


def _points_by_hour(buckets: Sequence[int | None], age_hours: float) -> list[tuple[float, int]]:
    """Returns (hours since sending, sum of all buckets before). Returns [] if a bucket is not known.

    buckets: counts of 15 minutes each. age_hours: time from sending to now. The last point is not after it.
    """
    if not buckets or None in buckets:
        return []
    points, count = [], 0
    for first in range(0, len(buckets), _BUCKETS_PER_HOUR):
        count += sum(bucket or 0 for bucket in buckets[first : first + _BUCKETS_PER_HOUR])
        points.append((min(float(first // _BUCKETS_PER_HOUR + 1), round(age_hours, 2)), count))
    return points


def _points_by_day(series: Sequence[dict[str, Any]], sent_at: int, now: float) -> list[tuple[float, int]]:
    """Returns (hours from sending to the end of the day or to now, sum of all days before)."""
    points: list[tuple[float, int]] = []
    count = 0
    starts = [datetime.fromisoformat(item["start"]).timestamp() for item in series]
    for item, end in zip(series, [*starts[1:], float("inf")], strict=True):
        if item[_COUNT] is None:
            return []
        count += item[_COUNT]
        points.append((round((min(end, now, sent_at + DAYS * DAY) - sent_at) / _HOUR, 2), count))
    return points


def _with_shares(counts: Sequence[tuple[float, int]], delivered: int | None) -> list[Point]:
    return [
        Point(
            hours=hours, unique_opens_person=count, share=round(count / delivered, 6) if delivered else None
        )
        for hours, count in counts
    ]


def share_at(points: Sequence[Point], hours: float) -> float | None:
    """Returns the share at a time since sending, between two points by a straight line.

    Returns None before the first point (but 0 hours have the share 0), after the last point, and if shares
    are not known.
    """
    before: tuple[float, float] | None = None
    for point in points:
        share = point["share"]
        if share is None:
            return None
        if point["hours"] >= hours:
            if point["hours"] == hours:
                return share
            if before is None:
                return None
            part = (hours - before[0]) / (point["hours"] - before[0])
            return before[1] + part * (share - before[1])
        before = point["hours"], share
    return None
