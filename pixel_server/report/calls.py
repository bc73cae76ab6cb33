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


async def describe(api: Api, request: Request) -> Response:
    return reply(document(api.settings.base_url))


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
