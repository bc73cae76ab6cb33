"""The figure that the chart of a site draws: `?chart=visits`. A row of links above the chart chooses it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

from pixel_server.campaigns.campaign import Campaign
from pixel_server.dashboard import chart

PARAMETER = "chart"
COLUMNS = (("unique_visitors", "Unique visitors"), ("visits", "Visits"), ("views", "Views"))
"""Columns of the table below the chart, in the order of the page's main figures."""
NAMES = {"visitors": "unique_visitors", "visits": "visits", "views": "views"}
"""Names of the figures in the stats, by value of PARAMETER. The first that is known is the default."""
_DRAWN = {"visitors": ("unique_visitors",), "visits": ("visits",), "views": ("views", "visits")}
"""Names of the figures that the chart draws, by value of PARAMETER."""
VISITOR_DAYS = "visitor-days"
"""Unit of unique visitors if nobody is recognized on another day."""


def visitors_label(visitor_unit: str | None, *, is_one_day: bool) -> str:
    """Returns the label of the unique visitors of a range. On one day, visitor-days are visitors."""
    return "Visitor-days" if visitor_unit == VISITOR_DAYS and not is_one_day else "Unique visitors"


class Option(NamedTuple):
    """A link above the chart. query: the query of the page whose chart draws this figure."""

    label: str
    query: str
    is_current: bool


def parse(params: Mapping[str, str]) -> dict[str, str]:
    """Returns the parameter of an address as `{"chart": "visits"}`, or {} if it is missing or unknown."""
    value = params.get(PARAMETER, "")
    return {PARAMETER: value} if value in NAMES else {}


def context(
    campaign: Campaign,
    page_stats: Mapping[str, Any],
    chosen: Mapping[str, str],
    query: Mapping[str, str],
    own_labels: Mapping[str, str],
) -> dict[str, Any]:
    """Returns what the templates of the chart need, see `chart.context`, and `options`, the links above it.

    chosen: see `parse`. query: the parameters of the page. own_labels: labels that replace those of COLUMNS,
    by name of the figure. A figure that is not known in this range, such as the visitors of an hour, has no
    link. If it is chosen, the chart draws views and visits.
    """
    series = page_stats["series"]
    labels = {**dict(COLUMNS), **own_labels}
    is_by_day = labels["unique_visitors"] == "Visitor-days"
    known = [value for value, name in NAMES.items() if any(item[name] is not None for item in series)]
    default = known[0] if "visitors" in known else "views"
    current = chosen.get(PARAMETER, default)
    current = current if current in known else "views"
    columns = [(name, labels[name]) for name, _ in COLUMNS if name in (NAMES[value] for value in known)]
    drawn = [(name, labels[name], is_by_day or name != "unique_visitors") for name in _DRAWN[current]]
    options = [
        Option(labels[NAMES[value]], urlencode({**query, PARAMETER: value}), value == current)
        for value in known
    ]
    unit = own_labels.get(drawn[0][0], "")
    shown = chart.context(campaign, page_stats, columns or COLUMNS, drawn, unit)
    if is_by_day and current == "visitors":
        shown["title"] = unit
    return {
        **shown,
        "options": options if len(options) > 1 else [],
    }
