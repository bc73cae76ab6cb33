"""The sums of one campaign over a range of time, read in a few round trips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pixel_server.campaigns.campaign import Campaign
from pixel_server.counters import open_breakdown, series
from pixel_server.counters.series import Cell
from pixel_server.figures import hyperloglog, totals
from pixel_server.figures.ranges import Range
from pixel_server.store import keys
from pixel_server.store.key import Tag
from pixel_server.store.protocols import AsyncRedis, Pipeline

MAX_BREAKDOWN_DAYS = 31
"""Largest number of days whose breakdowns of opens are added up. A day of a shard has some hundred labels,
and takes 0.1 ms."""
VISITORS_BATCH = 400
"""Number of visitor counts read in one round trip. A larger number would delay the hits that Redis
stores meanwhile."""


class CampaignSums:
    """The sums of a campaign. `queue` queues the commands. `unpack` takes their answers in the same order.

    tags: see `sources`. starts, ends: start and end of each interval, in seconds. all_time: sums of all time.
    cells: counts of each interval, at the positions of `series`. visitors: estimated visitors of each
    interval. range_visitors: estimated visitors of the range. addresses: estimated addresses of all time.
    breakdown: counts by label (`counters.labels`). rules: hits by rule id, and the times (s since 1970) of
    the first and last use of each ruleset under `VERSION from` and `VERSION to`. dropped: three numbers of
    requests that were not recorded: because of GPC or DNT, the opt-out cookie, and the page's origin.
    """

    def __init__(self, campaign: Campaign, time_range: Range, tags: Sequence[Tag]) -> None:
        self.campaign = campaign
        self.range = time_range
        self._tags = tags
        self.is_by_local_day = time_range.interval == "day" and time_range.zone.key == campaign.time_zone
        self.starts = time_range.starts()
        self.ends = [*self.starts[1:], time_range.end]
        self.all_time = totals.Sums()
        self.cells: list[Cell] = [[] for _ in self.starts]
        self.visitors = [0] * len(self.starts)
        self.range_visitors = 0
        self.addresses = 0
        self.dropped = [0, 0, 0]
        self.rules: dict[str, int] = {}
        self.breakdown: Counter[str] = Counter()
        self._days = [datetime.fromtimestamp(at, time_range.zone).strftime("%Y%m%d") for at in self.starts]
        self._utc_days = _utc_days(time_range.start, time_range.end)
        self._months = sorted({day[:6] for day in self._days})

    @property
    def has_breakdown(self) -> bool:
        """Returns whether `breakdown` is read: for all time, and for a short range of local days."""
        is_short = self.is_by_local_day and len(self.starts) <= MAX_BREAKDOWN_DAYS
        return is_short or self.range.is_all_time

    @property
    def has_visitors(self) -> bool:
        """Returns whether `visitors` and `range_visitors` are read: for web campaigns, by local day."""
        return self.campaign.kind == "web" and self.is_by_local_day

    def queue(self, pipe: Pipeline) -> None:
        campaign, is_all_time = self.campaign.id, self.range.is_all_time
        if is_all_time:
            pipe.hmget(keys.DROPPED, [keys.dropped_field(campaign, why) for why in ("gpc", "out", "origin")])
        for tag in self._tags:
            pipe.hgetall(keys.total(tag, campaign))
            if self.has_breakdown:
                months = [open_breakdown.ALL] if is_all_time else self._months
                pipe.hmget(keys.breakdown(tag, campaign), months)
            if is_all_time:
                pipe.hgetall(keys.rules(tag, campaign))
            if self.is_by_local_day:
                pipe.hmget(keys.months(tag, campaign), self._months)
            else:
                for day in self._utc_days:
                    pipe.get(keys.buckets(tag, campaign, day))
            if is_all_time:
                pipe.get(keys.addresses(tag, campaign))
                pipe.pfcount(keys.visitors(tag, campaign))

    def unpack(self, answers: Iterator[Any]) -> None:
        addresses: list[bytes | None] = []
        is_all_time = self.range.is_all_time
        if is_all_time:
            self.dropped = [int(value or 0) for value in next(answers)]
        for _ in self._tags:
            counts = {name.decode(): int(value) for name, value in next(answers).items()}
            visitors = 0
            if self.has_breakdown:
                self._add_breakdown(next(answers))
            if is_all_time:
                self._add_rules(next(answers))
            if self.is_by_local_day:
                self._add_months(next(answers))
            else:
                self._add_buckets([next(answers) for _ in self._utc_days])
            if is_all_time:
                addresses.append(next(answers))
                visitors = next(answers)
            self.all_time.add(counts, visitors)
        self.addresses = hyperloglog.count_union(addresses)

    async def read_visitors(self, store: AsyncRedis) -> None:
        """Reads the visitors of the days that have views, VISITORS_BATCH counts in a round trip."""
        if not self.has_visitors:
            return
        campaign = self.campaign.id
        days = [(i, day) for i, day in enumerate(self._days) if any(self.cells[i])]
        sets_to_count = [
            (i, keys.daily_visitors(tag, campaign, day)) for tag in self._tags for i, day in days
        ]
        for begin in range(0, len(sets_to_count), VISITORS_BATCH):
            batch = sets_to_count[begin : begin + VISITORS_BATCH]
            pipe = store.pipeline(transaction=False)
            for _, key in batch:
                pipe.pfcount(key)
            for (i, _), count in zip(batch, await pipe.execute(), strict=True):
                self.visitors[i] += count
        if days and not self.range.is_all_time:
            pipe = store.pipeline(transaction=False)
            for tag in self._tags:
                pipe.pfcount(*(keys.daily_visitors(tag, campaign, day) for _, day in days))
            self.range_visitors = sum(await pipe.execute())

    def count(self, interval: int, name: str) -> int:
        """Returns a count of an interval. interval: an index in `starts`. name: one of `series.COUNTS`."""
        cell, position = self.cells[interval], series.POSITIONS[name]
        return cell[position] if position < len(cell) else 0

    def _add_breakdown(self, packed: list[bytes | None]) -> None:
        if self.range.is_all_time:
            self.breakdown.update(open_breakdown.unpack(packed[0]).get(0, {}))
            return
        unpacked = {
            month: open_breakdown.unpack(value) for month, value in zip(self._months, packed, strict=True)
        }
        for day in self._days:
            self.breakdown.update(unpacked[day[:6]].get(int(day[6:]), {}))

    def _add_rules(self, counts: dict[bytes, bytes]) -> None:
        for name, value in counts.items():
            rule, number, before = name.decode(), int(value), self.rules.get(name.decode())
            if rule.endswith(" from"):
                self.rules[rule] = number if before is None else min(before, number)
            elif rule.endswith(" to"):
                self.rules[rule] = max(before or 0, number)
            else:
                self.rules[rule] = (before or 0) + number

    def _add_months(self, months: list[bytes | None]) -> None:
        unpacked = {month: series.unpack(value) for month, value in zip(self._months, months, strict=True)}
        for i, day in enumerate(self._days):
            _add_cell(self.cells[i], unpacked[day[:6]].get(int(day[6:]), []))

    def _add_buckets(self, days: list[bytes | None]) -> None:
        unpacked = {day: series.unpack(value) for day, value in zip(self._utc_days, days, strict=True)}
        for cell, start, end in zip(self.cells, self.starts, self.ends, strict=True):
            for at in range(start, end, series.BUCKET_SECONDS):
                _add_cell(cell, unpacked[series.utc_day(at)].get(series.bucket_number(at), []))


def _add_cell(cell: Cell, changes: Cell) -> None:
    cell.extend([0] * (len(changes) - len(cell)))
    for i, count in enumerate(changes):
        cell[i] += count


def _utc_days(start: int, end: int) -> list[str]:
    """Returns the UTC days that a range overlaps, such as `"20261124"`."""
    first = datetime.fromtimestamp(start, UTC).date()
    last = datetime.fromtimestamp(end - 1, UTC).date()
    return [(first + timedelta(days=n)).strftime("%Y%m%d") for n in range((last - first).days + 1)]
