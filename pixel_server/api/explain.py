"""Call of the API that explains the verdict on a hit."""

from __future__ import annotations

import asyncio

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api import fields
from pixel_server.api.context import Api
from pixel_server.api.request_body import check_fields, read_json
from pixel_server.api.routing import Call, reply
from pixel_server.classify import explain
from pixel_server.classify.networks import NetworksError
from pixel_server.classify.rule_file import RulesError
from pixel_server.problems import Problem

_CHECKS = {
    "user_agent": fields.text,
    "ip": fields.address,
    "headers": fields.headers,
    "delay": fields.or_null(fields.delay),
}


async def explain_hit(api: Api, request: Request) -> Response:
    described_hit = check_fields(await read_json(request), _CHECKS, frozenset({"user_agent", "ip"}))
    try:
        explanation = await asyncio.to_thread(
            explain.explain,
            api.settings,
            described_hit["user_agent"],
            described_hit["ip"],
            described_hit.get("headers", {}),
            described_hit.get("delay"),
        )
    except (RulesError, NetworksError) as error:
        raise Problem(503, str(error)) from None
    return reply(explanation)


CALLS = (Call("POST", "/api/explain", "read", explain_hit),)
