"""`/campaigns/{id}/recipients`: the recipients of a campaign, sorted and searched, and as a download."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api import fields, recipient_lists
from pixel_server.api.context import Api
from pixel_server.api.recipient_lists import NO_LIST
from pixel_server.campaigns.campaign import Campaign
from pixel_server.dashboard import downloads, render
from pixel_server.figures import recipients, sorted_recipients
from pixel_server.problems import Problem
from pixel_server.tokens import Mode

PAGE_ROWS = 100
"""Largest number of rows of a sorted page, and of a search. A page that is not sorted has more rows, because
it ends where a hash in the store ends."""
FIRST_KEYS = 10
"""Number of rows of the first page if it shows keys in place of addresses. A key tells nothing to a visitor
who looks for a person, so a few rows are enough until the visitor asks for more."""
FIRST_HASHES = 2
"""Number of Redis hashes to read first. Two hashes of a list of a million hold about 120 recipients."""
SORTED_AT_ONCE = 100_000
"""Largest number of recipients that are sorted and counted although nobody asked. It takes about 0.5 s."""
STATES = {
    "person": (
        "Opened by people",
        "Recipients with an open by a person, directly or through a mail provider such as Gmail.",
    ),
    "unopened": (
        "Not opened",
        "Recipients on the list without an open, also those whose mail bounced. Recipients who withdrew are "
        "left out.",
    ),
    "machine_only": (
        "Machines only",
        "Recipients whose opens were all by machines: mail programs that load all images, or scanners.",
    ),
    "unknown": (
        "Not known",
        "Recipients of whom it is not known whether a person or a machine opened.",
    ),
    "opened": ("Any open", "Recipients with an open: by people, by machines only, and by whom is not known."),
    "all": ("All", "Everyone on the list, and everyone with an open."),
    "withdrawn": (
        "Withdrew",
        "Recipients who do not want to be recorded. Their later opens are not counted.",
    ),
}
"""Label and meaning, by state. The first is shown first."""
FIRST_STATE = next(iter(STATES))
_TIMES_OF_SORT = {
    **{"first_open": "any", "last_open": "any"},
    **{"first_open_person": "person", "last_open_person": "person"},
}
"""Opens whose times are shown, by the time that sorts the list."""


async def page(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    context = _context(api, campaign, request.query_params.get("state") or FIRST_STATE)
    context["is_short"] = not context["shows_names"] and not {"sort", "after"} & request.query_params.keys()
    try:
        context |= await _rows(api, request, campaign, context)
    except Problem as problem:
        if problem.status != 409:
            raise
        return _refused(api, request, context, problem)
    return render.page(api, request, "recipients.html", context)


def _refused(api: Api, request: Request, context: Mapping[str, Any], problem: Problem) -> Response:
    """Returns the page with the reason why no recipients can be shown, and with the ways out."""
    more = {"refused": problem.detail, "has_no_list": problem.detail == NO_LIST}
    return render.page(api, request, "recipients.html", {**context, **more}, 409)


def _context(api: Api, campaign: Campaign, state: str) -> dict[str, Any]:
    """Returns the names that the template needs on every page.

    times: "person" if the first and last open by a person are shown, "any" if machines count too.
    is_short: whether the page has only the first FIRST_KEYS rows, until the visitor sorts or pages the list.
    """
    shows_names = api.consent.rule(campaign.mode, None).mode == Mode.IDENTIFIED
    return {
        "campaign": campaign,
        "state": state,
        "states": STATES,
        "shows_names": shows_names,
        "allows_names": api.consent.rule("identified", None).mode == Mode.IDENTIFIED,
        "is_short": False,
        "rows": [],
        "counts": {},
        "number": 0,
        "sort": "",
        "times": "person" if state == "person" else "any",
        "is_descending": True,
        "next_query": None,
        "is_first": True,
        "first_row": 0,
        "searched": None,
        "found": 0,
        "refused": "",
        "has_no_list": False,
        "wrong": "",
        "page_rows": PAGE_ROWS,
        "max_sorted": sorted_recipients.MAX_RECIPIENTS,
    }


async def _rows(api: Api, request: Request, campaign: Campaign, context: dict[str, Any]) -> dict[str, Any]:
    """Returns the part of the template's context that depends on the rows of the page."""
    parameters = {name: value for name, value in request.query_params.items() if value}
    number = await sorted_recipients.count_recipients(api.store, campaign.id, api.settings.shards)
    if "sort" not in parameters and number > SORTED_AT_ONCE:
        return {"number": number, **await _unsorted_rows(api, request, campaign, context)}
    sort = _default_sort(context)
    parameters = {"state": context["state"], "sort": sort, **parameters}
    limit = FIRST_KEYS if context["is_short"] else PAGE_ROWS
    query, found = await recipient_lists.list_sorted(api, campaign, parameters, limit, request.state.who)
    after = recipient_lists.cursor(query.sort, found.last)
    order = "desc" if query.is_descending else "asc"
    first_row = _first_row(parameters) if query.after else 1
    following: dict[str, Any] = {"state": query.state, "sort": query.sort, "order": order}
    if not context["is_short"]:
        following |= {"after": after, "row": first_row + len(found.rows) if first_row else 0}
    return {
        "number": number,
        "rows": found.rows,
        "counts": found.counts,
        "sort": query.sort,
        "times": _TIMES_OF_SORT.get(query.sort, context["times"]),
        "is_descending": query.is_descending,
        "next_query": urlencode(following) if after else None,
        "is_first": query.after is None,
        "first_row": first_row,
    }


def _default_sort(context: Mapping[str, Any]) -> str:
    if context["state"] == "unopened" and context["shows_names"]:
        return "recipient"
    return "last_open_person" if context["times"] == "person" else "last_open"


def _first_row(parameters: Mapping[str, str]) -> int:
    """Returns the number of the page's first row, as the link from the page before says, or 0."""
    text = parameters.get("row", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


async def _unsorted_rows(
    api: Api, request: Request, campaign: Campaign, context: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the rows of a page in the order of the store, and the query of the next page."""
    state = context["state"]
    after = request.query_params.get("after", "0")
    parts = await recipient_lists.read_recipients(
        api, campaign, state, after, request.state.who, FIRST_HASHES
    )
    next_place, rows = 0, []
    async for place_after, part in parts:
        rows += part
        next_place = place_after
        if len(rows) >= PAGE_ROWS:
            break
    if context["is_short"] and len(rows) > FIRST_KEYS:
        rows, next_place = rows[:FIRST_KEYS], int(after)
    has_more = next_place < recipient_lists.place_count(api)
    return {
        "rows": rows,
        "next_query": urlencode({"state": state, "after": next_place}) if has_more else None,
        "is_first": after == "0",
    }


async def search(api: Api, request: Request) -> Response:
    """Returns the page with the recipients that a text finds. No address of a page contains the text."""
    campaign = await api.campaign(request.path_params["id"])
    text = request.state.form.get("q", "").strip()
    if not text:
        return render.redirect(api, f"campaigns/{campaign.id}/recipients?state=all")
    context = {**_context(api, campaign, "all"), "searched": text}
    try:
        found = await recipient_lists.search(
            api, campaign, fields.recipient(text), PAGE_ROWS, request.state.who
        )
    except ValueError as error:
        return render.page(api, request, "recipients.html", {**context, "wrong": str(error)}, 422)
    except Problem as problem:
        if problem.status != 409:
            raise
        return _refused(api, request, context, problem)
    if found.rows and not context["shows_names"]:
        return render.redirect(api, f"recipients/{found.rows[0]['key']}?campaign={campaign.id}")
    more = {"rows": found.rows, "counts": found.counts, "found": found.found, "sort": "last_open"}
    return render.page(api, request, "recipients.html", {**context, **more})


async def download(api: Api, request: Request) -> Response:
    """Returns all recipients with a state, as CSV or NDJSON by the ending of the path."""
    campaign = await api.campaign(request.path_params["id"])
    state = request.query_params.get("state") or "opened"
    parts = await recipient_lists.read_recipients(api, campaign, state, "0", request.state.who)
    ending = request.url.path.rpartition(".")[2]
    return await downloads.file_of(parts, recipients.as_csv, f"{campaign.id}-{state}.{ending}")
