"""`/`: the list of all campaigns, with a few figures of each."""

from __future__ import annotations

from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api.context import Api
from pixel_server.campaigns import storage
from pixel_server.campaigns.campaign import UnreadableCampaign, report_unreadable
from pixel_server.dashboard import render, svg
from pixel_server.figures import overview

SORTS = {
    "-last_hit": "Last request",
    "-created": "Newest",
    "name": "Name",
    "-rate": "Open rate",
    "-uniques": "Unique",
}
DEFAULT_SORT = "-last_hit"


async def show(api: Api, request: Request) -> Response:
    if request.state.has_shared_key:
        return await _shared(api, request)
    query = request.query_params.get("q", "").strip()[: overview.MAX_QUERY_CHARACTERS]
    sort = request.query_params.get("sort", DEFAULT_SORT)
    sort = sort if sort in SORTS else DEFAULT_SORT
    page_text = request.query_params.get("page", "1")
    page = int(page_text) if page_text.isascii() and page_text.isdigit() and len(page_text) < 7 else 1
    page = max(1, page)
    start = (page - 1) * overview.PAGE_SIZE
    listing = await overview.read(api.store, api.settings, api.consent, query, sort, api.clock(), start)
    page_count = max(1, -(-listing.total // overview.PAGE_SIZE))
    context = {
        "rows": [
            {
                "row": row,
                "rate": svg.open_rate_bar(row.rate),
                "spark": svg.spark(row.days),
                "sum": sum(day or 0 for day in row.days),
            }
            for row in listing.rows
        ],
        "total": listing.total,
        "as_of": listing.as_of,
        "query": query,
        "sort": sort,
        "sorts": SORTS,
        "page": page,
        "page_count": page_count,
        "link": lambda **changed: "?" + urlencode({"q": query, "sort": sort, "page": page, **changed}),
    }
    return render.page(api, request, "list.html", context)


async def _shared(api: Api, request: Request) -> Response:
    """Returns the list of the campaigns whose shared figures this session may see."""
    campaigns = []
    for campaign_id in request.state.session.shared_campaigns:
        try:
            campaigns.append(await storage.get(api.store, campaign_id))
        except storage.UnknownCampaign:
            continue
        except UnreadableCampaign as error:
            report_unreadable(error)
    return render.page(api, request, "shared_list.html", {"campaigns": campaigns})
