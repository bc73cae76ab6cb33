"""The names of rows of breakdowns, as people read them: Germany for `DE`, German for `de`."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path

_SPELLED_OUT = {
    "device": {"desktop": "Desktop", "phone": "Phone", "tablet": "Tablet"},
    "referrer": {"(none)": "No referrer"},
    "referrer_kind": {
        "search": "Search",
        "social": "Social networks",
        "mail": "Webmail",
        "ai": "AI assistants",
        "website": "Other sites",
        "(none)": "No referrer",
    },
}
"""Names of rows, by dimension."""
_IN_ALL_DIMENSIONS = {"(other)": "Other", "(unknown)": "Unknown", "(none)": "None"}


def display_name(name: str, dimension: str) -> str:
    """Returns the name of a row of a breakdown as people read it. A name of a stranger stays as it is."""
    if dimension == "country":
        return _countries().get(name) or _IN_ALL_DIMENSIONS.get(name, name)
    if dimension == "language":
        return _languages().get(name) or _IN_ALL_DIMENSIONS.get(name, name)
    return _SPELLED_OUT.get(dimension, {}).get(name) or _IN_ALL_DIMENSIONS.get(name, name)


@cache
def _countries() -> dict[str, str]:
    """Returns the names in the time zone database, by ISO 3166-1 code."""
    return {
        **_read_table((files("tzdata") / "zoneinfo" / "iso3166.tab").read_text("utf-8")),
        "GB": "United Kingdom",
    }


@cache
def _languages() -> dict[str, str]:
    """Returns the names of languages, by ISO 639 code."""
    return _read_table((Path(__file__).parent / "languages.tab").read_text("utf-8"))


def _read_table(text: str) -> dict[str, str]:
    return dict(line.split("\t", 1) for line in text.splitlines() if line and not line.startswith("#"))
