"""The figures of one campaign: read in a few round trips, added up over shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from pixel_server.campaigns import notes, retention
from pixel_server.campaigns.campaign import Campaign
from pixel_server.campaigns.retention import KeepDays
from pixel_server.consent import Consent
from pixel_server.counters import histogram, labels, open_breakdown, series
from pixel_server.counters.labels import OTHER
from pixel_server.counters.series import Cell, Cells
from pixel_server.figures import hyperloglog, open_rate, ranges
from pixel_server.figures import totals as all_time
from pixel_server.figures.ranges import Range
from pixel_server.figures.totals import Figures
from pixel_server.settings import Settings
from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis, Pipeline
from pixel_server.times import iso_ms
from pixel_server.verdicts import CLASSES

_OF_RECIPIENTS = ("person", "prefetch", "scanner", "unknown")

MAX_BREAKDOWN_DAYS = 31
"""Days of which breakdowns are added up: some hundred labels a day and shard, 0.1 ms."""
VISITORS_AT_ONCE = 400
"""Counts of visitors asked for in one round trip, so that Redis is not kept from storing hits."""
MAX_NAMES = 20
"""Clients, devices or countries that are shown; the rest is one."""


async def read(
    store: AsyncRedis, campaign: Campaign, wanted: Range, settings: Settings, now: float
) -> dict[str, Any]:
    """What `GET /api/campaigns/{id}/stats` answers.

    as_of is read before all else: every hit that reached the stream before it is counted in the rest.
    """
    shards = settings.shards
    reading = _Reading(campaign, wanted, shards)
    reading.follows = all_time.tells_people_apart(campaign, Consent(settings))
    pipe = store.pipeline(transaction=False)
    all_time.queue_as_of(pipe, shards)
    pipe.hvals(keys.notes(campaign.id))
    reading.ask(pipe)
    answers = iter(await pipe.execute())
    as_of = all_time.unpack_as_of([next(answers) for _ in range(1 + shards)])
    noted = [note for note in notes.decode_notes(next(answers)) if wanted.start <= note.at < wanted.end]
    reading.take(answers)
    await reading.read_visitors(store)

    kept_since = _kept_since(campaign, retention.campaign_days(settings, campaign), reading.by_days, now)
    items = reading.series(kept_since)
    totals = reading.all_time() if wanted.all_time else reading.over(items, kept_since)
    rate, over = reading.rate(totals)
    opens, times = reading.opens(kept_since), reading.times(kept_since)
    return {
        "campaign": campaign.id,
        "from": None if wanted.all_time else ranges.show(wanted.start, wanted.zone),
        "to": None if wanted.all_time else ranges.show(wanted.end, wanted.zone),
        "interval": wanted.interval,
        "time_zone": wanted.zone.key,
        "as_of": iso_ms(as_of),
        "totals": totals,
        "sent": all_time.sent(campaign, reading.kept),
        "delivered": all_time.delivered(campaign, reading.kept),
        "verdicts": reading.verdicts(kept_since),
        "rules": reading.rules(),
        "rulesets": reading.rulesets(),
        **opens,
        **times,
        "bounce_share": _share(totals.get("bounces"), totals.get("visits")),
        "visitor_unit": reading.visitor_unit,
        "open_rate": rate,
        "over": over,
        "hidden": reading.hidden(),
        "last_hit": None if reading.kept.last_hit is None else iso_ms(reading.kept.last_hit * 1000),
        "clipped": reading.clipped(),
        "closed_at": None if campaign.closed_at is None else iso_ms(campaign.closed_at * 1000),
        "series": items,
        "notes": [notes.to_json(note) for note in noted],
        "estimates": {name: hyperloglog.ABOUT for name in ("unique_ips", "unique_visitors") if name in totals}
        | {name: _BINNED for name, found in {**opens, **times}.items() if found and name.startswith("time_")},
    }


def _kept_since(campaign: Campaign, days: KeepDays, by_days: bool, now: float) -> int:
    """Where the series that are read begin, seconds."""
    if not by_days:
        return retention.oldest_bucket(campaign, days.buckets, now)
    first = retention.oldest_day(campaign, days.days, now)
    return ranges.midnight(date(int(first[:4]), int(first[4:6]), int(first[6:])), campaign.zone)


_BINNED = {"method": "histogram", "relative_error": round(histogram.RELATIVE_ERROR, 3)}


class _Reading:
    """One campaign's reading: `ask` queues the commands, `take` takes their answers in the same order."""

    def __init__(self, campaign: Campaign, wanted: Range, shards: int) -> None:
        self.campaign = campaign
        self.wanted = wanted
        self.shards = shards
        self.by_days = wanted.interval == "day" and wanted.zone.key == campaign.time_zone
        self.starts = wanted.starts()
        self.counts = all_time.COUNTS[campaign.kind]
        self.cells: list[Cell] = [[] for _ in self.starts]
        self.visitors: list[int] = [0] * len(self.starts)
        self.range_visitors = 0
        self.kept = all_time.Sums()
        self.addresses = 0
        self.dropped = [0, 0, 0]
        self.follows = True
        self._rules: dict[str, int] = {}
        self._opens: Counter[str] = Counter()
        self._days = [datetime.fromtimestamp(at, wanted.zone).strftime("%Y%m%d") for at in self.starts]
        self._utc_days = _utc_days(wanted.start, wanted.end)
        self._months = sorted({day[:6] for day in self._days})

    @property
    def _counts_opens(self) -> bool:
        """Whether it is shown what opens of people break down into: over all time, and by local day."""
        by_days = self.by_days and len(self.starts) <= MAX_BREAKDOWN_DAYS
        return by_days or self.wanted.all_time

    @property
    def visitor_unit(self) -> str | None:
        """What unique visitors are: without a cookie, the same one is another each day."""
        if self.campaign.kind == "email":
            return None
        return "visitor-days" if self.campaign.identity == "cookieless" else "visitors"

    @property
    def _counts_visitors(self) -> bool:
        return self.campaign.kind == "web" and self.by_days

    def ask(self, pipe: Pipeline) -> None:
        name = self.campaign.id
        if self.wanted.all_time:
            pipe.hmget(keys.DROPPED, [keys.dropped_field(name, why) for why in ("gpc", "out", "origin")])
        for shard in range(self.shards):
            pipe.hgetall(keys.total(shard, name))
            if self._counts_opens:
                pipe.hmget(
                    keys.breakdown(shard, name),
                    [open_breakdown.ALL] if self.wanted.all_time else self._months,
                )
            if self.wanted.all_time:
                pipe.hgetall(keys.rules(shard, name))
            if self.by_days:
                pipe.hmget(keys.months(shard, name), self._months)
            else:
                for day in self._utc_days:
                    pipe.get(keys.buckets(shard, name, day))
            if self.wanted.all_time:
                pipe.get(keys.addresses(shard, name))
                pipe.pfcount(keys.visitors(shard, name))

    def take(self, answers: Iterator[Any]) -> None:
        addresses: list[bytes | None] = []
        if self.wanted.all_time:
            self.dropped = [int(value or 0) for value in next(answers)]
        for _ in range(self.shards):
            counts = {count.decode(): int(value) for count, value in next(answers).items()}
            visitors = 0
            if self._counts_opens:
                self._take_opens(next(answers))
            if self.wanted.all_time:
                self._take_rules(next(answers))
            if self.by_days:
                self._take_days(next(answers))
            else:
                self._take_buckets([next(answers) for _ in self._utc_days])
            if self.wanted.all_time:
                addresses.append(next(answers))
                visitors = next(answers)
            self.kept.add(counts, visitors)
        self.addresses = hyperloglog.count_union(addresses)

    async def read_visitors(self, store: AsyncRedis) -> None:
        """Reads the visitors of the days that have views, at most VISITORS_AT_ONCE counts in a round trip."""
        if not self._counts_visitors:
            return
        name, shards = self.campaign.id, range(self.shards)
        days = [(i, day) for i, day in enumerate(self._days) if any(self.cells[i])]
        wanted = [(i, keys.daily_visitors(shard, name, day)) for shard in shards for i, day in days]
        for begin in range(0, len(wanted), VISITORS_AT_ONCE):
            part = wanted[begin : begin + VISITORS_AT_ONCE]
            pipe = store.pipeline(transaction=False)
            for _, key in part:
                pipe.pfcount(key)
            for (i, _), count in zip(part, await pipe.execute(), strict=True):
                self.visitors[i] += count
        if days and not self.wanted.all_time:
            pipe = store.pipeline(transaction=False)
            for shard in shards:
                pipe.pfcount(*(keys.daily_visitors(shard, name, day) for _, day in days))
            self.range_visitors = sum(await pipe.execute())

    def _take_opens(self, months: list[bytes | None]) -> None:
        if self.wanted.all_time:
            self._opens.update(open_breakdown.unpack(months[0]).get(0, {}))
            return
        found = {
            month: open_breakdown.unpack(value) for month, value in zip(self._months, months, strict=True)
        }
        for day in self._days:
            self._opens.update(found[day[:6]].get(int(day[6:]), {}))

    def _take_rules(self, found: dict[bytes, bytes]) -> None:
        """Hits by rule; of a ruleset, from when to when, over all shards."""
        for name, value in found.items():
            rule, at, old = name.decode(), int(value), self._rules.get(name.decode())
            if rule.endswith(" from"):
                self._rules[rule] = at if old is None else min(old, at)
            elif rule.endswith(" to"):
                self._rules[rule] = max(old or 0, at)
            else:
                self._rules[rule] = (old or 0) + at

    def _take_days(self, months: list[bytes | None]) -> None:
        found = {month: series.unpack(value) for month, value in zip(self._months, months, strict=True)}
        for i, day in enumerate(self._days):
            _sum(self.cells[i], found[day[:6]].get(int(day[6:]), []))

    def _take_buckets(self, days: list[bytes | None]) -> None:
        found = {day: series.unpack(value) for day, value in zip(self._utc_days, days, strict=True)}
        for i, start in enumerate(self.starts):
            end = self.starts[i + 1] if i + 1 < len(self.starts) else self.wanted.end
            for at in range(start, end, series.BUCKET_SECONDS):
                cells: Cells = found[series.utc_day(at)] if found else {}
                if cells:
                    _sum(self.cells[i], cells.get(series.bucket_number(at), []))

    def series(self, kept_since: int) -> list[dict[str, Any]]:
        """Each interval; its figures are null where the buckets it would be read from are gone."""
        items: list[dict[str, Any]] = []
        for i, start in enumerate(self.starts):
            known = start >= kept_since
            item: dict[str, Any] = {"start": ranges.show(start, self.wanted.zone)}
            item.update({name: _at(self.cells[i], name) if known else None for name in self.counts})
            if self.campaign.kind == "web":
                item["unique_visitors"] = self.visitors[i] if known and self._counts_visitors else None
            end = self.starts[i + 1] if i + 1 < len(self.starts) else self.wanted.end
            self._hide(item, end)
            items.append(item)
        return items

    def over(self, items: list[dict[str, Any]], kept_since: int) -> Figures:
        """The totals of a range."""
        known = self.wanted.start >= kept_since
        totals: Figures = {
            name: sum(item[name] or 0 for item in items) if known else None for name in self.counts
        }
        if self.campaign.kind == "web":
            totals["unique_visitors"] = self.range_visitors if known and self._counts_visitors else None
        totals["unique_ips"] = None
        totals.update(self._dropped(None, None, None))
        self._hide(totals, self.wanted.end)
        return totals

    def all_time(self) -> Figures:
        totals = all_time.figures(self.campaign, self.kept, self.follows)
        totals["unique_ips"] = self.addresses if self.follows else None
        totals.update(self._dropped(*self.dropped))
        return totals

    def _dropped(self, asked: int | None, out: int | None, origin: int | None) -> Figures:
        """Requests of which nothing is kept."""
        refused = {"refused_origin": origin} if self.campaign.kind == "web" else {}
        return {"dropped_gpc": asked, "dropped_opted_out": out, **refused}

    def verdicts(self, kept_since: int) -> dict[str, dict[str, int | None]]:
        """{class: {hits, recipients}}; recipients are told apart over all time only."""
        known = self.wanted.all_time or self.wanted.start >= kept_since
        found: dict[str, dict[str, int | None]] = {}
        for name in CLASSES:
            hits = self.kept.counts.get(f"hits_{name}", 0)
            if not self.wanted.all_time:
                hits = sum(_at(cell, f"hits_{name}") for cell in self.cells)
            told = self.wanted.all_time and self.follows and self.campaign.kind == "email"
            recipients = (
                self.kept.counts.get(f"recipients_{name}", 0) if told and name in _OF_RECIPIENTS else None
            )
            found[name] = {"hits": hits if known else None, "recipients": recipients}
        return found

    def hidden(self) -> dict[str, int] | None:
        """Recipients whose client loads all by machine; of these, those whom a person opened too.

        None: for pages, where nobody is told apart, and in a range, unless there are none over all time.
        """
        counts = self.kept.counts
        found = counts.get("recipients_hidden", 0)
        if self.campaign.kind == "web" or not self.follows or (found and not self.wanted.all_time):
            return None
        return {"recipients": found, "person": counts.get("recipients_hidden_person", 0)}

    def clipped(self) -> dict[str, float] | None:
        """Of recipients for whom a person loaded the upper pixel of two, those whose lower one never came.

        None: in a range, for pages, where nobody is told apart, and while there are none.
        """
        counts = self.kept.counts
        of = counts.get("recipients_twins", 0)
        if not of or not self.wanted.all_time or not self.follows:
            return None
        return {"share": round(counts.get("recipients_clipped", 0) / of, 4), "of": of}

    def rules(self) -> dict[str, int] | None:
        """Hits by the id of the rule that judged them; None in a range."""
        if not self.wanted.all_time:
            return None
        return {name: n for name, n in sorted(self._rules.items()) if " " not in name and n}

    def rulesets(self) -> list[dict[str, str]] | None:
        """The versions of the rules that judged its hits, and when; None in a range."""
        if not self.wanted.all_time:
            return None
        found = []
        for name in sorted(name.removesuffix(" to") for name in self._rules if name.endswith(" to")):
            start, end = self._rules.get(f"{name} from", 0), self._rules[f"{name} to"]
            shown = {"from": iso_ms(start * 1000), "to": iso_ms(end * 1000)}
            found.append({"ruleset": name, **shown})
        return found

    def opens(self, kept_since: int) -> dict[str, Any]:
        """Opens of people by client, device and country, and how long the first took; None: not known."""
        if self.campaign.kind == "web" or not self._knows_opens(kept_since):
            return {"opens_person_by": None, "time_to_open": None}
        return {
            "opens_person_by": {
                name: _most(self._opens, letter)
                for name, letter in (
                    ("client", labels.CLIENT),
                    ("device", labels.DEVICE),
                    ("country", labels.COUNTRY),
                )
            },
            "time_to_open": self._quartiles(labels.DELAY, "recipients", histogram.delay_seconds),
        }

    def times(self, kept_since: int) -> dict[str, Any]:
        """How long pages were looked at, and visits lasted; None: not known, or nothing was measured."""
        if self.campaign.kind == "email" or not self._knows_opens(kept_since):
            return {"time_on_page": None, "time_of_visit": None}
        return {
            "time_on_page": self._quartiles(labels.PAGE, "views", histogram.span_seconds),
            "time_of_visit": self._quartiles(labels.VISIT, "visits", histogram.span_seconds),
        }

    def _knows_opens(self, kept_since: int) -> bool:
        known = self._counts_opens and self.follows and not self._after_close(self.wanted.end)
        return known and (self.wanted.all_time or self.wanted.start >= kept_since)

    def _quartiles(self, letter: str, unit: str, of: Callable[[int], float]) -> dict[str, float] | None:
        """Seconds. unit: what was measured."""
        bins = {int(label[1:]): n for label, n in self._opens.items() if label[0] == letter and n}
        found = histogram.quantiles(bins, (0.25, 0.5, 0.75), of)
        if found is None:
            return None
        first, median, third = (round(seconds, 1) for seconds in found)
        return {unit: sum(bins.values()), "quartile_1": first, "median": median, "quartile_3": third}

    def _after_close(self, end: int) -> bool:
        """Whether opens that came after the campaign closed belong to figures up to this end."""
        closed = self.campaign.closed_at
        return closed is not None and not self.wanted.all_time and end > closed

    def rate(self, totals: Figures) -> tuple[open_rate.Rate | None, bool]:
        """The open rate; in a range, without an estimate: who is hidden is known over all time only."""
        told = self.kept.counts if self.wanted.all_time else {}
        rate, over = all_time.rate(totals, all_time.delivered(self.campaign, self.kept), told)
        if rate is not None and not self.wanted.all_time:
            rate = {**rate, "estimate": None, "interval": None, "method": None}
        return rate, over

    def _hide(self, figures: dict[str, Any], end: int) -> None:
        """Where nobody is told apart, how many there were is not known; so too after a campaign has closed.

        end: of what the figures are of, seconds.
        """
        closed = self.campaign.closed_at
        is_open = closed is None or end <= closed
        all_time.hide_unknown(figures, self.campaign, self.follows and is_open)


def _share(part: int | None, whole: int | None) -> float | None:
    return round(part / whole, 4) if whole and part is not None else None


def _most(opens: Mapping[str, int], letter: str) -> list[dict[str, Any]]:
    """The names with most opens, of one kind, and `(other)` for the rest."""
    found = {label[1:]: n for label, n in opens.items() if label[0] == letter and n}
    rest = found.pop(OTHER, 0)
    order = sorted(found, key=lambda name: (-found[name], name))
    rest += sum(found[name] for name in order[MAX_NAMES:])
    items = [{"name": name, "opens": found[name]} for name in order[:MAX_NAMES]]
    return [*items, {"name": OTHER, "opens": rest}] if rest else items


def _sum(cell: Cell, counts: Cell) -> None:
    cell.extend([0] * (len(counts) - len(cell)))
    for i, count in enumerate(counts):
        cell[i] += count


def _at(cell: Cell, name: str) -> int:
    place = series.COUNTS.index(name)
    return cell[place] if place < len(cell) else 0


def _utc_days(start: int, end: int) -> list[str]:
    first = datetime.fromtimestamp(start, UTC).date()
    last = datetime.fromtimestamp(end - 1, UTC).date()
    return [(first + timedelta(days=n)).strftime("%Y%m%d") for n in range((last - first).days + 1)]
