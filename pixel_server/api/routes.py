"""All calls of the API, and the call that describes them."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api import (
    audience,
    audit,
    campaigns,
    deliveries,
    explain,
    inventory,
    keys,
    links,
    notes,
    overview,
    recipient_lists,
    recipients,
    shares,
    stats,
    webhooks,
    withdrawals,
)
from pixel_server.api.context import Api
from pixel_server.api.openapi.document import document
from pixel_server.api.routing import Call, reply

_documents: dict[str | None, bytes] = {}
"""The OpenAPI document as JSON, by base URL. Each document is made only once in a process."""


async def describe(api: Api, request: Request) -> Response:
    base_url = api.settings.base_url
    if base_url not in _documents:
        _documents[base_url] = bytes(reply(document(base_url, CALLS)).body)
    return Response(
        _documents[base_url], headers={"Cache-Control": "no-store"}, media_type="application/json"
    )


CALLS = (
    *campaigns.CALLS,
    *links.CALLS,
    *stats.CALLS,
    *overview.CALLS,
    *explain.CALLS,
    *notes.CALLS,
    *shares.CALLS,
    *recipient_lists.CALLS,
    *recipients.CALLS,
    *deliveries.CALLS,
    *audience.CALLS,
    *audit.CALLS,
    *withdrawals.CALLS,
    *inventory.CALLS,
    *keys.CALLS,
    *webhooks.CALLS,
    Call("GET", "/api/openapi.json", None, describe),
)
