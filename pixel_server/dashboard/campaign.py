"""`/campaigns/{id}`: one campaign's figures, first those that answer, then what they are made of."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api.context import Api
from pixel_server.api.routing import reply
from pixel_server.api.stats import series_csv
from pixel_server.campaigns import notes
from pixel_server.campaigns.campaign import Campaign
from pixel_server.dashboard import formatting, forms, range_picker, render, shared_figures, svg
from pixel_server.dashboard.glossary import TITLES
from pixel_server.figures import ranges, stats, web_breakdowns
from pixel_server.figures.ranges import Range
from pixel_server.problems import Problem
from pixel_server.recipients import lists
from pixel_server.times import iso_ms

MOST_NUMBERS = 750
"""Rows of numbers below a chart; of more, those without any are left out, then the oldest."""
BY = (
    *("page", "entry_page", "exit_page", "referrer", "referrer_kind"),
    *("utm_source", "utm_medium", "utm_campaign", "country", "browser", "system", "device", "language"),
)
LONGEST_DAY = 25 * 3600
"""Seconds: where a clock is put back."""
NOTE = {"at": "", "time": "", "text": ""}
"""The fields of a note's form."""
_SHARES = ("open_rate.low", "open_rate.high", "open_rate.estimate", "bounce_share")
_CHARTED = {
    "email": (("opens", "Opens"), ("unique_opens", "Unique opens"), ("unique_opens_person", "By a person")),
    "web": (("views", "Views"), ("visits", "Visits"), ("unique_visitors", "Unique visitors")),
}


async def page(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    if request.state.shared:
        chart = render.url(api.settings, f"campaigns/{campaign.id}/stats.json")
        return await shared_figures.show(api, request, campaign, chart)
    params = request.query_params
    try:
        asked = range_picker.query(params)
        ranges.parse(asked, campaign.time_zone, api.clock())
    except Problem as problem:  # the page of all time, and what is wrong beside the form
        answer = await fill(api, request, campaign, {}, wrong=range_picker.refused(problem), given=params)
        answer.status_code = problem.status
        return answer
    return await fill(api, request, campaign, asked)


async def fill(
    api: Api,
    request: Request,
    campaign: Campaign,
    asked: Mapping[str, str],
    note: Mapping[str, str] | None = None,
    problem: Problem | None = None,
    wrong: Sequence[str] = (),
    given: Mapping[str, str] | None = None,
) -> Response:
    """asked: the range. note: as its form was filled in, where it could not be kept. wrong: with the range
    that was given, which then stands in its form."""
    now = api.clock()
    wanted = ranges.parse(asked, campaign.time_zone, now)
    late = await asyncio.to_thread(api.late_since)
    found = await _of_range(api, campaign, wanted, now)
    form = range_picker.shown(asked, campaign.zone, wanted, now)
    context: dict[str, Any] = {
        "campaign": campaign,
        "given": given or {},
        "found": found,
        "late": late,
        "texts": figures(found),
        "changes": await changes(api, campaign, wanted, found, now),
        "rate": svg.interval(found["open_rate"]),
        "parts": svg.stack({name: each["hits"] for name, each in found["verdicts"].items()}),
        "asked": urlencode(asked),
        "form": form,
        "wrong": wrong,
        "default_days": ranges.DEFAULT_DAYS,
        "chart": _chart(found, campaign),
        "notes_elsewhere": len(await notes.list_notes(api.store, campaign.id)) - len(found["notes"]),
        "titles": TITLES,
        "lists": await _breakdowns(api, campaign, asked, found, now),
        "keeps_recipients": keeps_recipients(api, campaign),
        "rows": dict(_other_figures(campaign, found)),
    }
    note = note or {**NOTE, "at": form["today"]}
    return forms.page(api, request, "campaign.html", note, context, problem)


async def stats_json(api: Api, request: Request) -> Response:
    """What `GET /api/campaigns/{id}/stats` answers."""
    campaign = await api.campaign(request.path_params["id"])
    if request.state.shared:
        return reply(await shared_figures.read(api, campaign, request.query_params))
    found = await _read(api, campaign, request.query_params)
    late = await asyncio.to_thread(api.late_since)
    return reply({**found, "late_since": None if late is None else iso_ms(late)})


async def series(api: Api, request: Request) -> Response:
    """The numbers of the chart, as a file for a spreadsheet."""
    campaign = await api.campaign(request.path_params["id"])
    return series_csv(campaign, await _read(api, campaign, request.query_params))


async def figures_json(api: Api, request: Request) -> Response:
    """The texts of all figures, for a page that cannot be told of them as they change."""
    campaign = await api.campaign(request.path_params["id"])
    found, as_of = await texts(api, campaign, request.query_params)
    return reply({"figures": found, "as_of": as_of})


async def texts(api: Api, campaign: Campaign, params: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """(`figures`, `as_of`) of the range that a page's query names."""
    now = api.clock()
    wanted = ranges.parse(range_picker.query(params), campaign.time_zone, now)
    found = await _of_range(api, campaign, wanted, now)
    return figures(found), found["as_of"]


async def _of_range(api: Api, campaign: Campaign, wanted: Range, now: float) -> dict[str, Any]:
    """As stats. Of whole days that are looked at by hours, figures are those of the days: of hours it is not
    known how many visitors there were, nor what the opens break down into."""
    found = await stats.read(api.store, campaign, wanted, api.settings, now)
    whole = ranges.by_days(wanted)
    if wanted.all_time or whole in (None, wanted) or wanted.zone.key != campaign.time_zone:
        return found
    of_days = await stats.read(api.store, campaign, whole, api.settings, now)
    return {**of_days, **{name: found[name] for name in ("interval", "series", "notes")}}


async def _read(api: Api, campaign: Campaign, params: Mapping[str, str]) -> dict[str, Any]:
    wanted = ranges.parse(range_picker.query(params), campaign.time_zone, api.clock())
    return await stats.read(api.store, campaign, wanted, api.settings, api.clock())


def keeps_recipients(api: Api, campaign: Campaign) -> bool:
    """Whether single recipients are told apart, still."""
    return campaign.closed_at is None and lists.keeps_recipients(campaign, api.consent)


def figures(found: Mapping[str, Any]) -> dict[str, str]:
    """The text of each figure, by its path in stats: `totals.opens`, `verdicts.person.hits`."""
    texts = {path: _text(path, value) for path, value in _leaves(found)}
    for name in ("low", "high", "estimate"):
        texts.setdefault(f"open_rate.{name}", formatting.UNKNOWN)
    for name in ("time_to_open", "time_on_page", "time_of_visit"):
        for part in ("quartile_1", "median", "quartile_3"):
            texts.setdefault(f"{name}.{part}", formatting.UNKNOWN)
    return {**texts, "as_of": formatting.exact(found["as_of"])}


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
        return formatting.share(value)
    if path.startswith("time_") and path.rpartition(".")[2] in ("quartile_1", "median", "quartile_3"):
        return formatting.span(value)
    return formatting.number(value)


async def changes(
    api: Api, campaign: Campaign, wanted: Range, found: Mapping[str, Any], now: float
) -> dict[str, str]:
    """By how much each figure differs from the range before, of the same length. None without a range, where
    that one had no hits, of a day that is not over, and of how long opens took, which grows with the age of a
    mail."""
    if wanted.all_time or (wanted.end > now and wanted.end - wanted.start <= LONGEST_DAY):
        return {}
    before = await stats.read(api.store, campaign, _before(wanted), api.settings, now)
    if not before["totals"]["hits"]:
        return {}
    old = dict(_leaves(before))
    texts = {
        path: (formatting.points if path in _SHARES else formatting.change)(value, old.get(path))
        for path, value in _leaves(found)
        if not path.startswith("time_to_open")
    }
    return {path: change for path, change in texts.items() if change}


def _before(wanted: Range) -> Range:
    """As many days before; of finer intervals, as many seconds."""
    if wanted.interval != "day":
        return Range(2 * wanted.start - wanted.end, wanted.start, wanted.interval, wanted.zone, False)
    first = date.fromisoformat(ranges.show(wanted.start, wanted.zone)[:10])
    start = ranges.midnight(first - timedelta(days=len(wanted.starts())), wanted.zone)
    return Range(start, wanted.start, "day", wanted.zone, False)


def _chart(found: Mapping[str, Any], campaign: Campaign) -> dict[str, Any]:
    series = _beside(found["series"], found["notes"])
    columns = _CHARTED[campaign.kind]
    main = columns[0][0]
    path, most = svg.bars([item[main] for item in series], 800, 160)
    rows = series
    if len(rows) > MOST_NUMBERS:
        rows = [item for item in rows if item["hits"] or item["notes"]][-MOST_NUMBERS:]
    return {
        "columns": columns,
        "unit": main,
        "path": path,
        "most": most,
        "rows": rows,
        "has_notes": bool(found["notes"]),
        "left_out": len(series) - len(rows),
    }


def _beside(series: Sequence[dict[str, Any]], notes: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each interval, and in it `notes`: the texts of those that lie in it."""
    starts = [datetime.fromisoformat(item["start"]) for item in series]
    texts: list[list[str]] = [[] for _ in series]
    for note in notes:
        place = bisect_right(starts, datetime.fromisoformat(note["at"])) - 1
        if place >= 0:
            texts[place].append(note["text"])
    return [{**item, "notes": found} for item, found in zip(series, texts, strict=True)]


async def _breakdowns(
    api: Api, campaign: Campaign, asked: Mapping[str, str], found: Mapping[str, Any], now: float
) -> dict[str, list[dict[str, Any]]] | None:
    """{dimension: rows}; None: they cannot be had of this range."""
    if campaign.kind == "email":
        by = found["opens_person_by"]
        return None if by is None else {name: svg.ranked(by[name], "opens") for name in by}
    try:
        days = {name: value for name, value in asked.items() if name in ("from", "to", "tz")}
        wanted = ranges.parse(days, campaign.time_zone, now)
        read = await web_breakdowns.read(api.store, campaign, wanted, list(BY), api.settings, now)
    except Problem:
        return None
    by = read["by"]
    # What nobody used is left out: sites without UTM links need no tables of them.
    used = {name: rows for name, rows in by.items() if any(row["name"] != "(none)" for row in rows)}
    if found["totals"]["visits"] is None:  # nobody is told apart
        used = {name: rows for name, rows in used.items() if web_breakdowns.count_of(name) == "views"}
    return {name: svg.ranked(rows, web_breakdowns.count_of(name)) for name, rows in used.items()}


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
