"""Cuts long lists, so that what stands below a list on a page is not many screens away on a phone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MAX_ROWS = 40
"""Rows that are shown of a list without `?all=1` in the page's address."""


def shown_rows(rows: Sequence[Any], query: Mapping[str, str]) -> Sequence[Any]:
    """Returns the first MAX_ROWS rows, or all rows if the query of the page has `all`."""
    return rows if "all" in query else rows[:MAX_ROWS]
