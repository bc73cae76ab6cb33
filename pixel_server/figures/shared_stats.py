"""The figures of one campaign for a shared key: the figures of `stats`, limited by `disclosure`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from pixel_server.campaigns import retention
from pixel_server.campaigns.campaign import Campaign
from pixel_server.counters import labels, open_breakdown
from pixel_server.counters.web_breakdown import CountsByName
from pixel_server.figures import (
    breakdowns,
    campaign_sums,
    disclosure,
    mail_breakdowns,
    ranges,
    shared_breakdowns,
    shared_open_rate,
    sources,
    stats,
    web_breakdowns,
)
from pixel_server.figures.disclosure import Cell
from pixel_server.figures.shared_breakdowns import Breakdown, Month
from pixel_server.figures.web_breakdowns import by_day, kind_of, rows
from pixel_server.problems import Problem
from pixel_server.settings import Settings
from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis

_EMPTY = Breakdown({}, (0, 0))
_UNKNOWN = dict[str, float | None].fromkeys(("share", "share_low", "share_high"))
_PARTS = 10_000
"""Number of parts into which a share is divided: 4 decimals."""


class Listed(NamedTuple):
    """The rows of one dimension, as an answer has them, with `(other)`.

    withheld: the most (by the count that ranks the dimension) that can belong to the names of the rows, or to
    others, without being in their rows. So the count of a name is the least that it has. is_exact: whether
    exactly this much is withheld.
    """

    rows: list[dict[str, Any]]
    withheld: int
    is_exact: bool


class Shared(NamedTuple):
    """The figures of a range, and its closed weeks by month.

    clients: the mail clients of a mail campaign, or None if they are not known.
    """

    stats: dict[str, Any]
    months: list[Month]
    clients: Listed | None = None


async def read(
    store: AsyncRedis,
    campaign: Campaign,
    query: Mapping[str, str],
    settings: Settings,
    late_since: int | None,
    now: float,
) -> dict[str, Any]:
    """Returns the response to `GET /api/campaigns/{id}/stats` for a shared key.

    late_since: time (ms since 1970) of the oldest hit in the spool, or None. Raises Problem 403 if the range
    is not shared, or 422 if the range is invalid.
    """
    return (await read_with_months(store, campaign, query, settings, late_since, now)).stats


async def read_with_months(
    store: AsyncRedis,
    campaign: Campaign,
    query: Mapping[str, str],
    settings: Settings,
    late_since: int | None,
    now: float,
) -> Shared:
    """Returns what `read` returns, and the closed weeks of the range. Raises what `read` raises."""
    oldest = retention.oldest_day(campaign, retention.campaign_days(settings, campaign).days, now)
    time_range = disclosure.parse(query, campaign, oldest, now)
    answer = await stats.read(store, campaign, time_range, settings, now)
    until = _until(answer, late_since, now)
    shown = disclosure.figures(answer, campaign, time_range, until)
    months = shared_breakdowns.closed_months(answer["series"], campaign, time_range, until)
    if campaign.kind == "web":
        return Shared(shown, months)
    shown |= await _sent_and_rate(store, campaign, oldest, settings, late_since, now)
    clients = None
    if answer["opens_person_by"] is not None:
        days = [day for month in months for day in month.days()]
        cells = await _clients(store, campaign.id, days, settings.shards)
        published = shared_breakdowns.add_up(
            [
                shared_breakdowns.month_breakdown(month, cells, campaign.min_cell, adds_uncounted=False)
                for month in months
            ]
        )
        ranked = disclosure.ranked(published.cells, stats.MAX_NAMES)
        rows = [{"name": name, "opens": opens} for name, (opens, _) in ranked]
        clients = _listed(rows, "opens", published)
    shown["opens_person_by"] = {"client": clients.rows} if clients else None
    return Shared({**shown, "covered": shared_breakdowns.covered(months)}, months, clients)


def _until(answer: Mapping[str, Any], late_since: int | None, now: float) -> float:
    """Returns the time (s) before which every hit is counted. answer: of `stats.read`."""
    counted = datetime.fromisoformat(answer["as_of"]).timestamp()
    return min([now, counted, *([] if late_since is None else [late_since / 1000])])


async def _sent_and_rate(
    store: AsyncRedis,
    campaign: Campaign,
    oldest: str,
    settings: Settings,
    late_since: int | None,
    now: float,
) -> dict[str, Any]:
    """Returns {sent, delivered, open_rate} of all closed days. The rate needs all days since the creation."""
    created = datetime.fromtimestamp(campaign.created, campaign.zone).date()
    today = datetime.fromtimestamp(now, campaign.zone).date()
    withheld: dict[str, Any] = {"sent": None, "delivered": None, "open_rate": None}
    if created.strftime("%Y%m%d") < oldest or created >= today or (today - created).days > ranges.MAX_DAYS:
        return withheld
    ends = {"from": created.isoformat(), "to": today.isoformat()}
    time_range = ranges.parse(ends, campaign.time_zone, now)
    answer = await stats.read(store, campaign, time_range, settings, now)
    delivered: int | None = answer["delivered"]
    if delivered is None or delivered < campaign.min_cell:
        return withheld
    until = _until(answer, late_since, now)
    rate = shared_open_rate.rate(answer["series"], campaign, time_range, until, delivered)
    return {"sent": answer["sent"], "delivered": delivered, "open_rate": rate}


async def read_breakdowns(
    store: AsyncRedis,
    campaign: Campaign,
    query: Mapping[str, str],
    settings: Settings,
    late_since: int | None,
    now: float,
) -> dict[str, Any]:
    """Returns the response to `GET /api/campaigns/{id}/breakdowns` for a shared key.

    Raises Problem 403 if a dimension or the range is not shared, 422 if the range is invalid, and 409 if the
    opens of this range are not divided.
    """
    shown = disclosure.DIMENSIONS[campaign.kind]
    dimensions = breakdowns.parse(query, campaign.kind, shown)
    disclosure.check(dimensions, shown)
    if campaign.kind == "email" and not {"from", "to"} & query.keys():
        query = {**query, "from": first_day_of_opens(campaign, now)}
    shared = await read_with_months(store, campaign, query, settings, late_since, now)
    head = {name: shared.stats[name] for name in ("campaign", "from", "to", "time_zone")}
    if campaign.kind == "email":
        opens_by = shared.stats["opens_person_by"]
        if opens_by is None:
            raise Problem(409, mail_breakdowns.NOT_KNOWN)
        return {**head, "by": opens_by, "covered": shared.stats["covered"]}
    by = await by_dimension(store, campaign, shared.months, dimensions, settings.shards)
    return {
        **head,
        "by": {dimension: listed.rows for dimension, listed in by.items()},
        "covered": shared_breakdowns.covered(shared.months),
        "visits": shared_breakdowns.whole(shared.months),
    }


def first_day_of_opens(campaign: Campaign, now: float) -> str:
    """Returns the first day, such as `"2026-11-24"`, of the longest range up to today with opens by name."""
    today = datetime.fromtimestamp(now, campaign.zone).date()
    return (today - timedelta(days=campaign_sums.MAX_BREAKDOWN_DAYS)).isoformat()


async def by_dimension(
    store: AsyncRedis, campaign: Campaign, months: Sequence[Month], dimensions: list[str], shards: int
) -> dict[str, Listed]:
    """Returns the breakdowns of a web campaign over its closed weeks. months: from `read_with_months`."""
    published: dict[str, Breakdown] = {}
    found = await sources.find(store, shards)
    for month in months:  # one after the other: the cells of all days of many years need too much memory
        cells = {
            day: {dimension: _pairs(by_name) for dimension, by_name in counts.items()}
            async for day, counts in by_day(store, campaign.id, month.days(), dimensions, found.tags)
        }
        of_month = shared_breakdowns.breakdowns([month], cells, campaign.min_cell, kind_of)
        for dimension, breakdown in of_month.items():
            published[dimension] = shared_breakdowns.add_up([published.get(dimension, _EMPTY), breakdown])
    by = {dimension: published.get(dimension, _EMPTY) for dimension in dimensions}
    return {
        dimension: _listed(rows(breakdown.cells), web_breakdowns.ranking_count(dimension), breakdown)
        for dimension, breakdown in by.items()
    }


def _pairs(counts_by_name: CountsByName) -> dict[str, Cell]:
    return {name: (views, visits) for name, (views, visits) in counts_by_name.items()}


def _listed(rows: list[dict[str, Any]], count: str, breakdown: Breakdown) -> Listed:
    """Returns the rows with their shares of all that is counted. The shares of `(other)` are None.

    rows: those of the breakdown, perhaps with many names added up in `(other)`. `share` is None if anything
    is withheld: the true share lies between `share_low` and `share_high`.
    """
    place = 0 if count == "views" else 1
    whole = breakdown.withheld[place]
    whole += sum(cell[place] for name, cell in breakdown.cells.items() if name != labels.OTHER)
    withheld = whole - sum(row[count] for row in rows if row["name"] != labels.OTHER)
    in_other = sum(row[count] for row in rows if row["name"] == labels.OTHER)
    return Listed(
        [
            {**row, **(_UNKNOWN if row["name"] == labels.OTHER else _shares(row[count], withheld, whole))}
            for row in rows
        ],
        withheld,
        count != "opens" or withheld == in_other,
    )


def _shares(count: int, withheld: int, whole: int) -> dict[str, float | None]:
    """Returns the share of a row and its limits, which are rounded away from each other."""
    if not whole:
        return _UNKNOWN
    if not withheld:
        share = round(count / whole, 4)
        return {"share": share, "share_low": share, "share_high": share}
    low, high = _PARTS * count // whole, -(-_PARTS * (count + withheld) // whole)
    return {"share": None, "share_low": low / _PARTS, "share_high": high / _PARTS}


async def _clients(
    store: AsyncRedis, campaign: str, days: list[str], shards: int
) -> dict[str, dict[str, Cell]]:
    """Returns the opens by people, by day (`"20261124"`) and mail client. A cell is (opens, opens)."""
    months = sorted({day[:6] for day in days})
    if not months:
        return {}
    found = await sources.find(store, shards)
    pipe = store.pipeline(transaction=False)
    for tag in found.tags:
        pipe.hmget(keys.breakdown(tag, campaign), months)
    opens: dict[str, Counter[str]] = {day: Counter() for day in days}
    for values in await pipe.execute():
        unpacked = {month: open_breakdown.unpack(value) for month, value in zip(months, values, strict=True)}
        for day in days:
            opens[day].update(unpacked[day[:6]].get(int(day[6:]), {}))
    return {
        day: {label[1:]: (n, n) for label, n in counts.items() if label[0] == labels.CLIENT}
        for day, counts in opens.items()
    }
