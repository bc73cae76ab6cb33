"""`/campaigns/{id}`: one campaign's figures, first those that answer, then what they are made of."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.campaigns import Campaign
from pixel_server.report import breakdowns, ranges, stats
from pixel_server.report.api import Api, reply
from pixel_server.report.pages import pictures, render, shared_page, show
from pixel_server.report.problems import Problem
from pixel_server.report.ranges import Range
from pixel_server.tokens import Mode

MOST_ROWS = 10
"""Of one breakdown."""
MOST_NUMBERS = 750
"""Rows of numbers below a chart; of more, those without any are left out, then the oldest."""
BY = (
    *("page", "entry_page", "exit_page", "referrer", "referrer_kind"),
    *("utm_source", "utm_medium", "utm_campaign", "country", "browser", "system", "device", "language"),
)
TITLES = {
    "page": "Pages",
    "entry_page": "Entry pages",
    "exit_page": "Exit pages",
    "referrer": "Referrers",
    "referrer_kind": "Kinds of referrer",
    "utm_source": "UTM source",
    "utm_medium": "UTM medium",
    "utm_campaign": "UTM campaign",
    "country": "Countries",
    "browser": "Browsers",
    "system": "Systems",
    "device": "Devices",
    "language": "Languages",
    "client": "Mail programs",
}
PRESETS = (7, 30, 90, 365)
"""Days."""
_SHARES = ("open_rate.low", "open_rate.high", "open_rate.estimate", "bounce_share")
_CHARTED = {
    "email": (("opens", "Opens"), ("unique_opens", "Unique opens"), ("unique_opens_person", "By persons")),
    "web": (("views", "Views"), ("visits", "Visits"), ("unique_visitors", "Unique visitors")),
}


async def page(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    if request.state.shared:
        chart = render.url(api.settings, f"campaigns/{campaign.id}/stats.json")
        return await shared_page.show(api, request, campaign, chart)
    now, asked = api.clock(), query(request.query_params)
    wanted = ranges.parse(asked, campaign.time_zone, now)
    late = await asyncio.to_thread(api.late_since)
    found = await stats.read(api.store, campaign, wanted, api.settings, now)
    context: dict[str, Any] = {
        "campaign": campaign,
        "found": found,
        "late": late,
        "texts": figures(found),
        "changes": await _changes(api, campaign, wanted, found, now),
        "rate": pictures.interval(found["open_rate"]),
        "parts": pictures.stack({name: each["hits"] for name, each in found["verdicts"].items()}),
        "asked": urlencode(asked),
        "form": _form(asked, campaign, wanted, now),
        "chart": _chart(found["series"], campaign),
        "titles": TITLES,
        "breakdowns": await _breakdowns(api, campaign, asked, found, now),
        "keeps_recipients": keeps_recipients(api, campaign),
        "rows": dict(_other_figures(campaign, found)),
    }
    return render.page(api, request, "campaign.html", context)


async def stats_json(api: Api, request: Request) -> Response:
    """What `GET /api/campaigns/{id}/stats` answers."""
    campaign = await api.campaign(request.path_params["id"])
    if request.state.shared:
        return reply(await shared_page.read(api, campaign))
    return reply(await _read(api, request, campaign))


async def figures_json(api: Api, request: Request) -> Response:
    """The texts of all figures, for a page that cannot be told of them as they change."""
    found = await _read(api, request, await api.campaign(request.path_params["id"]))
    return reply({"figures": figures(found), "as_of": found["as_of"]})


async def _read(api: Api, request: Request, campaign: Campaign) -> dict[str, Any]:
    wanted = ranges.parse(query(request.query_params), campaign.time_zone, api.clock())
    late = await asyncio.to_thread(api.late_since)
    found = await stats.read(api.store, campaign, wanted, api.settings, api.clock())
    return {**found, "late_since": None if late is None else ranges.show_ms(late)}


def query(params: Mapping[str, str]) -> dict[str, str]:
    """A range as the API takes it, of what a form or the API gives. until: the last day of a form's range.

    Problem 422: `until` is no date.
    """
    found = {name: params[name] for name in ("from", "to", "interval", "tz") if params.get(name)}
    if params.get("until") and "to" not in found:
        try:
            found["to"] = (date.fromisoformat(params["until"]) + timedelta(days=1)).isoformat()
        except (ValueError, OverflowError):
            errors = [{"field": "until", "message": "must be a date, as 2026-11-24"}]
            raise Problem(422, "some parameters cannot be used", errors) from None
    return found


def keeps_recipients(api: Api, campaign: Campaign) -> bool:
    """Whether single recipients are told apart."""
    return (
        campaign.kind == "email"
        and campaign.closed_at is None
        and api.consent.rule(campaign.mode, None).mode >= Mode.PSEUDONYMOUS
    )


def figures(found: Mapping[str, Any]) -> dict[str, str]:
    """The text of each figure, by its path in stats: `totals.opens`, `verdicts.person.hits`."""
    texts = {path: _text(path, value) for path, value in _leaves(found)}
    for name in ("low", "high", "estimate"):
        texts.setdefault(f"open_rate.{name}", show.UNKNOWN)
    for name in ("time_to_open", "time_on_page", "time_of_visit"):
        for part in ("quartile_1", "median", "quartile_3"):
            texts.setdefault(f"{name}.{part}", show.UNKNOWN)
    return {**texts, "as_of": show.exact(found["as_of"])}


def _leaves(found: Mapping[str, Any]) -> Iterator[tuple[str, float | None]]:
    for name in ("sent", "delivered", "bounce_share"):
        yield name, found[name]
    for name, value in found["totals"].items():
        yield f"totals.{name}", value
    for name, each in found["verdicts"].items():
        for what, value in each.items():
            yield f"verdicts.{name}.{what}", value
    for name in ("time_to_open", "time_on_page", "time_of_visit"):
        for part, value in (found[name] or {}).items():
            yield f"{name}.{part}", value
    for part in ("low", "high", "estimate"):
        if found["open_rate"]:
            yield f"open_rate.{part}", found["open_rate"][part]


def _text(path: str, value: float | None) -> str:
    if path in _SHARES:
        return show.share(value)
    if path.startswith("time_") and path.rpartition(".")[2] in ("quartile_1", "median", "quartile_3"):
        return show.span(value)
    return show.number(value)


async def _changes(
    api: Api, campaign: Campaign, wanted: Range, found: Mapping[str, Any], now: float
) -> dict[str, str]:
    """By how much each figure differs from the range before, of the same length. Without a range: none."""
    if wanted.all_time:
        return {}
    before = await stats.read(api.store, campaign, _before(wanted), api.settings, now)
    old = dict(_leaves(before))
    changes = {
        path: (show.points if path in _SHARES else show.change)(value, old.get(path))
        for path, value in _leaves(found)
    }
    return {path: text for path, text in changes.items() if text}


def _before(wanted: Range) -> Range:
    """As many days before; of finer intervals, as many seconds."""
    if wanted.interval != "day":
        return Range(2 * wanted.start - wanted.end, wanted.start, wanted.interval, wanted.zone, False)
    first = date.fromisoformat(ranges.show(wanted.start, wanted.zone)[:10])
    start = ranges.midnight(first - timedelta(days=len(wanted.starts())), wanted.zone)
    return Range(start, wanted.start, "day", wanted.zone, False)


def _form(asked: Mapping[str, str], campaign: Campaign, wanted: Range, now: float) -> dict[str, Any]:
    """What the range picker shows: its dates, the presets as links, what is shown now."""
    today = date.fromisoformat(ranges.show(int(now), campaign.zone)[:10])
    first, last = (ranges.show(at, wanted.zone)[:10] for at in (wanted.start, wanted.end - 1))
    presets = []
    for days in PRESETS:
        start = (today - timedelta(days=days - 1)).isoformat()
        is_it = not wanted.all_time and (first, last) == (start, today.isoformat())
        presets.append((f"{days} days", urlencode({"from": start, "until": today.isoformat()}), is_it))
    return {
        "presets": [("All time", "", wanted.all_time), *presets],
        "from": "" if wanted.all_time else first,
        "until": "" if wanted.all_time else last,
        "interval": wanted.interval,
        "all_time": wanted.all_time,
        "start": wanted.start,
        "last": wanted.end - 1,
        "zone": wanted.zone.key,
        "today": today.isoformat(),
        "of": urlencode(asked),
    }


def _chart(series: list[dict[str, Any]], campaign: Campaign) -> dict[str, Any]:
    columns = _CHARTED[campaign.kind]
    main = columns[0][0]
    path, most = pictures.bars([item[main] for item in series], 800, 160)
    rows = series
    if len(rows) > MOST_NUMBERS:
        rows = [item for item in rows if item["hits"]][-MOST_NUMBERS:]
    return {
        "columns": columns,
        "unit": main,
        "path": path,
        "most": most,
        "first": series[0]["start"],
        "last": series[-1]["start"],
        "rows": rows,
        "left_out": len(series) - len(rows),
    }


async def _breakdowns(
    api: Api, campaign: Campaign, asked: Mapping[str, str], found: Mapping[str, Any], now: float
) -> dict[str, Any]:
    """{of: which range, lists: {dimension: rows}}; lists None: they cannot be had of this range."""
    if campaign.kind == "email":
        by = found["opens_person_by"]
        lists = None if by is None else {name: pictures.ranked(by[name], "opens", MOST_ROWS) for name in by}
        return {"count": "opens", "lists": lists}
    try:
        days = {name: value for name, value in asked.items() if name in ("from", "to", "tz")}
        wanted = ranges.parse(days, campaign.time_zone, now)
        read = await breakdowns.read(api.store, campaign, wanted, list(BY), api.settings, now)
    except Problem:
        return {"count": "visits", "lists": None}
    by = read["by"]
    # What nobody used is left out: sites without UTM links need no tables of them.
    used = {name: rows for name, rows in by.items() if any(row["name"] != "(none)" for row in rows)}
    return {
        "count": "visits",
        "lists": {name: pictures.ranked(rows, "visits", MOST_ROWS) for name, rows in used.items()},
    }


def _other_figures(campaign: Campaign, found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(name, label) of totals that are not shown above."""
    labels = {
        "hits": "Hits",
        "unique_ips": "Unique addresses",
        "opens_anonymous": "Anonymous opens",
        "views_bot": "Views by bots",
        "bounces": "Bounces",
        "visits_new": "New visits",
        "visits_returning": "Returning visits",
        "views_no_visitor": "Views without a visitor",
        "views_no_visit": "Views without a visit",
        "hits_gpc": "Asked not to be followed",
        "dropped_gpc": "Dropped for asking so",
        "dropped_opted_out": "Dropped, opted out",
        "refused_origin": "Refused, other origin",
    }
    for name, label in labels.items():
        if found["totals"].get(name) is not None:
            yield name, label
