"""All calls of the API."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.report import (
    campaign_calls,
    kept_calls,
    key_calls,
    note_calls,
    overview_calls,
    people_calls,
    share_calls,
)
from pixel_server.report.api import Api, Call, reply
from pixel_server.report.openapi.document import document

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
    *campaign_calls.CALLS,
    *people_calls.CALLS,
    *overview_calls.CALLS,
    *note_calls.CALLS,
    *share_calls.CALLS,
    *kept_calls.CALLS,
    *key_calls.CALLS,
    Call("GET", "/api/openapi.json", None, describe),
)
