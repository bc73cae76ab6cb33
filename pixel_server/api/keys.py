"""Calls of the API: API keys."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api import request_body
from pixel_server.api.routing import Api, Call, reply
from pixel_server.auth import api_keys
from pixel_server.problems import Problem


async def list_keys(api: Api, request: Request) -> Response:
    found = await api_keys.list_keys(api.store)
    return reply({"items": [api_keys.to_json(record) for record in found], "next": None})


async def create(api: Api, content: Any, who: str, may: Set[str]) -> tuple[api_keys.ApiKey, str]:
    """(the record, the key), made of JSON. who: for the audit log. may: the scopes of the key that makes it.

    Problem 422: bad fields. 403: it may do what the one that makes it may not.
    """
    known = {"name": request_body.name, "scopes": request_body.scopes}
    fields = request_body.check(content, known, frozenset(known))
    needed = ["read" if scope.startswith(api_keys.CAMPAIGN_SCOPE) else scope for scope in fields["scopes"]]
    if lacking := [scope for scope in dict.fromkeys(needed) if scope not in may]:
        errors = [{"field": "scopes", "message": f"must be of its own, without {', '.join(lacking)}"}]
        raise Problem(403, "an API key gives no other more than it has itself", errors)
    if missing := await api_keys.missing_campaigns(api.store, fields["scopes"]):
        errors = [{"field": "scopes", "message": f"there is no campaign {missing[0]!r}"}]
        raise Problem(422, "some fields cannot be used", errors)
    try:
        return await api_keys.create(api.store, fields["name"], fields["scopes"], who=who)
    except ValueError as error:
        errors = [{"field": "name", "message": str(error)}]
        raise Problem(422, "some fields cannot be used", errors) from None


async def create_key(api: Api, request: Request) -> Response:
    record, key = await create(api, await request_body.read(request), request.state.who, request.state.scopes)
    return reply({**api_keys.to_json(record), "key": key}, 201)


async def revoke(api: Api, name: str, who: str) -> None:
    """name: its id. who: for the audit log. Problem 404: there is none."""
    try:
        if not (name.isascii() and name.isalnum()):
            raise api_keys.UnknownApiKey(name)
        await api_keys.revoke(api.store, name, who)
    except api_keys.UnknownApiKey:
        raise Problem(404, "there is no such key") from None


async def revoke_key(api: Api, request: Request) -> Response:
    await revoke(api, request.path_params["id"], request.state.who)
    return Response(status_code=204)


CALLS = (
    Call("GET", "/api/keys", "read", list_keys),
    Call("POST", "/api/keys", "write", create_key),
    Call("DELETE", "/api/keys/{id}", "write", revoke_key),
)
