"""Figures of many campaigns at once: a page of the campaigns that match a query, sorted.

The figures shown are read anew each time. The figures by which the campaigns are sorted may be some seconds
old, see `campaign_order`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from pixel_server.campaigns import retention, storage
from pixel_server.campaigns import tags as campaign_tags
from pixel_server.campaigns.campaign import KINDS, Campaign, Kind, campaign_json
from pixel_server.consent import Consent
from pixel_server.counters import series
from pixel_server.figures import campaign_order, hyperloglog, open_rate, sources, totals
from pixel_server.problems import bad_parameters
from pixel_server.settings import Settings
from pixel_server.store import keys
from pixel_server.store.key import Tag
from pixel_server.store.protocols import AsyncRedis
from pixel_server.times import iso_ms

PAGE_SIZE = 50
"""Number of campaigns on a page, if the caller does not choose it."""
DAYS = 14
"""Number of days whose counts are shown of each campaign."""
DEFAULT_SORT = "-last_hit"
MAX_QUERY_CHARACTERS = 200
MAX_TAGS = 20
"""Largest number of tags that an overview names."""


@dataclass(frozen=True, slots=True)
class Row:
    """A campaign. sent, rate, uniques: of all time, as in `stats`; None if not known.

    over: whether the number of recipients who opened is greater than the number of delivered mails. days:
    opens (mail) or views (web) of the last DAYS local days, oldest first; None for a day that is not kept.
    last_hit: seconds. views: of all time, None for mail.
    """

    campaign: Campaign
    sent: int | None
    rate: open_rate.Rate | None
    over: bool
    uniques: int | None
    days: list[int | None]
    last_hit: float | None
    views: int | None


@dataclass(frozen=True, slots=True)
class Overview:
    """A page of campaigns. total: number of all campaigns that match. end: number of matching campaigns on
    this page and all pages before it.

    as_of: time in s. The rows count every hit that reached the stream before this time. ordered_as_of: time
    in s at which the figures that sort the campaigns were read. tags: the most used tags of all campaigns,
    with the number of their campaigns.
    """

    rows: list[Row]
    total: int
    end: int
    as_of: float
    ordered_as_of: float
    tags: list[tuple[str, int]]


class Query(NamedTuple):
    """Chooses campaigns. text: part of an id or a name, in upper or lower case. sort: see
    `campaign_order.SORTS`. kind, tag: of the campaigns, None for all.
    """

    text: str = ""
    sort: str = DEFAULT_SORT
    kind: Kind | None = None
    tag: str | None = None


def errors_of(query: Query) -> list[dict[str, str]]:
    """Returns the errors of the parameters `q`, `sort`, `kind` and `tag`."""
    errors = campaign_tags.query_errors(query.tag)
    if query.kind not in (*KINDS, None):
        errors.append({"field": "kind", "message": f"must be one of: {', '.join(KINDS)}"})
    if len(query.text) > MAX_QUERY_CHARACTERS:
        errors.append({"field": "q", "message": f"may have {MAX_QUERY_CHARACTERS} characters at most"})
    if query.sort.removeprefix("-") not in campaign_order.SORTS:
        choices = ", ".join(campaign_order.SORTS)
        errors.append({"field": "sort", "message": f"must be one of: {choices}; perhaps with a - before it"})
    return errors


async def count_by_kind(
    store: AsyncRedis, settings: Settings, consent: Consent, query: Query, now: float
) -> dict[Kind, int]:
    """Returns the number of campaigns of each kind that match a query, whatever kind the query names."""
    found = await sources.find(store, settings.shards)
    order = await campaign_order.read(store, found.tags, consent, now)
    matches = campaign_order.find(order, query.text, "created", None, query.tag)
    return {kind: sum(entry.kind == kind for entry in matches) for kind in KINDS}


async def read(
    store: AsyncRedis,
    settings: Settings,
    consent: Consent,
    query: Query,
    now: float,
    start: int = 0,
    limit: int = PAGE_SIZE,
) -> Overview:
    """Returns a page of the campaigns that match a query.

    start: number of matching campaigns on the pages before this page. limit: largest number of
    campaigns on the page. Leaves out a campaign that is deleted meanwhile. Raises Problem 422 if an argument
    is bad.
    """
    if errors := errors_of(query):
        raise bad_parameters(errors)
    found = await sources.find(store, settings.shards)
    order = await campaign_order.read(store, found.tags, consent, now)
    matches = campaign_order.find(order, *query)
    entries = matches[start : start + limit]
    pipe = store.pipeline(transaction=False)
    found.queue_as_of(pipe)
    for entry in entries:
        storage.queue_record(pipe, entry.id)
    totals.queue_many(pipe, entries, found.tags)
    answers = iter(await pipe.execute())
    as_of = found.unpack_as_of(answers)
    records = [storage.unpack_record(next(answers), entry.id) for entry in entries]
    sums = totals.unpack_many(list(answers), entries)
    campaigns = [campaign for campaign in records if campaign is not None]
    days = await _read_days(store, settings, found.tags, campaigns, now)
    rows = [_row(campaign, sums[campaign.id], days[campaign.id], consent) for campaign in campaigns]
    tags = campaign_order.most_used_tags(order, MAX_TAGS)
    return Overview(rows, len(matches), start + limit, as_of / 1000, order.as_of, tags)


def _row(campaign: Campaign, sums: totals.Sums, days: list[int | None], consent: Consent) -> Row:
    are_people_told_apart = totals.tells_people_apart(campaign, consent)
    figures, rate, over = totals.figures_and_rate(campaign, sums, are_people_told_apart)
    uniques = figures[totals.UNIQUES[campaign.kind]]
    sent, views = totals.mails(campaign, sums).sent, figures.get("views")
    return Row(campaign, sent, rate, over, uniques, days, sums.last_hit, views)


async def _read_days(
    store: AsyncRedis, settings: Settings, tags: Sequence[Tag], campaigns: list[Campaign], now: float
) -> dict[str, list[int | None]]:
    """Returns the counts of the last days, as in `Row.days`, by campaign id."""
    dates = {campaign.id: _dates(campaign, now) for campaign in campaigns}
    pipe = store.pipeline(transaction=False)
    for campaign in campaigns:
        for tag in tags:
            pipe.hmget(keys.months(tag, campaign.id), _months(dates[campaign.id]))
    answers = iter(await pipe.execute())
    counts: dict[str, list[int | None]] = {}
    for campaign in campaigns:
        days = dates[campaign.id]
        position = series.OPENS if campaign.kind == "email" else series.VIEWS
        sums = dict.fromkeys(days, 0)
        for _ in tags:
            months = dict(zip(_months(days), map(series.unpack, next(answers)), strict=True))
            for day in days:
                cell = months[day[:6]].get(int(day[6:]), [])
                sums[day] += cell[position] if position < len(cell) else 0
        first = retention.oldest_day(campaign, retention.campaign_days(settings, campaign).days, now)
        counts[campaign.id] = [count if day >= first else None for day, count in sums.items()]
    return counts


def _dates(campaign: Campaign, now: float) -> list[str]:
    """Returns the last DAYS local days (`"20261124"`), oldest first."""
    today = datetime.fromtimestamp(now, campaign.zone).date()
    return [(today - timedelta(days=DAYS - 1 - n)).strftime("%Y%m%d") for n in range(DAYS)]


def _months(days: list[str]) -> list[str]:
    return sorted({day[:6] for day in days})


def to_json(overview: Overview) -> dict[str, Any]:
    """Returns the overview as the API shows it."""
    return {
        "items": [_row_json(row) for row in overview.rows],
        "next": str(overview.end) if overview.end < overview.total else None,
        "total": overview.total,
        "as_of": iso_ms(int(overview.as_of * 1000)),
        "ordered_as_of": iso_ms(int(overview.ordered_as_of * 1000)),
        "tags": [{"tag": tag, "campaigns": count} for tag, count in overview.tags],
        "estimates": {"unique_visitors": hyperloglog.ESTIMATE},
    }


def _row_json(row: Row) -> dict[str, Any]:
    campaign, shown = row.campaign, campaign_json(row.campaign)
    return {
        "campaign": campaign.id,
        **{name: shown[name] for name in ("name", "kind", "tags", "created", "sent_at")},
        "sent": row.sent,
        "open_rate": row.rate,
        "over": row.over,
        totals.UNIQUES[campaign.kind]: row.uniques,
        **({"views": row.views} if campaign.kind == "web" else {}),
        "days": row.days,
        "last_hit": None if row.last_hit is None else iso_ms(int(row.last_hit * 1000)),
    }
