"""The page of a site: its figures, its chart and its breakdowns in one range, perhaps filtered.

A click on a row of a breakdown filters the whole page. The filters stand in the address, with the names that
the API uses: `?from=2026-11-01&page=/pricing&country=DE`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any, NamedTuple
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api.context import Api
from pixel_server.campaigns.campaign import Campaign
from pixel_server.counters.labels import OTHER
from pixel_server.dashboard import (
    figure_texts,
    forms,
    note_forms,
    page_figures,
    range_picker,
    site_chart,
    svg,
)
from pixel_server.dashboard.glossary import DIMENSION_NAMES, DIMENSION_TITLES
from pixel_server.dashboard.names import display_name
from pixel_server.dashboard.refused import NOTHING_REFUSED, Refused
from pixel_server.figures import filtered, ranges, stats, visit_filters, web_breakdowns
from pixel_server.figures.ranges import Range
from pixel_server.figures.visit_filters import Filters
from pixel_server.problems import Problem

GROUPS = {
    "Pages": ("page", "entry_page", "exit_page"),
    "Sources": (
        *("referrer_kind", "utm_source", "referrer"),
        *("utm_medium", "utm_campaign", "utm_term", "utm_content"),
    ),
    "Visitors": ("country", "language", "device", "browser", "system"),
}
"""The breakdowns in the order of the page, by heading. Short and long lists fill the columns about evenly."""
DIMENSIONS = tuple(name for names in GROUPS.values() for name in names)
MORE_FIGURES = {
    "hits": "Requests",
    "unique_ips": "Unique IP addresses",
    "bounces": "Bounced visits",
    "visits_new": "New visits",
    "visits_returning": "Returning visits",
    "views_no_visitor": "Views without a visitor",
    "views_no_visit": "Views without a visit",
    "hits_gpc": "Asked not to be tracked",
    "dropped_gpc": "Dropped, asked not to be tracked",
    "dropped_opted_out": "Dropped, opted out",
    "refused_origin": "Refused, other origin",
}
"""Labels of the totals that the page does not show elsewhere."""
NOT_FILTERED = ("totals.unique_visitors", "time_on_page.median")
"""Paths of the main figures that are not known with filters. See `figures.filtered`."""
OF_MATCHING = {
    "totals.visits": ("Matching visits", "visits_matching"),
    "totals.views": ("Views in these visits", "views_matching"),
}
"""Label and definition of main figures with filters, by path. A visit that matches has other pages too."""
_CHART_LABELS_OF_MATCHING = {path.removeprefix("totals."): label for path, (label, _) in OF_MATCHING.items()}
_NOTES_OF_MATCHING = {"bounce_share": "of these visits", "time_of_visit.median": "of these visits"}
"""Words below main figures that a filter changes, by path."""
CHIP_WORDS = {
    "page": "Visits that saw",
    "entry_page": "Visits that began on",
    "exit_page": "Visits that ended on",
}
"""Words before the name in a chip. A filter by another dimension has the name of the dimension."""
MAX_WHOLE_ROWS = 200
"""Largest number of rows of a list that is shown whole. The download has all rows."""
WHOLE_LIST = "list"
"""Parameter that names the breakdown to show whole: `?list=page`."""
ALL = "all"
"""Value of the parameter `range` for all days."""


class LeadFigure(NamedTuple):
    """A main figure. is_hidden: whether filters hide it. note: words below the figure, or ""."""

    label: str
    definition: str
    path: str
    is_hidden: bool = False
    note: str = ""


class _Choice(NamedTuple):
    """Choice of what a page shows. days: the range of chart and breakdowns. query: the parameters of `days`.

    is_all: whether the totals are of all time. filters: see `visit_filters`. chart: see `site_chart.parse`.
    """

    days: Range
    query: Mapping[str, str]
    is_all: bool
    filters: Filters
    chart: dict[str, str]

    @property
    def kept(self) -> dict[str, str]:
        """Returns the parameters that stay if another range is chosen."""
        return {**self.filters, **self.chart}

    def page_query(self, filters: Filters) -> dict[str, str]:
        """Returns the parameters of the page with these filters, the same range and the same chart."""
        days = {"range": ALL} if self.is_all else self.query
        return {**days, **filters, **self.chart}


async def show(
    api: Api,
    request: Request,
    campaign: Campaign,
    params: Mapping[str, str],
    refused: Refused = NOTHING_REFUSED,
) -> Response:
    """Returns the page. params: parameters of the address. Raises Problem 409 or 422 if one is wrong."""
    choice = await _choose(api, campaign, params)
    return await _render(api, request, campaign, choice, refused)


def page_query(campaign: Campaign, params: Mapping[str, str]) -> dict[str, str]:
    """Returns the parameters that choose what a site's page shows. Raises Problem 409 or 422."""
    query = range_picker.query(params)
    whole = {"range": ALL} if _is_all(params, query) else {}
    return {**query, **whole, **visit_filters.parse(params, campaign), **site_chart.parse(params)}


def _is_all(params: Mapping[str, str], query: Mapping[str, str]) -> bool:
    """Returns whether an address asks for all days. query: its range, see `range_picker.query`."""
    return params.get("range") == ALL and not {"from", "to"} & query.keys()


async def _choose(api: Api, campaign: Campaign, params: Mapping[str, str]) -> _Choice:
    """Returns what an address asks for. Default: the last days. Raises Problem 409 or 422."""
    now = api.clock()
    filters = visit_filters.parse(params, campaign)
    if filters:
        filtered.require_visits(campaign, api.settings)
    query = range_picker.query(params)
    today = date.fromisoformat(ranges.show(int(now), campaign.zone)[:10])
    is_all = _is_all(params, query)
    if is_all:
        first = await web_breakdowns.first_day(api.store, campaign, api.settings, now)
        first = min(first or today, today - timedelta(days=ranges.DEFAULT_DAYS - 1))
        query = {"from": first.isoformat(), "to": (today + timedelta(days=1)).isoformat()}
    elif not {"from", "to"} & query.keys():
        first = today - timedelta(days=ranges.DEFAULT_DAYS - 1)
        query |= {"from": first.isoformat(), "to": (today + timedelta(days=1)).isoformat()}
    days = ranges.parse(query, campaign.time_zone, now)
    return _Choice(days, query, is_all, filters, site_chart.parse(params))


async def _render(
    api: Api,
    request: Request,
    campaign: Campaign,
    choice: _Choice,
    refused: Refused = NOTHING_REFUSED,
) -> Response:
    now = api.clock()
    late_since = await asyncio.to_thread(api.late_since)
    page_stats, by, own_views = await _read(api, campaign, choice, now)
    texts = figure_texts.texts_of(page_stats)
    changes = await _changes(api, campaign, choice, page_stats, now)
    picker = range_picker.context(choice.query, campaign.zone, choice.days, now, list(choice.kept.items()))
    is_one_day = picker["from"] == picker["until"]
    visitors = site_chart.visitors_label(page_stats["visitor_unit"], is_one_day=is_one_day)
    context: dict[str, Any] = {
        "campaign": campaign,
        "submitted": refused.submitted,
        "stats": page_stats,
        "late_since": late_since,
        "texts": texts,
        "changes": changes.texts,
        "not_before": changes.not_before,
        "without_today": changes.without_today,
        "lead": _lead(page_stats, visitors, choice.filters),
        "has_visitor_days": visitors == "Visitor-days",
        "own_views": own_views,
        "range_query": urlencode({**choice.query, **choice.filters}),
        "page_query": _query(choice, choice.filters),
        "unfiltered_query": _query(choice, {}),
        "live_query": "" if choice.is_all else urlencode(choice.query),
        "picker": {**picker, "presets": _presets(picker["presets"], choice)},
        "is_all": choice.is_all,
        "filters": choice.filters,
        "chips": _chips(choice),
        "range_errors": refused.range_errors,
        "kept": choice.kept,
        "chart": site_chart.context(
            campaign,
            page_stats,
            choice.chart,
            choice.page_query(choice.filters),
            {"unique_visitors": visitors, **(_CHART_LABELS_OF_MATCHING if choice.filters else {})},
        ),
        "is_never_counted": await page_figures.is_never_counted(api, campaign),
        **await note_forms.context(api, campaign, page_stats, refused.note_id),
        "titles": DIMENSION_TITLES,
        "groups": None
        if by is None
        else _groups(
            by,
            page_stats,
            choice,
            api.settings.visit_sample > 0,
            request.query_params.get(WHOLE_LIST, ""),
        ),
        "keeps_recipients": False,
        "bots": _bots(page_stats),
        "more_figures": {
            name: label for name, label in MORE_FIGURES.items() if page_stats["totals"].get(name) is not None
        },
    }
    fields = refused.note or {**note_forms.FIELDS, "at": picker["today"]}
    return forms.page(api, request, "site.html", fields, context, refused.problem)


async def _changes(
    api: Api, campaign: Campaign, choice: _Choice, page_stats: Mapping[str, Any], now: float
) -> figure_texts.Changes:
    """Returns the changes since the previous period. A filtered page has none."""
    if choice.is_all or choice.filters:
        return figure_texts.Changes({})
    return await figure_texts.changes(api, campaign, choice.days, page_stats, now)


async def _read(
    api: Api, campaign: Campaign, choice: _Choice, now: float
) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]] | None, int | None]:
    """Returns stats, breakdowns, and the views of the page that is a filter.

    The breakdowns are None if the range has none, and the views if no page is a filter.
    """
    store, settings, days = api.store, api.settings, choice.days
    page_stats = await page_figures.read(api, campaign, days, now)
    if choice.filters:
        found = await filtered.read(store, campaign, days, choice.filters, DIMENSIONS, settings, now)
        page = choice.filters.get("page")
        own_views = None if page is None else round(found.by["page"].get(page, (0, 0))[0])
        return filtered.as_stats(page_stats, days, found), filtered.breakdowns(found), own_views
    if choice.is_all:
        of_all = await stats.read(store, campaign, ranges.parse({}, campaign.time_zone, now), settings, now)
        page_stats = {**of_all, **{name: page_stats[name] for name in ("interval", "series", "notes")}}
    try:
        by_days = range_picker.days(campaign.time_zone, choice.query, now)
        answer = await web_breakdowns.read(store, campaign, by_days, list(DIMENSIONS), settings, now)
    except Problem:
        return page_stats, None, None
    return page_stats, answer["by"], None


def _lead(page_stats: Mapping[str, Any], visitors: str, filters: Filters) -> list[LeadFigure]:
    """Returns the main figures. visitors: the label of the visitors, see `site_chart.visitors_label`.

    Without filters, figures that are not known are left out. With filters, each figure keeps its place, and
    its words say that it is one of the visits that match.
    """
    totals = page_stats["totals"]
    definition = site_chart.VISITOR_DAYS if visitors == "Visitor-days" else "unique_visitors"
    figures = [
        (visitors, definition, "totals.unique_visitors", totals["unique_visitors"]),
        ("Visits", "visits", "totals.visits", totals["visits"]),
        ("Views", "views", "totals.views", totals["views"]),
        ("Bounce rate", "bounce_share", "bounce_share", page_stats["bounce_share"]),
        ("Visit duration", "time_of_visit", "time_of_visit.median", page_stats["time_of_visit"]),
        ("Time on page", "time_on_page", "time_on_page.median", page_stats["time_on_page"]),
    ]
    if not filters:
        return [LeadFigure(label, name, path) for label, name, path, value in figures if value is not None]
    return [
        LeadFigure(
            *OF_MATCHING.get(path, (label, name)),
            path,
            path in NOT_FILTERED,
            _NOTES_OF_MATCHING.get(path, ""),
        )
        for label, name, path, _ in figures
    ]


def _presets(presets: Sequence[tuple[str, str, bool]], choice: _Choice) -> list[tuple[str, str, bool]]:
    """Returns the presets of the range picker, with the link to all days of a site."""
    all_time = urlencode({"range": ALL, **choice.kept})
    return [
        *((label, query, is_current and not choice.is_all) for label, query, is_current in presets[:-1]),
        ("All time", all_time, choice.is_all),
    ]


def _chips(choice: _Choice) -> list[dict[str, str]]:
    """Returns the filters.

    label: words before the name, which say what a visit that matches is. name: as people read it. filter: the
    name of the filter alone. query: that of the page without the filter.
    """
    return [
        {
            "label": CHIP_WORDS.get(dimension, f"{DIMENSION_NAMES[dimension]}:"),
            "filter": DIMENSION_NAMES[dimension],
            "name": display_name(name, dimension),
            "query": _query(choice, {key: text for key, text in choice.filters.items() if key != dimension}),
        }
        for dimension, name in choice.filters.items()
    ]


def _query(choice: _Choice, filters: Filters) -> str:
    """Returns the query of the page with these filters, the same range and the same chart."""
    return urlencode(choice.page_query(filters))


def _groups(
    by: Mapping[str, list[dict[str, Any]]],
    page_stats: Mapping[str, Any],
    choice: _Choice,
    has_sample: bool,
    whole_list: str,
) -> dict[str, dict[str, dict[str, Any]]]:
    """Returns the list of each breakdown, by heading. Leaves out breakdowns without a name.

    A list has `rows`, the ranked rows; `count`, the field of a row with its count; `rest` and `unnamed`, see
    `svg`;
    `is_whole`, whether it shows all that a page can show; and `query`, the query of the page that shows
    more, or fewer if `is_whole`. Each row has `query`, the query of the page that the row filters, or "" if
    it cannot filter. has_sample: whether the server keeps the sample by which visits are filtered.
    whole_list: name of the breakdown to show whole, or "".
    """
    has_visits = page_stats["totals"]["visits"] is not None  # else visitors are not told apart
    groups: dict[str, dict[str, dict[str, Any]]] = {}
    for heading, dimensions in GROUPS.items():
        for dimension in dimensions:
            count = web_breakdowns.ranking_count(dimension)
            rows = [row for row in by[dimension] if row[count]]
            if all(row["name"] == "(none)" for row in rows) or not (has_visits or count == "views"):
                continue  # a site without UTM links needs no UTM tables
            is_whole = dimension == whole_list
            max_rows = MAX_WHOLE_ROWS if is_whole else svg.MAX_ROWS
            # A name may have been added to (other) on some days, so its count is the least that it has.
            unnamed = sum(row[count] for row in rows if row["name"] == OTHER)
            named = [row for row in rows if row["name"] != OTHER]
            ranked = svg.ranked(named, count, max_rows, unnamed)
            for row in ranked:
                can_filter = has_visits and has_sample
                row["query"] = (
                    _query(choice, {**choice.filters, dimension: row["name"]}) if can_filter else ""
                )
                row["is_chosen"] = choice.filters.get(dimension) == row["name"]
            more = {} if is_whole else {WHOLE_LIST: dimension}
            groups.setdefault(heading, {})[dimension] = {
                "rows": ranked,
                "count": count,
                "rest": svg.rest(named, count, max_rows, unnamed),
                "unnamed": unnamed,
                "is_whole": is_whole,
                "query": urlencode({**choice.page_query(choice.filters), **more}),
            }
    return groups


def _bots(page_stats: Mapping[str, Any]) -> dict[str, Any] | None:
    """Returns the views by bots and their share of all views, or None if no bots are known."""
    bots, views = page_stats["totals"]["views_bot"], page_stats["totals"]["views"]
    return {"views": bots, "share": bots / (bots + views)} if bots else None
