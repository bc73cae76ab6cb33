"""Calls of the API on many recipients: list, sort, search and count them; list inactive recipients."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from types import MappingProxyType
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from pixel_server.api import fields
from pixel_server.api.context import Api
from pixel_server.api.media_types import CSV, NDJSON, choose
from pixel_server.api.openapi.values import choice, text
from pixel_server.api.paging import Page, Paging
from pixel_server.api.request_body import check_fields, read_json
from pixel_server.api.routing import Call, Parameter, reply
from pixel_server.campaigns import retention, storage
from pixel_server.campaigns.campaign import Campaign, UnreadableCampaign
from pixel_server.figures import inactive_recipients, recipients, sorted_recipients
from pixel_server.figures.recipients import AsCsv, Parts
from pixel_server.figures.sorted_recipients import (
    MAX_RECIPIENTS,
    NUMBER_SORTS,
    TEXT_SORTS,
    Query,
    Rank,
    Sorted,
)
from pixel_server.problems import BAD_CURSOR, Problem, bad_parameter, bad_parameters
from pixel_server.recipients import lists
from pixel_server.store import audit_log

NO_LIST = "it is not known who did not open the mail: upload the list, or make links that count as sent"
KEY_DIGITS = 16
"""Hexadecimal digits of a recipient key."""
NO_STORE = {"Cache-Control": "no-store"}
ORDERS = ("asc", "desc")
PLACES = Paging("[0-9]{1,9}(?:-[0-9a-f]{16})?", fields.MAX_PAGE_SIZE)
"""A place holds several recipients (see `figures.recipients`). A cursor is the number of the place at which
the next page begins: `4711`. If a page ends in the middle of a place, the key of the page's last recipient
follows, and the next page begins after this recipient: `4711-5f0c9a3be1d2a4b6`."""
_PAGING = Paging("(?:[0-9]{1,12}(?:-[0-9a-f]{16})?|[0-9a-f]{16})", fields.MAX_PAGE_SIZE)
"""Cursors of a campaign's list. In a list that is not sorted they are places. In a list that is sorted by a
number or a time, a cursor is this value (times in seconds) and the key of a page's last recipient:
`1790000000-5f0c9a3be1d2a4b6`. In a list that is sorted by a text, it is only the key, because no address
contains what a sender calls a recipient."""


def keeps_names(api: Api, campaign: Campaign) -> bool:
    """Returns whether names are stored. Raises Problem 409 if the campaign does not tell recipients apart."""
    try:
        return lists.keeps_names(campaign, api.consent)
    except lists.ListClosed as error:
        raise Problem(409, str(error)) from None


def _readable(api: Api, campaign: Campaign) -> bool:
    """Returns whether names may be shown. Raises Problem 409 if the campaign keeps no recipients."""
    shows_names = keeps_names(api, campaign)
    if campaign.closed_at is not None:
        raise Problem(409, "this campaign is closed: its recipients are gone")
    return shows_names


async def list_recipients(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    parameters = request.query_params
    page = _PAGING.parse(parameters, _list_errors(parameters))
    if "sort" in parameters:
        if choose(request, NDJSON, CSV) in (NDJSON, CSV):
            raise bad_parameter("sort", "must be left out if all recipients are requested as lines")
        query, found = await list_sorted(api, campaign, parameters, page.limit, request.state.who)
        return reply({"items": found.rows, "next": cursor(query.sort, found.last)})
    place, last_key = place_of(page)
    parts = await read_recipients(api, campaign, parameters.get("state", "opened"), place, request.state.who)
    parts = without_earlier(api, parts, last_key)
    return await list_response(api, request, parts, recipients.as_csv, page.limit)


async def list_sorted(
    api: Api, campaign: Campaign, parameters: Mapping[str, str], limit: int, who: str
) -> tuple[Query, Sorted]:
    """Returns a sorted page of a campaign's recipients.

    parameters: `sort` and perhaps `state`, `order` and `after`, as in the API. Reads and raises as
    `read_sorted`, and raises Problem 422 if a parameter is bad.
    """
    page = _PAGING.parse(
        {"after": parameters["after"]} if "after" in parameters else {}, _list_errors(parameters)
    )
    sort, order = parameters["sort"], parameters.get("order")
    is_descending = sort in NUMBER_SORTS if order is None else order == "desc"
    after = None if page.after is None else await _rank(api, campaign, sort, is_descending, page.after)
    query = Query(parameters.get("state", "opened"), sort, is_descending, limit, after)
    return query, await read_sorted(api, campaign, query, who)


async def read_recipients(
    api: Api,
    campaign: Campaign,
    state: str,
    start: str,
    who: str,
    first_places: int = recipients.FIRST_PLACES,
) -> Parts:
    """Returns a campaign's recipients with a state, and writes to the audit log that they were read.

    start: number of the place to begin at (see `figures.recipients`). who: name for the audit log.
    first_places: number of places that the first round trip reads. Raises Problem 422 if the state or the
    cursor is bad, and 409 if the campaign keeps no recipients, or no longer keeps them.
    """
    errors = _list_errors({"state": state})
    if not (start.isascii() and start.isdigit() and len(start) < 10 and int(start) < place_count(api)):
        errors.append(BAD_CURSOR)
    if errors:
        raise bad_parameters(errors)
    shows_names = _readable(api, campaign)
    shards = api.settings.shards
    if state == "unopened" and not await lists.count_listed(api.store, campaign.id, shards):
        raise Problem(409, NO_LIST)
    await audit_log.note(api.store, who, "recipients.read", campaign=campaign.id, state=state)
    return recipients.rows(
        api.store, api.secrets, campaign.id, shards, state, shows_names, int(start), first_places
    )


async def read_sorted(api: Api, campaign: Campaign, query: Query, who: str) -> Sorted:
    """Returns a sorted page of a campaign's recipients, and the counts of all its recipients.

    Writes to the audit log that they were read. who: name for the audit log. In `counts`, `unopened` is None
    if the campaign has no list. Raises Problem 409 if the campaign keeps no recipients, has more than
    MAX_RECIPIENTS, keeps no names to sort by, or has no list and the state is `unopened`.
    """
    shows_names = _readable(api, campaign)
    if query.sort in TEXT_SORTS and not shows_names:
        raise Problem(
            409, f"this campaign cannot be sorted by {query.sort}: only the mode `identified` keeps it"
        )
    shards = api.settings.shards
    number = await sorted_recipients.count_recipients(api.store, campaign.id, shards)
    if number > MAX_RECIPIENTS:
        raise Problem(
            409,
            f"this campaign has about {number:,} recipients, and at most {MAX_RECIPIENTS:,} can be sorted, "
            "searched and counted: leave `sort` out, or download all recipients",
        )
    has_list = await lists.count_listed(api.store, campaign.id, shards) > 0
    if query.state == "unopened" and not has_list:
        raise Problem(409, NO_LIST)
    await audit_log.note(api.store, who, "recipients.read", campaign=campaign.id, state=query.state)
    found = await sorted_recipients.read(api.store, campaign.id, shards, shows_names, api.withdrawn, query)
    return found if has_list else found._replace(counts={**found.counts, "unopened": None})


async def count_recipients(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    found = await read_sorted(api, campaign, Query("all", limit=0), request.state.who)
    return reply(found.counts)


async def search_recipients(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    checks = {"text": fields.recipient, "limit": fields.integer(1, fields.MAX_PAGE_SIZE)}
    content = check_fields(await read_json(request), checks, required=frozenset({"text"}))
    found = await search(
        api, campaign, content["text"], content.get("limit", fields.PAGE_SIZE), request.state.who
    )
    return reply({"items": found.rows, "found": found.found})


async def search(api: Api, campaign: Campaign, text: str, limit: int, who: str) -> Sorted:
    """Returns the recipients of a campaign that a text finds, the newest open first.

    If names are stored, these are the recipients with the text in the recipient or name, in any case.
    Otherwise it is the recipient that is exactly the text, and `counts` is empty. Reads and raises as
    `read_sorted`.
    """
    recipient = api.secrets.recipient_key(text)
    if _readable(api, campaign):
        query = Query("all", limit=limit, text=text, recipient=recipient)
        return await read_sorted(api, campaign, query, who)
    await audit_log.note(api.store, who, "recipients.read", campaign=campaign.id, state="all")
    row = await sorted_recipients.read_row(
        api.store, campaign.id, api.settings.shards, api.withdrawn, recipient
    )
    rows = [] if row is None else [row]
    return Sorted(rows, None, len(rows), {})


def cursor(sort: str, last: Rank | None) -> str | None:
    """Returns the cursor of the page after a row, or None if `last` is None."""
    if last is None:
        return None
    _, value, key = last
    return key.hex() if sort in TEXT_SORTS else f"{value}-{key.hex()}"


async def _rank(api: Api, campaign: Campaign, sort: str, is_descending: bool, after: str) -> Rank:
    """Returns the rank of the row before a page. Raises Problem 422 if the cursor is bad."""
    value, _, key = after.rpartition("-")
    rank = None
    if len(key) == KEY_DIGITS and (sort in TEXT_SORTS) == (not value):
        recipient = bytes.fromhex(key)
        if value:
            rank = sorted_recipients.rank_of_number(int(value), is_descending, recipient)
        else:
            rank = await sorted_recipients.read_rank(
                api.store, campaign.id, api.settings.shards, recipient, sort, is_descending
            )
    if rank is None:
        raise bad_parameters([BAD_CURSOR])
    return rank


def _list_errors(parameters: Mapping[str, str]) -> list[dict[str, str]]:
    """Returns the errors of the parameters `state`, `sort` and `order`."""
    choices = {"state": recipients.STATES, "sort": sorted_recipients.SORTS, "order": ORDERS}
    return [
        {"field": name, "message": f"must be one of: {', '.join(allowed)}"}
        for name, allowed in choices.items()
        if name in parameters and parameters[name] not in allowed
    ]


def place_of(page: Page) -> tuple[str, str]:
    """Returns (the place at which a page begins, the key of the last recipient before the page or "")."""
    place, _, last_key = (page.after or "0").partition("-")
    return place, last_key


def place_count(api: Api) -> int:
    """Returns the number of places of a list of recipients. The first place is 0."""
    return recipients.place_count(api.settings.shards)


async def list_quiet(api: Api, request: Request) -> Response:
    query = request.query_params
    errors, since = [], 0
    try:
        since = fields.day(query.get("quiet_since"))
    except ValueError as error:
        errors.append({"field": "quiet_since", "message": str(error)})
    page = PLACES.parse(query, errors)
    place, last_key = place_of(page)
    if int(place) >= place_count(api):
        raise bad_parameters([BAD_CURSOR])
    await audit_log.note(api.store, request.state.who, "recipients.read", state="quiet")
    span = inactive_recipients.Span(since, int(api.clock()))
    sources = await _inactive_sources(api)
    parts = inactive_recipients.rows(api.store, api.secrets, sources, api.settings.shards, span, int(place))
    parts = without_earlier(api, parts, last_key)
    as_csv = partial(recipients.as_csv, columns=inactive_recipients.FIELDS)
    return await list_response(api, request, parts, as_csv, page.limit)


async def _inactive_sources(api: Api) -> list[inactive_recipients.Source]:
    """Returns the campaigns from which inactive recipients are read: open campaigns that keep recipients."""
    sources = []
    for campaign_id in await storage.ids_of_kind(api.store, "email"):
        with suppress(storage.UnknownCampaign, UnreadableCampaign):
            campaign, uses = await storage.get_uses(api.store, campaign_id)
            if campaign.closed_at is None and lists.keeps_recipients(campaign, api.consent):
                keeps_names = lists.keeps_names(campaign, api.consent)
                sent_at = retention.sending_time(campaign, uses)
                sources.append(inactive_recipients.Source(campaign_id, sent_at, keeps_names))
    return sources


async def list_response(
    api: Api,
    request: Request,
    parts: Parts,
    as_csv: AsCsv,
    limit: int,
    more: Mapping[str, Any] = MappingProxyType({}),
) -> Response:
    """Returns all rows if `Accept` names NDJSON or CSV, else a page of at most `limit` rows in JSON.

    more: further members of the page.
    """
    media_type = choose(request, NDJSON, CSV)
    if media_type == NDJSON:
        return StreamingResponse(recipients.ndjson(parts), 200, NO_STORE, NDJSON)
    if media_type == CSV:
        return StreamingResponse(as_csv(parts), 200, NO_STORE, "text/csv; charset=utf-8")
    items: list[recipients.Row] = []
    next_place = 0
    async for place_after, rows in parts:
        items += rows
        next_place = place_after
        if len(items) >= limit:
            break
    if len(items) > limit:
        key = items[limit - 1]["key"]
        return reply({"items": items[:limit], "next": f"{_order(api, key)[0]}-{key}", **more})
    cursor_after = str(next_place) if next_place < place_count(api) else None
    return reply({"items": items, "next": cursor_after, **more})


async def without_earlier(api: Api, parts: Parts, last_key: str) -> Parts:
    """Yields the parts with only the rows after the recipient with `last_key`, or all rows if it is ""."""
    async for place_after, rows in parts:
        later = [row for row in rows if not last_key or _order(api, row["key"]) > _order(api, last_key)]
        yield place_after, later


def _order(api: Api, key: str) -> tuple[int, str]:
    """Returns (place, key) of a recipient. Lists of recipients are in this order."""
    recipient_key = bytes.fromhex(key)
    return recipients.place(recipient_key, api.settings.shards), key


_STATE = Parameter("state", choice(recipients.STATES, "State of the recipients to list.", default="opened"))
_SORT = Parameter(
    "sort", choice(sorted_recipients.SORTS, "Field to sort by. Without it, the order is not defined.")
)
_ORDER = Parameter(
    "order", choice(ORDERS, "Direction of `sort`. Default: `desc` for numbers and times, `asc` for texts.")
)
_QUIET_SINCE = Parameter(
    "quiet_since",
    text("First day, in UTC, of the time without an open by a person.", format="date"),
    is_required=True,
)

CALLS = (
    Call(
        "GET",
        "/api/campaigns/{id}/recipients",
        "people",
        list_recipients,
        query=(_STATE, _SORT, _ORDER, *_PAGING.parameters),
    ),
    Call("GET", "/api/campaigns/{id}/recipients/counts", "people", count_recipients),
    Call("POST", "/api/campaigns/{id}/recipients/search", "people", search_recipients),
    Call("GET", "/api/recipients", "people", list_quiet, query=(_QUIET_SINCE, *PLACES.parameters)),
)
