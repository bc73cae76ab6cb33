"""`/campaigns/{id}/recipients`: the recipients of a campaign by state, in pages and as a download."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from pixel_server.api.context import Api
from pixel_server.api.recipients import place_count, read_recipients
from pixel_server.dashboard import render
from pixel_server.figures import recipients
from pixel_server.figures.recipients import Row
from pixel_server.problems import Problem
from pixel_server.tokens import Mode

PAGE_ROWS = 100
"""Smallest number of rows of a page, except the last page. A page ends where a hash in the store ends."""
FIRST_HASHES = 2
"""Number of Redis hashes to read first. Two hashes of a list of a million hold about 120 recipients."""
STATES = {
    "opened": ("Opened", "Recipients with an open by a person or by a machine."),
    "person": (
        "Opened by a person",
        "Recipients with an open by a person, directly or through an image proxy.",
    ),
    "machine_only": ("By machines only", "Recipients whose opens were all by a prefetch or a scanner."),
    "unopened": (
        "Not opened",
        "Recipients on the list without an open. Recipients who withdrew are left out.",
    ),
}
"""Label and meaning, by state."""


async def page(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    state = request.query_params.get("state") or "opened"
    after = request.query_params.get("after", "0")
    context: dict[str, Any] = {
        "campaign": campaign,
        "state": state,
        "states": STATES,
        "shows_names": api.consent.rule(campaign.mode, None).mode == Mode.IDENTIFIED,
        "rows": [],
        "next": None,
        "after": after,
        "refused": "",
    }
    try:
        parts = await read_recipients(api, campaign, state, after, request.state.who, FIRST_HASHES)
    except Problem as problem:
        if problem.status != 409:
            raise
        return render.page(api, request, "recipients.html", {**context, "refused": problem.detail}, 409)
    next_place, rows = 0, context["rows"]
    async for place_after, part in parts:
        rows += part
        next_place = place_after
        if len(rows) >= PAGE_ROWS:
            break
    context["next"] = next_place if next_place < place_count(api) else None
    return render.page(api, request, "recipients.html", context)


async def download(api: Api, request: Request) -> Response:
    """Returns all recipients with a state, as CSV or NDJSON by the ending of the path."""
    campaign = await api.campaign(request.path_params["id"])
    state = request.query_params.get("state") or "opened"
    unread = await read_recipients(api, campaign, state, "0", request.state.who)
    # Reads the first rows before the response begins, so that a store failure gives an error page.
    parts = _chain(await anext(unread, (0, [])), unread)
    is_csv = request.url.path.endswith(".csv")
    name = f"{campaign.id}-{state}.{'csv' if is_csv else 'ndjson'}"
    return StreamingResponse(
        recipients.as_csv(parts) if is_csv else recipients.ndjson(parts),
        headers={**render.headers(), "Content-Disposition": f'attachment; filename="{name}"'},
        media_type="text/csv; charset=utf-8" if is_csv else "application/x-ndjson",
    )


async def _chain(
    first: tuple[int, list[Row]], others: AsyncIterator[tuple[int, list[Row]]]
) -> AsyncIterator[tuple[int, list[Row]]]:
    yield first
    async for part in others:
        yield part
