"""All calls of the API."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api import campaigns, inventory, keys, notes, overview, recipients, shares
from pixel_server.api.openapi.document import document
from pixel_server.api.routing import Api, Call, reply

_documents: dict[str | None, bytes] = {}
"""The document as JSON, by base URL: made once in a process."""


async def describe(api: Api, request: Request) -> Response:
    base_url = api.settings.base_url
    if base_url not in _documents:
        _documents[base_url] = bytes(reply(document(base_url)).body)
    return Response(
        _documents[base_url], headers={"Cache-Control": "no-store"}, media_type="application/json"
    )


CALLS = (
    *campaigns.CALLS,
    *recipients.CALLS,
    *overview.CALLS,
    *notes.CALLS,
    *shares.CALLS,
    *inventory.CALLS,
    *keys.CALLS,
    Call("GET", "/api/openapi.json", None, describe),
)
