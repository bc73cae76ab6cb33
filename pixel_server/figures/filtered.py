"""Filtered figures of a site, estimated from the sample of its visits (`counters.visit_sample`).

The visits of a day in the sample are a uniform sample of all visits of the day. So each stands for as many
visits as the day's visits divided by those in the sample: its weight. A day whose visits are all in the
sample has the weight 1, and its figures are exact.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from math import sqrt
from typing import Any, NamedTuple

from pixel_server.campaigns import retention
from pixel_server.campaigns.campaign import Campaign
from pixel_server.consent import Consent
from pixel_server.counters import series, visit_sample
from pixel_server.counters.visit_sample import SampledVisit
from pixel_server.counters.web_breakdown import PAGE
from pixel_server.figures import ranges, stats, totals, visit_filters, web_breakdowns
from pixel_server.figures.ranges import Range
from pixel_server.figures.visit_filters import NAME_OF, Filters
from pixel_server.problems import Problem
from pixel_server.settings import Settings
from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis
from pixel_server.times import DAY

ESTIMATE = {"method": "sample of visits"}
FIGURES = ("views", "visits", "bounces")
"""Totals that can be filtered."""
_UNKNOWN = (
    *("sent", "sent_source", "bounced", "delivered", "deliveries"),
    *("rules", "rulesets", "opens_person_by", "time_to_open", "time_on_page"),
    *("open_rate", "hidden", "clipped"),
)
"""Fields of stats that no sample knows."""
_BATCH_RECORDS = 4000
"""Number of records read in one round trip, about. Decoding them takes some 10 ms."""
_Z = 1.96
"""Standard errors to each side of an estimate within which 95 % of all estimates lie."""


class _Day(NamedTuple):
    """The sample of a local day. visits: number of visits of the day. records: those below the limit."""

    visits: int
    records: list[SampledVisit]


@dataclass(slots=True)
class FilteredVisits:
    """The sums over the visits that pass the filters, each with its weight.

    first_day: start (s) of the first day in the range of which a sample can be kept. sampled, of: number of
    records read, and of all visits of their days. selected: number of records that pass the filters.
    days_without: starts (s) of the days that have visits and no sample. sums: by name in FIGURES.
    by_interval: the same, by place of the interval in the range. by: [views, visits] by dimension and name.
    seconds: visits by duration; those of one hit are left out. variance: square of the standard error of the
    number of visits. squares: sum of the squares of the weights.
    """

    first_day: int
    sampled: int = 0
    of: int = 0
    selected: int = 0
    days_without: list[int] = field(default_factory=list)
    sums: Counter[str] = field(default_factory=Counter)
    by_interval: dict[int, Counter[str]] = field(default_factory=dict)
    by: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    seconds: Counter[int] = field(default_factory=Counter)
    variance: float = 0
    squares: float = 0

    @property
    def is_exact(self) -> bool:
        return self.sampled == self.of

    def add(self, record: SampledVisit, weight: float, interval: int, dimensions: Sequence[str]) -> None:
        views = record.views
        self.selected += 1
        self.variance += weight * (weight - 1)
        self.squares += weight * weight
        for sums in (self.sums, self.by_interval.setdefault(interval, Counter())):
            sums["visits"] += weight  # type: ignore[assignment]
            sums["views"] += weight * views  # type: ignore[assignment]
            sums["bounces"] += weight * (views == 1)  # type: ignore[assignment]
        if record.seconds:
            self.seconds[record.seconds] += weight  # type: ignore[assignment]
        for dimension in dimensions:
            if dimension != PAGE:
                _count(self.by[dimension], NAME_OF[dimension](record), weight * views, weight)
                continue
            for place, (page, page_views) in enumerate(record.pages.items()):
                _count(self.by[PAGE], page, weight * page_views, 0 if place else weight)

    def to_json(self) -> dict[str, Any]:
        """Returns the facts about the sample, the field `sample` of an answer."""
        whole = self.sums["visits"]
        effective = whole * whole / self.squares if self.squares else 0
        share_error = 0.5 * _Z / sqrt(effective) if effective else None
        return {
            "visits": self.sampled,
            "of": self.of,
            "selected": self.selected,
            "visits_error": 0 if self.is_exact else round(_Z * sqrt(self.variance)),
            "share_error": 0.0 if self.is_exact else share_error and round(share_error, 4),
            "days_without": len(self.days_without),
        }


def _count(names: dict[str, list[float]], name: str, views: float, visits: float) -> None:
    counts = names.setdefault(name, [0, 0])
    counts[0] += views
    counts[1] += visits


async def read(
    store: AsyncRedis,
    campaign: Campaign,
    time_range: Range,
    filters: Filters,
    dimensions: Sequence[str],
    settings: Settings,
    now: float,
) -> FilteredVisits:
    """Returns the visits of a range that pass the filters, by these dimensions.

    Raises Problem 409 as `require_visits`.
    """
    require_visits(campaign, settings)
    kept_days = min(retention.campaign_days(settings, campaign).days, visit_sample.KEPT_DAYS)
    oldest = datetime.strptime(retention.oldest_day(campaign, kept_days, now), "%Y%m%d").date()
    first = max(oldest, datetime.fromtimestamp(time_range.start, campaign.zone).date())
    end = min(time_range.end, int(now) + 2 * DAY)  # later days are empty
    last = datetime.fromtimestamp(end - 1, campaign.zone).date()
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    found = FilteredVisits(ranges.midnight(first, campaign.zone), by={name: {} for name in dimensions})
    starts = time_range.starts()
    async for day, of_day in _read_days(store, campaign.id, days, settings):
        if not of_day.records:
            if of_day.visits:
                found.days_without.append(ranges.midnight(day, campaign.zone))
            continue
        visits = max(of_day.visits, len(of_day.records))
        found.sampled += len(of_day.records)
        found.of += visits
        weight = visits / len(of_day.records)
        for record in of_day.records:
            at = record.bucket * series.BUCKET_SECONDS
            if time_range.start <= at < time_range.end and visit_filters.matches(record, filters):
                found.add(record, weight, bisect_right(starts, at) - 1, dimensions)
    return found


def require_visits(campaign: Campaign, settings: Settings) -> None:
    """Raises Problem 409 if the campaign does not tell visitors apart, so that it has no visits."""
    if not totals.tells_people_apart(campaign, Consent(settings)):
        raise Problem(409, "filters need visits, and the mode of this campaign does not tell visitors apart")


async def _read_days(
    store: AsyncRedis, campaign: str, days: Sequence[date], settings: Settings
) -> AsyncIterator[tuple[date, _Day]]:
    """Yields each day with its sample. Always reads the shards: samples are not merged."""
    batch_days = max(1, _BATCH_RECORDS // max(settings.visit_sample, visit_sample.MIN_SIZE * settings.shards))
    for i in range(0, len(days), batch_days):
        batch = days[i : i + batch_days]
        months = sorted({f"{day:%Y%m}" for day in batch})
        pipe = store.pipeline(transaction=False)
        for shard in range(settings.shards):
            pipe.hmget(keys.months(shard, campaign), months)
            for day in batch:
                pipe.hgetall(keys.sample(shard, campaign, f"{day:%Y%m%d}"))
        replies = iter(await pipe.execute())
        visits: Counter[date] = Counter()
        fields: dict[date, dict[bytes, bytes]] = {day: {} for day in batch}
        for _ in range(settings.shards):
            cells = dict(zip(months, map(series.unpack, next(replies)), strict=True))
            for day in batch:
                cell = cells[f"{day:%Y%m}"].get(day.day, [])
                visits[day] += cell[series.VISITS] if len(cell) > series.VISITS else 0
                fields[day] |= next(replies)
        for day in batch:
            yield day, _Day(visits[day], _below_limit(fields[day]))


def _below_limit(fields: Mapping[bytes, bytes]) -> list[SampledVisit]:
    limit = visit_sample.limit_of(fields)
    return [
        visit_sample.unpack(value)
        for name, value in fields.items()
        if visit_sample.is_number(name) and (limit is None or name < limit)
    ]


async def read_breakdowns(
    store: AsyncRedis,
    campaign: Campaign,
    time_range: Range,
    filters: Filters,
    dimensions: Sequence[str],
    settings: Settings,
    now: float,
) -> dict[str, Any]:
    """Returns the response to `GET /api/campaigns/{id}/breakdowns` with filters.

    Raises Problem 409 as `read` and `web_breakdowns.read`.
    """
    web_breakdowns.require_local_days(campaign, time_range)
    found = await read(store, campaign, time_range, filters, dimensions, settings, now)
    return {
        "campaign": campaign.id,
        "from": ranges.show(max(time_range.start, found.first_day), time_range.zone),
        "to": ranges.show(time_range.end, time_range.zone),
        "time_zone": time_range.zone.key,
        "by": breakdowns(found),
        "sample": found.to_json(),
    }


def breakdowns(found: FilteredVisits) -> dict[str, list[dict[str, Any]]]:
    """Returns the rows of each dimension, as `web_breakdowns.rows`."""
    return {
        dimension: web_breakdowns.rows(
            {name: [round(views), round(visits)] for name, (views, visits) in names.items()}
        )
        for dimension, names in found.by.items()
    }


async def read_stats(
    store: AsyncRedis,
    campaign: Campaign,
    time_range: Range,
    filters: Filters,
    settings: Settings,
    now: float,
) -> dict[str, Any]:
    """Returns the response to `GET /api/campaigns/{id}/stats` with filters. Raises Problem 409 as `read`."""
    found = await read(store, campaign, time_range, filters, (), settings, now)
    return as_stats(await stats.read(store, campaign, time_range, settings, now), time_range, found)


def as_stats(all_visits: Mapping[str, Any], time_range: Range, found: FilteredVisits) -> dict[str, Any]:
    """Returns the stats of the filtered visits. A figure that the sample does not know is null.

    all_visits: the stats of the range without filters.
    """
    is_known = time_range.end > found.first_day and (found.sampled > 0 or not found.days_without)
    sums = {name: round(found.sums[name]) for name in FIGURES} if is_known else {}
    zone = time_range.zone
    times = _quartiles(found.seconds)
    return {
        **all_visits,
        **dict.fromkeys(_UNKNOWN),
        "from": ranges.show(max(time_range.start, found.first_day), zone),
        "to": ranges.show(time_range.end, zone),
        "totals": {**dict.fromkeys(all_visits["totals"]), **sums},
        "verdicts": {name: {"hits": None, "recipients": None} for name in all_visits["verdicts"]},
        "time_of_visit": times,
        "bounce_share": round(found.sums["bounces"] / found.sums["visits"], 4) if found.selected else None,
        "over": False,
        "series": _series(all_visits["series"], time_range, found),
        "estimates": {} if found.is_exact else dict.fromkeys(FIGURES, ESTIMATE),
        "sample": found.to_json(),
    }


def _series(
    items: Sequence[Mapping[str, Any]], time_range: Range, found: FilteredVisits
) -> list[dict[str, Any]]:
    """Returns the intervals with the filtered figures. All are None where there is no sample."""
    without = {ranges.show(at, time_range.zone)[:10] for at in found.days_without}
    starts = time_range.starts()
    return [
        {
            **dict.fromkeys(item),
            "start": item["start"],
            **(
                {}
                if start < found.first_day or item["start"][:10] in without
                else {name: round(found.by_interval.get(place, Counter())[name]) for name in FIGURES}
            ),
        }
        for place, (start, item) in enumerate(zip(starts, items, strict=True))
    ]


def _quartiles(seconds: Mapping[int, float]) -> dict[str, float] | None:
    """Returns the quartiles of the durations, or None if there is none."""
    whole = sum(seconds.values())
    if not whole:
        return None
    quartiles, passed, left = [], 0.0, [0.25, 0.5, 0.75]
    for duration in sorted(seconds):
        passed += seconds[duration]
        while left and passed >= left[0] * whole:
            quartiles.append(float(duration))
            left.pop(0)
    first, median, third = quartiles
    return {"visits": round(whole), "quartile_1": first, "median": median, "quartile_3": third}
