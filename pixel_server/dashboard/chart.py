"""The chart of a campaign's page, and the table below the chart."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pixel_server.campaigns.campaign import Campaign
from pixel_server.dashboard import svg
from pixel_server.figures import ranges

MAX_TABLE_ROWS = 750
"""Largest number of rows of the table below a chart. Rows without hits are left out first, then old rows."""


_TITLES = {"day": "per day", "hour": "per hour", "15m": "per 15 minutes", ranges.HOUR_THEN_DAY: "per hour"}


def context(
    campaign: Campaign,
    campaign_stats: Mapping[str, Any],
    columns: Sequence[tuple[str, str]],
    drawn_figures: Sequence[tuple[str, str, bool]] = (),
    unit: str = "",
) -> dict[str, Any]:
    """Returns what the template of the chart needs. Intervals that begin after now are left out.

    `begins` is the time (s) before which the chart draws no zeros, see `begins`. `options` are links to other
    charts.

    columns: name and label of each column of the table. drawn_figures: (name, label, whether its values can
    be added up) of what the chart draws. Default: the first two columns. The chart without JavaScript shows
    the first of them. unit: what the chart draws, in words. Default: the name of the first figure.
    """
    now = datetime.fromisoformat(campaign_stats["as_of"])
    until_now = [item for item in campaign_stats["series"] if datetime.fromisoformat(item["start"]) <= now]
    series = _with_notes(until_now, campaign_stats["notes"])
    drawn_figures = drawn_figures or [(name, label, True) for name, label in columns[:2]]
    name, label, _ = drawn_figures[0]
    unit = unit.lower() or name.replace("_", " ")
    interval = campaign_stats["interval"]
    drawn, hours = [item[name] for item in series], None
    if interval == ranges.HOUR_THEN_DAY:
        hours = [1 if i < ranges.HOURS_END // ranges.HOUR else 24 for i in range(len(series))]
        drawn = [value and value / n for value, n in zip(drawn, hours, strict=True)]
    path, highest = svg.bars(drawn, 800, 160, hours)
    rows = series
    if len(rows) > MAX_TABLE_ROWS:
        rows = [item for item in rows if item["hits"] or item["notes"]][-MAX_TABLE_ROWS:]
    return {
        "columns": columns,
        "unit": unit,
        "label": label,
        "title": f"{unit.capitalize()} {_TITLES[interval]}",
        "series": drawn_figures,
        "path": path,
        "highest": highest,
        "rows": rows,
        "has_notes": bool(campaign_stats["notes"]),
        "left_out": len(series) - len(rows),
        "options": (),
        "begins": begins(campaign, series),
    }


def begins(campaign: Campaign, series: Sequence[Mapping[str, Any]]) -> int | None:
    """Returns the time (s) of sending, or the start of a site's first interval with requests. Pure.

    Before it nothing could be counted, so a zero would mislead. Returns None if the range begins later. A
    site's first request is known only in a range that begins before the site's creation. If filters leave no
    number of requests, the time of creation stands for it.
    """
    starts = [int(datetime.fromisoformat(item["start"]).timestamp()) for item in series]
    if not starts or (campaign.kind == "web" and starts[0] >= campaign.created):
        return None
    with_hits = (start for start, item in zip(starts, series, strict=True) if item.get("hits"))
    first = campaign.sent_at if campaign.kind == "email" else next(with_hits, campaign.created)
    return first if first is not None and starts[0] < first <= starts[-1] else None


def _with_notes(series: Sequence[dict[str, Any]], notes: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the intervals, each with the field `notes`: the texts of the notes in the interval."""
    starts = [datetime.fromisoformat(item["start"]) for item in series]
    texts: list[list[str]] = [[] for _ in series]
    for note in notes:
        index = bisect_right(starts, datetime.fromisoformat(note["at"])) - 1
        if index >= 0:
            texts[index].append(note["text"])
    return [{**item, "notes": note_texts} for item, note_texts in zip(series, texts, strict=True)]
