"""The range of time that a call asks for: its two ends."""

from __future__ import annotations

from pixel_server.api.openapi.operation import query
from pixel_server.api.openapi.schema import Schema
from pixel_server.figures import ranges


def _boundary(what: str) -> Schema:
    return {
        "anyOf": [{"type": "string", "format": "date"}, {"type": "string", "format": "date-time"}],
        "description": (
            f"{what} A date or instant on a boundary of the interval in the zone, so that ranges add up; "
            f"without an offset it is one of the zone. Years {ranges.FIRST_YEAR} to {ranges.LAST_YEAR - 1}."
        ),
        "examples": ["2026-11-24", "2026-11-24T09:00:00Z"],
    }


FROM = query("from", _boundary("First instant."))
TO = query("to", _boundary("End: the first instant that is not in the range."))
