"""Filters of visits: the names that a visit must have in some dimensions. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pixel_server.campaigns.campaign import Campaign
from pixel_server.counters.visit_sample import SampledVisit
from pixel_server.counters.web_breakdown import DIMENSIONS, EXIT, PAGE, VISITOR_DIMENSIONS, Source
from pixel_server.counters.web_names import MAX_NAME_BYTES
from pixel_server.figures import web_breakdowns
from pixel_server.figures.web_breakdowns import REFERRER_KIND
from pixel_server.problems import Problem, bad_parameters

NAMES = web_breakdowns.SHOWN_DIMENSIONS
"""Names of the parameters that filter: the dimensions of a site."""
MAX_LENGTH = MAX_NAME_BYTES
"""Largest number of characters of a filter: a name has no more bytes."""
Filters = Mapping[str, str]
"""The name that a visit must have, by dimension: `{"page": "/pricing", "country": "DE"}`."""


def parse(query: Mapping[str, str], campaign: Campaign) -> Filters:
    """Returns the filters in a query, in its order, {} if it has none.

    Raises Problem 409 if the campaign is of another kind, and 422 if a filter cannot be used.
    """
    filters = {name: query[name] for name in query if name in NAMES}
    if filters and campaign.kind != "web":
        raise Problem(409, "only the figures of web campaigns can be filtered")
    errors = []
    for name, value in filters.items():
        if not value:
            errors.append({"field": name, "message": "must not be empty"})
        elif len(value) > MAX_LENGTH:
            errors.append({"field": name, "message": f"must have at most {MAX_LENGTH} characters"})
    if errors:
        raise bad_parameters(errors)
    return filters


def refuse(query: Mapping[str, str]) -> None:
    """Raises Problem 403 if a query has a filter, because shared figures have no filters."""
    if any(name in query for name in NAMES):
        raise Problem(403, "shared figures cannot be filtered")


def matches(record: SampledVisit, filters: Filters) -> bool:
    """Returns whether a visit passes all filters. The filter `page` passes each visit that saw the page."""
    return all(
        value in record.pages if name == PAGE else NAME_OF[name](record) == value
        for name, value in filters.items()
    )


def _trait(place: int) -> Callable[[SampledVisit], str]:
    return lambda record: record.traits[place]


def _source(place: int) -> Callable[[SampledVisit], str]:
    return lambda record: record.source[place] if place < len(record.source) else Source()[place]


NAME_OF: Mapping[str, Callable[[SampledVisit], str]] = {
    **{name: _trait(place) for place, name in enumerate(VISITOR_DIMENSIONS)},
    **{name: _source(place) for place, name in enumerate(Source._fields)},
    "entry_page": lambda record: next(iter(record.pages)),
    EXIT: lambda record: list(record.pages)[record.exit],
    REFERRER_KIND: lambda record: web_breakdowns.kind_of(_source(0)(record)),
}
"""Returns a visit's name, by dimension. The dimension PAGE is left out: a visit has several pages."""
assert NAME_OF.keys() | {PAGE} == {*DIMENSIONS, REFERRER_KIND}
