"""Call of the API that shows the figures of many campaigns."""

from __future__ import annotations

from typing import cast

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api.campaigns import TAG_PARAMETER
from pixel_server.api.context import Api
from pixel_server.api.openapi.values import choice, text
from pixel_server.api.paging import BY_NUMBER
from pixel_server.api.routing import Call, Parameter, reply
from pixel_server.campaigns.campaign import KINDS, Kind
from pixel_server.figures import campaign_order, overview


async def show_overview(api: Api, request: Request) -> Response:
    query = request.query_params
    search, sort = query.get("q", ""), query.get("sort", overview.DEFAULT_SORT)
    chosen = overview.Query(search, sort, cast("Kind | None", query.get("kind")), query.get("tag"))
    page = _PAGING.parse(query, overview.errors_of(chosen))
    shown = await overview.read(
        *(api.store, api.settings, api.consent, chosen, api.clock(), int(page.after or 0), page.limit)
    )
    return reply(overview.to_json(shown))


_PAGING = BY_NUMBER._replace(default_limit=overview.PAGE_SIZE)
_SORTS = (*campaign_order.SORTS, *(f"-{sort}" for sort in campaign_order.SORTS))
_QUERY = (
    Parameter(
        "q",
        text("Text that the id or the name of a campaign contains.", maxLength=overview.MAX_QUERY_CHARACTERS),
    ),
    Parameter(
        "sort",
        choice(
            _SORTS,
            "A `-` before the name puts the greatest first. `rate` sorts by the `estimate` of the open "
            "rate, or by `low` if `estimate` is null; `sent_at` by the time of creation if it is not set; "
            "`name` by the numbers in it, so that `mail 2` comes before `mail 10`.",
            default=overview.DEFAULT_SORT,
        ),
    ),
    Parameter("kind", choice(KINDS, "Only campaigns of this kind.")),
    TAG_PARAMETER,
    *_PAGING.parameters,
)

CALLS = (Call("GET", "/api/overview", "read", show_overview, query=_QUERY),)
