"""The opening curve of a mailing: how many recipients had opened it by each time since sending.

The first HOURS are read from 15-minute series, and have a point for each hour after the quarter of an hour in
which the mails were sent. Later points are the ends of local days. Once the 15-minute series are removed, the
curve has days only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple, TypedDict

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
_ANY = ("unique_opens", "opens_anonymous")
"""Counts of the series that are at most one more opener each."""


class Point(TypedDict):
    """The state of a mailing at a time. hours: time since sending.

    unique_opens_person: recipients whose first open by a person came before. share: their share of the
    delivered mails. high: the share of the delivered mails with any open, as `open_rate.high`. Shares are
    None if they are not known.
    """

    hours: float
    unique_opens_person: int
    share: float | None
    high: float | None


class _Openers(NamedTuple):
    """Openers up to a time. person: by a person. any: with any open, and anonymous opens."""

    person: int
    any: int

    def and_of(self, interval: Mapping[str, Any]) -> _Openers:
        """Returns these and the openers of an interval of the series of `stats`."""
        person = self.person + interval["unique_opens_person"]
        return _Openers(person, self.any + sum(interval[name] for name in _ANY))


_TimedOpeners = tuple[float, _Openers]
"""Hours since sending, and the openers up to then."""


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
    counts = _points_by_hour(by_bucket["series"], (now - sent_at) / _HOUR)
    after = counts[-1][0] if counts else 0.0
    counts += [
        (hours, openers)
        for hours, openers in _points_by_day(by_day["series"], sent_at, now)
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


def _points_by_hour(buckets: Sequence[dict[str, Any]], age_hours: float) -> list[_TimedOpeners]:
    """Returns the openers at the end of each hour. Returns [] if a bucket is not known.

    buckets: intervals of 15 minutes. age_hours: time from sending to now. The last point is not after it.
    """
    if not buckets or not all(map(_is_known, buckets)):
        return []
    points, openers = [], _Openers(0, 0)
    for first in range(0, len(buckets), _BUCKETS_PER_HOUR):
        for bucket in buckets[first : first + _BUCKETS_PER_HOUR]:
            openers = openers.and_of(bucket)
        points.append((min(float(first // _BUCKETS_PER_HOUR + 1), round(age_hours, 2)), openers))
    return points


def _points_by_day(series: Sequence[dict[str, Any]], sent_at: int, now: float) -> list[_TimedOpeners]:
    """Returns the openers at the end of each day, or now. Returns [] if a day is not known."""
    if not all(map(_is_known, series)):
        return []
    points: list[_TimedOpeners] = []
    openers = _Openers(0, 0)
    starts = [datetime.fromisoformat(item["start"]).timestamp() for item in series]
    for item, end in zip(series, [*starts[1:], float("inf")], strict=True):
        openers = openers.and_of(item)
        points.append((round((min(end, now, sent_at + DAYS * DAY) - sent_at) / _HOUR, 2), openers))
    return points


def _is_known(interval: Mapping[str, Any]) -> bool:
    return interval["unique_opens_person"] is not None


def _with_shares(points: Sequence[_TimedOpeners], delivered: int | None) -> list[Point]:
    return [
        Point(
            hours=hours,
            unique_opens_person=openers.person,
            share=round(openers.person / delivered, 6) if delivered else None,
            high=round(min(1, max(openers) / delivered), 6) if delivered else None,
        )
        for hours, openers in points
    ]


def share_at(points: Sequence[Point], hours: float, name: Literal["share", "high"] = "share") -> float | None:
    """Returns a share at a time since sending, between two points by a straight line.

    Returns None before the first point (but 0 hours have the share 0), after the last point, and if shares
    are not known.
    """
    before: tuple[float, float] | None = None
    for point in points:
        share = point[name]
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
