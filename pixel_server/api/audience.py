"""Calls of the API on the audience of several campaigns: the recipients who opened some, all or none of them.

The command `audience` and the page `/audience` take the same parameters.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api import fields
from pixel_server.api.context import Api
from pixel_server.api.media_types import CSV, JSON, NDJSON, choose
from pixel_server.api.openapi.values import choice, text
from pixel_server.api.recipient_lists import (
    NO_LIST,
    PLACES,
    list_response,
    place_count,
    place_of,
    without_earlier,
)
from pixel_server.api.routing import Call, Parameter, reply
from pixel_server.campaigns import storage
from pixel_server.campaigns.campaign import Campaign
from pixel_server.consent import Consent
from pixel_server.figures import audience
from pixel_server.figures.audience import Condition, Source
from pixel_server.figures.recipients import Parts
from pixel_server.problems import BAD_CURSOR, Problem, bad_parameters
from pixel_server.recipients import lists
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.slug import PATTERN, is_slug
from pixel_server.store import audit_log
from pixel_server.store.protocols import AsyncRedis

T = TypeVar("T")

MAX_CAMPAIGNS = 20
"""Largest number of campaigns of an audience."""
MAX_MIN_OPENS = 1000
PAGE_SECONDS = 1.0
"""Seconds after which a page in JSON ends, although it has fewer rows than `limit`. So a rare condition on
many recipients takes several short requests and not a long one."""
BASE = "recipients who are on the list of at least one of these campaigns, or have any open in one of them"
"""The recipients among whom an audience is chosen, in words for the reader of an answer."""


class Audience(NamedTuple):
    """An audience that somebody asked for.

    without_list: ids of the campaigns without a list. Only their recipients who opened are known.
    """

    sources: tuple[Source, ...]
    condition: Condition
    without_list: tuple[str, ...]

    @property
    def base(self) -> dict[str, Any]:
        """The members of an answer that tell among whom the audience was chosen."""
        return {"base": BASE, "without_list": self.without_list}


async def find(
    store: AsyncRedis, settings: Settings, consent: Consent, parameters: Mapping[str, str]
) -> Audience:
    """Returns the audience that parameters describe: `{"of": "spring,summer", "opened": "none"}`.

    Raises Problem 422 if a parameter is bad, 404 if a campaign does not exist, and 409 if a campaign keeps no
    recipients, or if no campaign has a list and `opened` is `none`.
    """
    ids, condition = parse(parameters)
    sources = tuple([await _source(store, consent, campaign_id) for campaign_id in ids])
    without_list = tuple([id_ for id_ in ids if not await lists.count_listed(store, id_, settings.shards)])
    if not condition.most and len(without_list) == len(ids):
        raise Problem(409, NO_LIST)
    return Audience(sources, condition, without_list)


def parse(parameters: Mapping[str, str]) -> tuple[list[str], Condition]:
    """Returns the ids of the campaigns, and the condition. Raises Problem 422 with all errors."""
    errors: list[dict[str, str]] = []

    def checked(name: str, default: T, check: Callable[[str], T]) -> T:
        if name not in parameters:
            return default
        try:
            return check(parameters[name])
        except ValueError as error:
            errors.append({"field": name, "message": str(error)})
            return default

    no_ids: list[str] = []
    ids = checked("of", no_ids, _ids)
    if "of" not in parameters:
        errors.append({"field": "of", "message": "is missing: name the campaigns, with commas between"})
    number = len(ids) or MAX_CAMPAIGNS
    least, most = checked("opened", (1, number), lambda value: _bounds(value, number))
    state = checked("state", audience.STATES[0], fields.one_of(*audience.STATES))
    since = checked("since", 0, lambda value: fields.local_instant(value, ZoneInfo("UTC")))
    min_opens = checked("min_opens", 1, _min_opens)
    if errors:
        raise bad_parameters(errors)
    return ids, Condition(least, most, state, since, min_opens)


def _ids(value: str) -> list[str]:
    ids = value.split(",")
    if not all(map(is_slug, ids)):
        raise ValueError("must be ids of campaigns, with commas between")
    if len(set(ids)) != len(ids):
        raise ValueError("names a campaign twice")
    if len(ids) > MAX_CAMPAIGNS:
        raise ValueError(f"must name at most {MAX_CAMPAIGNS} campaigns")
    return ids


def _bounds(value: str, number: int) -> tuple[int, int]:
    """Returns the least and largest number of opened campaigns. number: number of campaigns."""
    bounds = {"any": (1, number), "all": (number, number), "none": (0, 0)}
    if value in bounds:
        return bounds[value]
    if re.fullmatch("[1-9][0-9]?", value, re.ASCII) and int(value) <= number:
        return int(value), number
    raise ValueError(f"must be any, all, none, or the least number of opened campaigns, from 1 to {number}")


def _min_opens(value: str) -> int:
    if not re.fullmatch("[0-9]{1,4}", value, re.ASCII) or not 1 <= int(value) <= MAX_MIN_OPENS:
        raise ValueError(f"must be a whole number from 1 to {MAX_MIN_OPENS:,}")
    return int(value)


async def _source(store: AsyncRedis, consent: Consent, campaign_id: str) -> Source:
    """Returns the campaign as a source. Raises Problem 404 or 409, and names the campaign."""
    try:
        campaign: Campaign = await storage.get(store, campaign_id)
    except storage.UnknownCampaign as error:
        raise Problem(404, str(error)) from None
    try:
        shows_names = lists.keeps_names(campaign, consent)
    except lists.ListClosed as error:
        raise Problem(409, f"{campaign_id} keeps no recipients: {error}") from None
    if campaign.closed_at is not None:
        raise Problem(409, f"{campaign_id} is closed: its recipients are gone")
    return Source(campaign_id, shows_names)


async def read(
    store: AsyncRedis, settings: Settings, secrets: Secrets, found: Audience, who: str, start: int = 0
) -> Parts:
    """Returns the recipients of an audience, and writes to the audit log that they are read.

    who: name for the audit log. start: place to begin at (see `figures.recipients`).
    """
    await _note(store, "audience.read", found, who)
    return audience.rows(store, secrets, found.sources, settings.shards, found.condition, start)


async def count(
    store: AsyncRedis, settings: Settings, secrets: Secrets, found: Audience, who: str
) -> audience.Counts:
    """Counts the recipients of the audience's campaigns.

    Writes to the audit log that they are counted. who: name for the audit log.
    """
    await _note(store, "audience.counted", found, who)
    return await audience.count(store, secrets, found.sources, settings.shards, found.condition)


async def _note(store: AsyncRedis, what: str, found: Audience, who: str) -> None:
    campaigns = ",".join(source.id for source in found.sources)
    await audit_log.note(store, who, what, campaigns=campaigns)


async def count_alone(api: Api, found: Audience, who: str) -> audience.Counts:
    """Does the same as `count`, once at a time in this process. Raises Problem 503 if another count runs.

    A count of a million recipients takes many seconds. Two of them would keep all other pages waiting.
    """
    if api.audience_count.locked():
        message = "another audience is being counted: try again in a few seconds"
        raise Problem(503, message, headers={"Retry-After": "5"})
    async with api.audience_count:
        return await count(api.store, api.settings, api.secrets, found, who)


async def list_audience(api: Api, request: Request) -> Response:
    query = request.query_params
    page = PLACES.parse(query)
    place, last_key = place_of(page)
    if int(place) >= place_count(api):
        raise bad_parameters([BAD_CURSOR])
    found = await find(api.store, api.settings, api.consent, query)
    parts = await read(api.store, api.settings, api.secrets, found, request.state.who, int(place))
    if choose(request, NDJSON, CSV) == JSON:
        parts = _for_a_page(parts)
    parts = without_earlier(api, parts, last_key)
    return await list_response(api, request, parts, audience.as_csv, page.limit, found.base)


async def _for_a_page(parts: Parts) -> Parts:
    """Yields parts until PAGE_SECONDS are over, and at least one part."""
    end = time.monotonic() + PAGE_SECONDS
    async for part in parts:
        yield part
        if time.monotonic() >= end:
            return


async def count_audience(api: Api, request: Request) -> Response:
    found = await find(api.store, api.settings, api.consent, request.query_params)
    counts = (await count_alone(api, found, request.state.who)).opened
    return reply({"recipients": sum(counts), "opened": counts, **found.base})


_OF = Parameter(
    "of",
    text(
        f"1 to {MAX_CAMPAIGNS} ids of different campaigns, with commas between.",
        pattern=f"^{PATTERN}(,{PATTERN}){{0,{MAX_CAMPAIGNS - 1}}}$",
    ),
    is_required=True,
)
_OPENED = Parameter(
    "opened",
    text(
        "How many of these campaigns a recipient opened: `any`, `all`, `none`, or the least number, such as "
        "`2` for two or more.",
        pattern="^(any|all|none|[1-9][0-9]?)$",
        default="any",
    ),
)
_CONDITION = (
    Parameter(
        "state",
        choice(
            audience.STATES,
            "Opens that count: by a `person` (or a proxy for a person), or all (`opened`).",
            default=audience.STATES[0],
        ),
    ),
    Parameter(
        "since",
        {
            "anyOf": [{"type": "string", "format": "date"}, {"type": "string", "format": "date-time"}],
            "description": "A campaign is opened only if the last open that counts is at or after this "
            "instant. A date, or an instant without an offset, is in UTC.",
            "examples": ["2026-11-24", "2026-11-24T09:00:00Z"],
        },
    ),
    Parameter(
        "min_opens",
        {
            "type": "integer",
            "minimum": 1,
            "maximum": MAX_MIN_OPENS,
            "default": 1,
            "description": "A campaign is opened only by at least so many opens that count, of all time.",
        },
    ),
)

CALLS = (
    Call(
        *("GET", "/api/audience", "people", list_audience),
        query=(_OF, _OPENED, *_CONDITION, *PLACES.parameters),
    ),
    Call("GET", "/api/audience/counts", "people", count_audience, query=(_OF, *_CONDITION)),
)
