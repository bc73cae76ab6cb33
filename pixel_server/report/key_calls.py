"""Calls of the API: API keys."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from pixel_server import apikeys
from pixel_server.report import body
from pixel_server.report.api import Api, Call, reply
from pixel_server.report.problems import Problem


async def list_keys(api: Api, request: Request) -> Response:
    found = await apikeys.listed(api.store)
    return reply({"items": [apikeys.to_json(record) for record in found], "next": None})


async def create_key(api: Api, request: Request) -> Response:
    known = {"name": body.name, "scopes": body.scopes}
    fields = body.check(await body.read(request), known, frozenset(known))
    if missing := await apikeys.missing(api.store, fields["scopes"]):
        errors = [{"field": "scopes", "message": f"there is no campaign {missing[0]!r}"}]
        raise Problem(422, "some fields cannot be used", errors)
    try:
        record, key = await apikeys.create(api.store, fields["name"], fields["scopes"], who=request.state.who)
    except ValueError as error:
        errors = [{"field": "name", "message": str(error)}]
        raise Problem(422, "some fields cannot be used", errors) from None
    return reply({**apikeys.to_json(record), "key": key}, 201)


async def revoke_key(api: Api, request: Request) -> Response:
    name = request.path_params["id"]
    try:
        if not (name.isascii() and name.isalnum()):
            raise apikeys.Unknown(name)
        await apikeys.revoke(api.store, name, request.state.who)
    except apikeys.Unknown:
        raise Problem(404, "there is no such key") from None
    return Response(status_code=204)


CALLS = (
    Call("GET", "/api/keys", "read", list_keys),
    Call("POST", "/api/keys", "write", create_key),
    Call("DELETE", "/api/keys/{id}", "write", revoke_key),
)
