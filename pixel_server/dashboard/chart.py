"""The chart of a campaign's page, and the table below the chart."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pixel_server.dashboard import svg

MAX_TABLE_ROWS = 750
"""Largest number of rows of the table below a chart. Rows without hits are left out first, then old rows."""


def context(campaign_stats: Mapping[str, Any], columns: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Returns what the template of the chart needs.

    columns: name and label of each column of the table. The chart without JavaScript shows the first column.
    """
    series = _with_notes(campaign_stats["series"], campaign_stats["notes"])
    unit = columns[0][0]
    path, highest = svg.bars([item[unit] for item in series], 800, 160)
    rows = series
    if len(rows) > MAX_TABLE_ROWS:
        rows = [item for item in rows if item["hits"] or item["notes"]][-MAX_TABLE_ROWS:]
    return {
        "columns": columns,
        "unit": unit,
        "path": path,
        "highest": highest,
        "rows": rows,
        "has_notes": bool(campaign_stats["notes"]),
        "left_out": len(series) - len(rows),
    }


def _with_notes(series: Sequence[dict[str, Any]], notes: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the intervals, each with the field `notes`: the texts of the notes in the interval."""
    starts = [datetime.fromisoformat(item["start"]) for item in series]
    texts: list[list[str]] = [[] for _ in series]
    for note in notes:
        index = bisect_right(starts, datetime.fromisoformat(note["at"])) - 1
        if index >= 0:
            texts[index].append(note["text"])
    return [{**item, "notes": note_texts} for item, note_texts in zip(series, texts, strict=True)]
