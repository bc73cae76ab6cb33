"""The page of a campaign's shared figures, for share links and keys with `read:CAMPAIGN`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api.context import Api
from pixel_server.campaigns import retention
from pixel_server.campaigns.campaign import Campaign
from pixel_server.counters.labels import OTHER
from pixel_server.counters.web_breakdown import NONE
from pixel_server.dashboard import formatting, render, svg
from pixel_server.dashboard.glossary import DIMENSION_TITLES
from pixel_server.dashboard.site import MAX_WHOLE_ROWS, WHOLE_LIST
from pixel_server.figures import disclosure, shared_breakdowns, shared_stats, web_breakdowns
from pixel_server.figures.shared_stats import Shared
from pixel_server.problems import Problem
from pixel_server.times import DAY

MAX_DAYS_OF_LINK = 1100
"""Days of the longest range that a share link can request."""
MAX_FIGURES = 4
"""Figures that are shown above the chart, beside the open rate."""
MAX_LATE_SHARE = 0.05
"""Largest share of opens on the days after the open rate's last day that the page leaves out."""
Figure = tuple[str, str, str, str]
"""(label, name of its definition or "", text, unit or ""): `("Delivered", "delivered", "1,963", "mails")`."""
Lists = dict[str, dict[str, Any]]
"""Lists by dimension: `{"country": {"rows": [...], "rest": {...}, "count": "visits", "unnamed": 108}}`.

rows, rest, unnamed: see `svg`. count: the field of a row with its count. is_exact: whether exactly `unnamed`
is withheld, and not less.
"""
DAYS = (7, 30, 90, disclosure.DEFAULT_DAYS)
"""Days up to yesterday that the page of a site can show: `?days=7`. The last is the default."""
_RANGE_PARAMS = ("from", "to", "interval", "tz")
LABELS = {
    "opens": "Opens, machines too",
    "unique_opens": "First opens, machines too",
    "views": "Views",
    "visits": "Visits",
    "unique_visitors": "Unique visitors",
}


async def read_shared(api: Api, campaign: Campaign, query: Mapping[str, str] | None = None) -> Shared:
    """Returns the shared figures of the range in the query. Default: the year up to yesterday."""
    late_since = await asyncio.to_thread(api.late_since)
    return await shared_stats.read_with_months(
        api.store, campaign, query or {}, api.settings, late_since, api.clock()
    )


async def json_for_link(api: Api, campaign: Campaign, query: Mapping[str, str]) -> bytes:
    """Returns the shared figures as JSON. They are read at most once per campaign, range and minute.

    The cache is needed because anyone with the link can request the figures without a key, at any rate.
    Raises Problem 422 if the range is too long.
    """
    now = api.clock()
    range_query = {name: query[name][:40] for name in _RANGE_PARAMS if name in query}
    oldest = retention.oldest_day(campaign, retention.campaign_days(api.settings, campaign).days, now)
    period = disclosure.parse(range_query, campaign, oldest, now)
    if period.end - period.start > (MAX_DAYS_OF_LINK + 1) * DAY:
        message = f"the range must not be longer than {MAX_DAYS_OF_LINK:,} days"
        raise Problem(422, "some parameters cannot be used", [{"field": "from", "message": message}])

    async def read_json() -> bytes:
        return msgspec.json.encode((await read_shared(api, campaign, range_query)).stats)

    key = ("shared", msgspec.json.encode(campaign), period, now // 60)
    content: bytes = await api.recent.get(key, read_json)
    return content


async def show(
    api: Api,
    request: Request,
    campaign: Campaign,
    chart_url: str,
    template: str = "shared.html",
    **options: Any,
) -> Response:
    """Returns the page. chart_url: address of the figures as JSON. options: parameters of `render.page`."""

    view = _view(campaign, request.query_params)

    async def read_stats_and_lists() -> tuple[dict[str, Any], Lists, tuple[str, str] | None]:
        shared = await read_shared(api, campaign, _query(campaign, view.days, api.clock()))
        return shared.stats, *await _lists(api, campaign, shared, view.whole_list)

    stats, lists, listed_days = await api.recent.get(
        ("page", msgspec.json.encode(campaign), view, api.clock() // 60), read_stats_and_lists
    )
    figure_names = list(stats["totals"])
    main_figure = figure_names[0]
    known_days, is_rate_to_last_day = shown_days(stats, main_figure)
    if campaign.kind == "web":
        first = _first_day(campaign, view.days, api.clock()).isoformat()
        series = [item for item in stats["series"] if item["start"][:10] >= first]
        stats = {**stats, "series": series}
    span, _ = shown_days(stats, main_figure)
    stats = {**stats, "totals": {name: _sum(span, name, stats) for name in figure_names}}
    path, highest = svg.bars([item[main_figure] for item in span], 800, 160)
    context = {
        "campaign": campaign,
        "stats": stats,
        "labels": {name: _label(campaign, name) for name in figure_names},
        "figures": _figures(campaign, stats),
        "rate": _rate_bar(stats.get("open_rate")),
        "path": path,
        "highest": highest,
        "days": [item for item in span if item[main_figure] is not None],
        "chart_url": f"{chart_url}?{_range(span)}",
        "lists": lists,
        "titles": DIMENSION_TITLES,
        "span": span,
        "is_rate_to_last_day": is_rate_to_last_day,
        "listed_days": _listed_days(known_days, listed_days),
        "picker": {"presets": _presets(view) if campaign.kind == "web" else []},
        "days_query": f"days={view.days}",
        "whole_list": view.whole_list,
    }
    return render.page(api, request, template, context, **options)


class _View(NamedTuple):
    """Choice of what a site's page shows. days: one of DAYS. whole_list: a breakdown to show whole, or ""."""

    days: int
    whole_list: str


def _view(campaign: Campaign, params: Mapping[str, str]) -> _View:
    """Returns what an address asks for. Unknown values are ignored. The page of a mailing has no choice."""
    if campaign.kind == "email":
        return _View(DAYS[-1], "")
    by_text = {str(days): days for days in DAYS}
    whole_list = params.get(WHOLE_LIST, "")
    is_shared = whole_list in disclosure.DIMENSIONS["web"]
    return _View(by_text.get(params.get("days", ""), DAYS[-1]), whole_list if is_shared else "")


def _presets(view: _View) -> list[tuple[str, str, bool]]:
    """Returns (label, query, whether it is the current choice) of each link to other days."""
    return [(f"{days} days", f"days={days}", days == view.days) for days in DAYS]


def _first_day(campaign: Campaign, days: int, now: float) -> date:
    """Returns the first of the days up to yesterday, in the campaign's zone."""
    return datetime.fromtimestamp(now, campaign.zone).date() - timedelta(days=days)


def _query(campaign: Campaign, days: int, now: float) -> dict[str, str]:
    """Returns the range to read: all days by default, else from the Monday before the first day.

    Breakdowns count whole weeks only, so a range of 7 days would often have none.
    """
    if days == DAYS[-1]:
        return {}
    first = _first_day(campaign, days, now)
    return {"from": (first - timedelta(days=first.weekday())).isoformat()}


async def share_for_guests(api: Api, campaign: Campaign) -> str:
    """Returns the counted share of a mailing that guests see where its own page has an estimate: `"27%"`.

    Returns "" if guests see no rate, or the exact rate.
    """

    async def read_rate() -> dict[str, Any] | None:
        rate: dict[str, Any] | None = (await read_shared(api, campaign)).stats.get("open_rate")
        return rate

    key = ("guests", msgspec.json.encode(campaign), api.clock() // 60)
    rate = await api.recent.get(key, read_rate) if campaign.kind == "email" else None
    if not rate or rate["low"] == rate["high"]:
        return ""
    return formatting.rate_parts({**rate, "estimate": None})["low"]


def shown_days(stats: Mapping[str, Any], main_figure: str) -> tuple[list[dict[str, Any]], bool]:
    """Returns (the days of the page, whether the open rate counts up to the last of them). Pure.

    The days are from the first to the last that is shown. If there is an open rate, they end with its last
    day, so that the page has one last day, unless too much happened later: more than MAX_LATE_SHARE.
    """
    series, rate = stats["series"], stats.get("open_rate")
    places = [i for i, item in enumerate(series) if item[main_figure] is not None]
    span = series[places[0] : places[-1] + 1] if places else []
    if not rate or not span:
        return span, True
    within = [item for item in span if item["start"] < rate["until"]]
    late = sum(item[main_figure] or 0 for item in span[len(within) :])
    whole = sum(item[main_figure] or 0 for item in span)
    return (within, True) if within and late <= MAX_LATE_SHARE * whole else (span, False)


def _sum(span: Sequence[Mapping[str, Any]], name: str, stats: Mapping[str, Any]) -> int | None:
    """Returns the total of the days, or None if the figure has no total."""
    known = [item[name] for item in span if item[name] is not None]
    return sum(known) if known and stats["totals"][name] is not None else None


def _label(campaign: Campaign, name: str) -> str:
    """Returns the label of a shared figure."""
    is_by_day = name == "unique_visitors" and campaign.identity == "cookieless"
    return "Visitor-days" if is_by_day else LABELS[name]


def _figures(campaign: Campaign, stats: Mapping[str, Any]) -> list[Figure]:
    """Returns at most MAX_FIGURES figures.

    If few figures are shared, others that follow from them are added, so that a page is not two numbers.
    """
    if campaign.kind == "email":
        return _figures_of_mailing(stats)
    totals = stats["totals"]
    shown: list[Figure] = []
    for name, value in totals.items():
        if value is not None:
            label = _label(campaign, name)
            definition = "visitor-days" if label == "Visitor-days" else name
            shown.append((label, definition, formatting.number(value), ""))
    if totals.get("views") is not None and totals.get("visits"):
        shown.append(("Views per visit", "", f"{totals['views'] / totals['visits']:.1f}", ""))
    busiest = max(stats["series"], key=lambda item: item["views"] or 0, default=None)
    if busiest and busiest["views"]:
        shown.append(("Busiest day", "", formatting.day(busiest["start"], stats["time_zone"]), ""))
    return shown[:MAX_FIGURES]


def _figures_of_mailing(stats: Mapping[str, Any]) -> list[Figure]:
    """Returns what `_figures` returns, for a mailing: the figures of its own page, as far as they are shared.

    With an open rate, the recipients are those that it counts.
    """
    totals, rate, delivered = stats["totals"], stats.get("open_rate"), stats.get("delivered")
    person = rate and round(rate["low"] * delivered)
    opened = round(rate["high"] * delivered) if rate else totals["unique_opens"]
    figures = (
        ("Opened by people", "unique_opens_person", person, "recipient"),
        ("Delivered", "delivered", delivered, "mail"),
        ("Opened by people or machines", "unique_opens", opened, "recipient"),
        (LABELS["opens"], "opens", totals["opens"], ""),
    )
    return [
        (label, name, formatting.number(value), unit if value == 1 or not unit else f"{unit}s")
        for label, name, value, unit in figures
        if value is not None
    ]


def _rate_bar(rate: Mapping[str, Any] | None) -> dict[str, float] | None:
    return svg.open_rate_bar({**rate, "estimate": None}) if rate else None


def _range(span: Sequence[Mapping[str, Any]]) -> str:
    """Returns the days as a query: `"from=2026-11-01&to=2026-11-08"`. Returns "" if there are no days."""
    if not span:
        return ""
    first, last = (date.fromisoformat(item["start"][:10]) for item in (span[0], span[-1]))
    return urlencode({"from": first, "to": last + timedelta(days=1)})


async def _lists(
    api: Api, campaign: Campaign, shared: Shared, whole_list: str
) -> tuple[Lists, tuple[str, str] | None]:
    """Returns the rows of each dimension that has shared rows, and their first and last day.

    whole_list: the dimension of which up to MAX_WHOLE_ROWS rows are returned, or "".
    The days are such as `("2026-11-17", "2026-11-29")`, or None if there are no rows.
    """
    if campaign.kind == "web":
        breakdowns = await shared_stats.by_dimension(
            api.store, campaign, shared.months, list(disclosure.DIMENSIONS["web"]), api.settings.shards
        )
        # Leaves out unused dimensions: a web site without UTM links needs no UTM tables.
        used = {
            name: listed
            for name, listed in breakdowns.items()
            if any(row["name"] != NONE for row in listed.rows)
        }
        counts = {name: web_breakdowns.ranking_count(name) for name in used}
        covered = shared_breakdowns.covered(shared.months)
    else:
        # Breakdowns of opens are available for a limited number of days.
        start = shared_stats.first_day_of_opens(campaign, api.clock())
        of_opens = await read_shared(api, campaign, {"from": start})
        used = {"client": of_opens.clients} if of_opens.clients and of_opens.clients.rows else {}
        counts = {"client": "opens"}
        covered = of_opens.stats["covered"]
    lists: Lists = {}
    for name, listed in used.items():
        named = [row for row in listed.rows if row["name"] != OTHER]
        given = named, counts[name], MAX_WHOLE_ROWS if name == whole_list else svg.MAX_ROWS, listed.withheld
        lists[name] = {
            "rows": svg.ranked(*given),
            "rest": svg.rest(*given),
            "count": counts[name],
            "unnamed": listed.withheld,
            "is_exact": listed.is_exact,
        }
    if not lists or covered is None:
        return lists, None
    last = date.fromisoformat(covered["to"]) - timedelta(days=1)
    return lists, (covered["from"], last.isoformat())


def _listed_days(known: Sequence[Mapping[str, Any]], days: tuple[str, str] | None) -> tuple[str, str] | None:
    """Returns the first and the last day of the lists: `("2026-11-17", "2026-11-29")`.

    They begin with the first known day at the earliest. known: the days that were read. days: the days of the
    weeks that are listed. Returns None if nothing is listed.
    """
    return (max(days[0], known[0]["start"][:10]), days[1]) if known and days else None
