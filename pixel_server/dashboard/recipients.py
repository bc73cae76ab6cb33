"""`/campaigns/{id}/recipients`: who did what, by pages; all of them to download."""

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

ROWS = 100
"""Of a page, about: it ends where a hash of recipients does."""
FEW = 2
"""Places read first: some 120 recipients of a million."""
STATES = {
    "opened": ("Opened", "With any open, by a person or by a machine."),
    "person": ("Opened by a person", "With an open by a person, or by a proxy for one."),
    "machine_only": ("By machines only", "Each open was a prefetch's or a scanner's."),
    "unopened": ("Not opened", "On the list, and without an open. Without those who withdrew."),
}


async def page(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    state = request.query_params.get("state") or "opened"
    after = request.query_params.get("after", "0")
    context: dict[str, Any] = {
        "campaign": campaign,
        "state": state,
        "states": STATES,
        "is_named": api.consent.rule(campaign.mode, None).mode == Mode.IDENTIFIED,
        "rows": [],
        "next": None,
        "after": after,
        "missing": "",
    }
    try:
        found = await read_recipients(api, campaign, state, after, request.state.who, FEW)
    except Problem as problem:
        if problem.status != 409:
            raise
        return render.page(api, request, "recipients.html", {**context, "missing": problem.detail}, 409)
    following, rows = 0, context["rows"]
    async for place, part in found:
        rows += part
        following = place
        if len(rows) >= ROWS:
            break
    context["next"] = following if following < place_count(api) else None
    return render.page(api, request, "recipients.html", context)


async def download(api: Api, request: Request) -> Response:
    """All in a state, as lines or as a table by the name's end."""
    campaign = await api.campaign(request.path_params["id"])
    state = request.query_params.get("state") or "opened"
    found = await read_recipients(api, campaign, state, "0", request.state.who)
    # The first are read before anything is answered: a store that is away is an error page, not half a file.
    parts = _after(await anext(found, (0, [])), found)
    is_csv = request.url.path.endswith(".csv")
    name = f"{campaign.id}-{state}.{'csv' if is_csv else 'ndjson'}"
    return StreamingResponse(
        recipients.as_csv(parts) if is_csv else recipients.ndjson(parts),
        headers={**render.headers(), "Content-Disposition": f'attachment; filename="{name}"'},
        media_type="text/csv; charset=utf-8" if is_csv else "application/x-ndjson",
    )


async def _after(
    first: tuple[int, list[Row]], others: AsyncIterator[tuple[int, list[Row]]]
) -> AsyncIterator[tuple[int, list[Row]]]:
    yield first
    async for part in others:
        yield part
