"""The figures of one campaign: the response to `GET /api/campaigns/{id}/stats`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

from pixel_server.campaigns import notes, retention
from pixel_server.campaigns.campaign import Campaign
from pixel_server.campaigns.retention import KeepDays
from pixel_server.consent import Consent
from pixel_server.counters import histogram, labels
from pixel_server.counters.labels import OTHER
from pixel_server.figures import hyperloglog, open_rate, ranges, sources
from pixel_server.figures import totals as all_time
from pixel_server.figures.campaign_sums import CampaignSums
from pixel_server.figures.ranges import Range
from pixel_server.figures.totals import Figures
from pixel_server.settings import Settings
from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis
from pixel_server.times import iso_ms
from pixel_server.verdicts import CLASSES

MAX_NAMES = 20
"""Largest number of clients, devices or countries shown by name. The others are summed as `(other)`."""
_RECIPIENT_CLASSES = ("person", "prefetch", "scanner", "unknown")
"""Classes by which recipients are counted. `proxy` counts under `person`."""
_HISTOGRAM = {"method": "histogram", "relative_error": round(histogram.RELATIVE_ERROR, 3)}


async def read(
    store: AsyncRedis, campaign: Campaign, time_range: Range, settings: Settings, now: float
) -> dict[str, Any]:
    """Returns the figures of a campaign in a range.

    `as_of` is read before everything else: every hit that reached the stream before `as_of` is counted.
    """
    as_of, all_notes, sums = await _read_sums(store, campaign, time_range, settings.shards)
    kept_since = _kept_since(campaign, retention.campaign_days(settings, campaign), sums, now)
    figures = _Stats(sums, kept_since, all_time.tells_people_apart(campaign, Consent(settings)))
    series = figures.series()
    totals = figures.all_time_totals() if time_range.is_all_time else figures.range_totals(series)
    rate, has_more_openers = figures.open_rate(totals)
    times = {**figures.open_times(), **figures.page_times()}
    last_hit = sums.all_time.last_hit
    mails = all_time.mails(campaign, sums.all_time)
    return {
        "campaign": campaign.id,
        "from": None if time_range.is_all_time else ranges.show(time_range.start, time_range.zone),
        "to": None if time_range.is_all_time else ranges.show(time_range.end, time_range.zone),
        "interval": time_range.interval,
        "time_zone": time_range.zone.key,
        "as_of": iso_ms(as_of),
        "totals": totals,
        "sent": mails.sent,
        "sent_source": mails.source,
        "bounced": None if mails.sent is None else mails.bounced,
        "delivered": mails.delivered,
        "deliveries": all_time.deliveries(sums.all_time),
        "verdicts": figures.verdicts(),
        "rules": figures.rules(),
        "rulesets": figures.rulesets(),
        "opens_person_by": figures.opens_by_name(),
        **times,
        "bounce_share": _share(totals.get("bounces"), totals.get("visits")),
        "visitor_unit": _visitor_unit(campaign),
        "open_rate": rate,
        "over": has_more_openers,
        "hidden": figures.hidden(),
        "last_hit": None if last_hit is None else iso_ms(last_hit * 1000),
        "clipped": figures.clipped(),
        "closed_at": None if campaign.closed_at is None else iso_ms(campaign.closed_at * 1000),
        "series": series,
        "notes": [notes.to_json(note) for note in all_notes if time_range.start <= note.at < time_range.end],
        "estimates": {
            **{name: hyperloglog.ESTIMATE for name in ("unique_ips", "unique_visitors") if name in totals},
            **{name: _HISTOGRAM for name, quartiles in times.items() if quartiles},
        },
        "sample": None,
    }


async def _read_sums(
    store: AsyncRedis, campaign: Campaign, time_range: Range, shards: int
) -> tuple[int, list[notes.Note], CampaignSums]:
    """Returns `as_of` (ms), all notes of the campaign, and its sums in the range."""
    found = await sources.find(store, shards)
    sums = CampaignSums(campaign, time_range, found.tags)
    pipe = store.pipeline(transaction=False)
    found.queue_as_of(pipe)
    pipe.hvals(keys.notes(campaign.id))
    sums.queue(pipe)
    answers = iter(await pipe.execute())
    as_of = found.unpack_as_of(answers)
    all_notes = notes.decode_notes(next(answers))
    sums.unpack(answers)
    await sums.read_visitors(store)
    return as_of, all_notes, sums


def _kept_since(campaign: Campaign, days: KeepDays, sums: CampaignSums, now: float) -> int:
    """Returns the time (s) from which the series of this range are kept."""
    if not sums.is_by_local_day:
        return retention.oldest_bucket(campaign, days.buckets, now)
    first = retention.oldest_day(campaign, days.days, now)
    return ranges.midnight(date(int(first[:4]), int(first[4:6]), int(first[6:])), campaign.zone)


class _Stats:
    """Figures made of sums. Pure.

    kept_since: see `_kept_since`. are_people_told_apart: whether the campaign's mode tells people apart.
    """

    def __init__(self, sums: CampaignSums, kept_since: int, are_people_told_apart: bool) -> None:
        self.sums = sums
        self.campaign = sums.campaign
        self.range = sums.range
        self.is_web = sums.campaign.kind == "web"
        self.names = all_time.COUNTS[sums.campaign.kind]
        self.kept_since = kept_since
        self.are_people_told_apart = are_people_told_apart

    def _is_kept(self) -> bool:
        return self.range.is_all_time or self.range.start >= self.kept_since

    def series(self) -> list[dict[str, Any]]:
        """Returns the figures of each interval. All are None if the interval is no longer kept."""
        sums = self.sums
        items: list[dict[str, Any]] = []
        for i, (start, end) in enumerate(zip(sums.starts, sums.ends, strict=True)):
            is_kept = start >= self.kept_since
            item: dict[str, Any] = {"start": ranges.show(start, self.range.zone)}
            item.update({name: sums.count(i, name) if is_kept else None for name in self.names})
            if self.is_web:
                item["unique_visitors"] = sums.visitors[i] if is_kept and sums.has_visitors else None
            self._hide_unknown(item, end)
            items.append(item)
        return items

    def range_totals(self, series: list[dict[str, Any]]) -> Figures:
        sums, is_kept = self.sums, self.range.start >= self.kept_since
        totals: Figures = {
            name: sum(item[name] or 0 for item in series) if is_kept else None for name in self.names
        }
        if self.is_web:
            totals["unique_visitors"] = sums.range_visitors if is_kept and sums.has_visitors else None
        totals["unique_ips"] = None
        totals.update(self._dropped(None, None, None))
        self._hide_unknown(totals, self.range.end)
        return totals

    def all_time_totals(self) -> Figures:
        totals = all_time.figures(self.campaign, self.sums.all_time, self.are_people_told_apart)
        totals["unique_ips"] = self.sums.addresses if self.are_people_told_apart else None
        totals.update(self._dropped(*self.sums.dropped))
        return totals

    def _dropped(self, gpc: int | None, opted_out: int | None, origin: int | None) -> Figures:
        """Returns the numbers of requests that were not recorded."""
        refused = {"refused_origin": origin} if self.is_web else {}
        return {"dropped_gpc": gpc, "dropped_opted_out": opted_out, **refused}

    def verdicts(self) -> dict[str, dict[str, int | None]]:
        """Returns the number of hits and recipients by class. Recipients are counted for all time only."""
        sums, counts = self.sums, self.sums.all_time.counts
        has_recipients = self.range.is_all_time and self.are_people_told_apart and not self.is_web
        verdicts: dict[str, dict[str, int | None]] = {}
        for name in CLASSES:
            hits = counts.get(f"hits_{name}", 0)
            if not self.range.is_all_time:
                hits = sum(sums.count(i, f"hits_{name}") for i in range(len(sums.starts)))
            is_counted = has_recipients and name in _RECIPIENT_CLASSES
            verdicts[name] = {
                "hits": hits if self._is_kept() else None,
                "recipients": counts.get(f"recipients_{name}", 0) if is_counted else None,
            }
        return verdicts

    def hidden(self) -> dict[str, int] | None:
        """Returns the number of hidden recipients (see `pixel_server.figures.open_rate`), and how many of
        them also have an open by a person.

        Returns None for web campaigns and if nobody is told apart. Also returns None for a range if the
        campaign has hidden recipients, because they are counted for all time only.
        """
        counts = self.sums.all_time.counts
        hidden = counts.get("recipients_hidden", 0)
        if self.is_web or not self.are_people_told_apart or (hidden and not self.range.is_all_time):
            return None
        return {"recipients": hidden, "person": counts.get("recipients_hidden_person", 0)}

    def clipped(self) -> dict[str, float] | None:
        """Returns `of`, the number of two-pixel mails that a person opened and whose upper pixel was loaded,
        and `share`, the share of these mails whose lower pixel no person loaded.

        Returns None for a range, for web campaigns, if nobody is told apart, and if no upper pixel was
        loaded.
        """
        counts = self.sums.all_time.counts
        two_pixel = counts.get("recipients_twins", 0)
        if not two_pixel or not self.range.is_all_time or not self.are_people_told_apart:
            return None
        return {"share": round(counts.get("recipients_clipped", 0) / two_pixel, 4), "of": two_pixel}

    def rules(self) -> dict[str, int] | None:
        """Returns the number of hits by id of the rule that judged them, or None for a range."""
        if not self.range.is_all_time:
            return None
        return {name: hits for name, hits in sorted(self.sums.rules.items()) if " " not in name and hits}

    def rulesets(self) -> list[dict[str, str]] | None:
        """Returns the versions of the rules, with their first and last use, or None for a range.

        A version also names the lists of networks, so there is one for each week in which a list changed.
        """
        if not self.range.is_all_time:
            return None
        rules = self.sums.rules
        rulesets = []
        for version in (name.removesuffix(" to") for name in rules if name.endswith(" to")):
            first, last = rules.get(f"{version} from", 0), rules[f"{version} to"]
            rulesets.append({"ruleset": version, "from": iso_ms(first * 1000), "to": iso_ms(last * 1000)})
        return sorted(rulesets, key=lambda ruleset: (ruleset["from"], ruleset["ruleset"]))

    def opens_by_name(self) -> dict[str, Any] | None:
        """Returns the number of people's opens for each client, device and country, or None if not known."""
        if self.is_web or not self._knows_breakdown():
            return None
        letters = {"client": labels.CLIENT, "device": labels.DEVICE, "country": labels.COUNTRY}
        return {name: _most_frequent(self.sums.breakdown, letter) for name, letter in letters.items()}

    def open_times(self) -> dict[str, Any]:
        """Returns the quartiles of the time from sending to the first open (s), or None if not known."""
        if self.is_web or not self._knows_breakdown():
            return {"time_to_open": None}
        return {"time_to_open": self._quartiles(labels.DELAY, "recipients", histogram.delay_seconds)}

    def page_times(self) -> dict[str, Any]:
        """Returns the quartiles of time on page and length of visit (s), or None if not known."""
        if not self.is_web or not self._knows_breakdown():
            return {"time_on_page": None, "time_of_visit": None}
        return {
            "time_on_page": self._quartiles(labels.PAGE, "views", histogram.span_seconds),
            "time_of_visit": self._quartiles(labels.VISIT, "visits", histogram.span_seconds),
        }

    def _knows_breakdown(self) -> bool:
        is_known = self.sums.has_breakdown and self.are_people_told_apart and self._is_kept()
        return is_known and (self.range.is_all_time or not self._is_closed_before(self.range.end))

    def _quartiles(
        self, letter: str, unit: str, bin_seconds: Callable[[int], float]
    ) -> dict[str, float] | None:
        """Returns the quartiles in seconds, or None if nothing was measured.

        letter: first letter of the labels. unit: what was measured, such as "visits". The result holds the
        number of measured values under this name.
        """
        bins = {int(label[1:]): n for label, n in self.sums.breakdown.items() if label[0] == letter and n}
        quartiles = histogram.quantiles(bins, (0.25, 0.5, 0.75), bin_seconds)
        if quartiles is None:
            return None
        first, median, third = (round(seconds, 1) for seconds in quartiles)
        return {unit: sum(bins.values()), "quartile_1": first, "median": median, "quartile_3": third}

    def _is_closed_before(self, end: int) -> bool:
        """Returns whether the campaign was closed before an instant (s)."""
        return self.campaign.closed_at is not None and self.campaign.closed_at < end

    def open_rate(self, totals: Figures) -> tuple[open_rate.Rate | None, bool]:
        """Returns (open rate, whether the number of openers is greater than the number of delivered mails).

        A range has no estimate, because hidden recipients are counted for all time only.
        """
        counts = self.sums.all_time.counts if self.range.is_all_time else {}
        delivered = all_time.mails(self.campaign, self.sums.all_time).delivered
        rate, has_more_openers = all_time.rate(totals, delivered, counts)
        if rate is not None and not self.range.is_all_time:
            rate = {**rate, "estimate": None, "interval": None, "method": None}
        return rate, has_more_openers

    def _hide_unknown(self, figures: dict[str, Any], end: int) -> None:
        """Sets figures of people to None if people are not told apart, or if the campaign was closed before
        `end` (s).
        """
        is_known = self.are_people_told_apart and not self._is_closed_before(end)
        all_time.hide_unknown(figures, self.campaign, is_known)


def _visitor_unit(campaign: Campaign) -> str | None:
    """Returns the unit of unique visitors. Without a cookie, a visitor counts anew each day."""
    if campaign.kind == "email":
        return None
    return "visitor-days" if campaign.identity == "cookieless" else "visitors"


def _share(part: int | None, whole: int | None) -> float | None:
    return round(part / whole, 4) if whole and part is not None else None


def _most_frequent(opens: Mapping[str, int], letter: str) -> list[dict[str, Any]]:
    """Returns the names with the most opens, and `(other)` for the rest.

    letter: first letter of the labels.
    """
    counts = {label[1:]: n for label, n in opens.items() if label[0] == letter and n}
    rest = counts.pop(OTHER, 0)
    order = sorted(counts, key=lambda name: (-counts[name], name))
    rest += sum(counts[name] for name in order[MAX_NAMES:])
    items = [{"name": name, "opens": counts[name]} for name in order[:MAX_NAMES]]
    return [*items, {"name": OTHER, "opens": rest}] if rest else items
