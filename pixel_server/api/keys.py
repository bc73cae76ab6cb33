"""Calls of the API on API keys: list, create, revoke."""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api import fields
from pixel_server.api.context import Api
from pixel_server.api.paging import BY_TIME, cut_by_time
from pixel_server.api.request_body import check_each_field, read_json
from pixel_server.api.routing import Call, reply
from pixel_server.auth import api_keys, sign_in_links
from pixel_server.campaigns.storage import UnknownCampaign
from pixel_server.problems import Problem, bad_fields
from pixel_server.scopes import SCOPES, can_see_pages


async def list_keys(api: Api, request: Request) -> Response:
    listed = await api_keys.list_keys(api.store)
    page = BY_TIME.parse(request.query_params)
    items, next_cursor = cut_by_time(listed, page, lambda record: (record.created, record.id))
    return reply({"items": [api_keys.to_json(record) for record in items], "next": next_cursor})


def lacking_scopes(scopes: Iterable[str], own_scopes: Set[str]) -> list[str]:
    """Returns the scopes that a caller must have, and lacks, to let others act with these scopes.

    `read` also gives the scopes for one campaign and for `/metrics`.
    """
    needed = [scope if scope in SCOPES else "read" for scope in scopes]
    return [scope for scope in dict.fromkeys(needed) if scope not in own_scopes]


def new_name(value: Any) -> str:
    """Returns the name of a new key. Raises ValueError if the name is bad or reserved."""
    name = fields.name(value)
    api_keys.refuse_reserved(name)
    return name


async def create(api: Api, content: Any, who: str, own_scopes: Set[str]) -> tuple[api_keys.ApiKey, str]:
    """Creates an API key from the JSON of a body. Returns its record, and the key.

    who: name for the audit log. own_scopes: the scopes of the caller's key. Raises Problem 422 if fields are
    bad, and 403 if the new key would have a scope that the caller's key lacks, see `lacking_scopes`.
    """
    checks = {"name": new_name, "scopes": fields.scopes}
    values, errors = check_each_field(content, checks, frozenset(checks))
    scopes = values.get("scopes", [])
    lacking = lacking_scopes(scopes, own_scopes)
    if not lacking and (missing := await api_keys.missing_campaigns(api.store, scopes)):
        errors.append({"field": "scopes", "message": str(UnknownCampaign(missing[0]))})
    if errors:
        raise bad_fields(errors)
    if lacking:
        errors = [{"field": "scopes", "message": f"must not contain {', '.join(lacking)}"}]
        raise Problem(403, "an API key cannot create a key with scopes that it lacks", errors)
    return await api_keys.create(api.store, values["name"], scopes, who=who)


async def create_key(api: Api, request: Request) -> Response:
    record, key = await create(api, await read_json(request), request.state.who, request.state.scopes)
    return reply({**api_keys.to_json(record), "key": key}, 201)


async def revoke(api: Api, key_id: str, who: str) -> None:
    """Revokes the key with an id. who: name for the audit log. Raises Problem 404 if no key has it."""
    try:
        if not (key_id.isascii() and key_id.isalnum()):
            raise api_keys.UnknownApiKey(key_id)
        await api_keys.revoke(api.store, key_id, who)
    except api_keys.UnknownApiKey:
        raise Problem(404, "no key has this id") from None


async def revoke_key(api: Api, request: Request) -> Response:
    await revoke(api, request.path_params["id"], request.state.who)
    return Response(status_code=204)


async def make_sign_in_link(
    api: Api, key_id: str, who: str, own_scopes: Set[str]
) -> tuple[api_keys.ApiKey, str]:
    """Makes a link that signs in with a key, once. Returns the key's record, and the address of the link.

    who: name for the audit log. own_scopes: the scopes of the caller's key. Raises Problem 404 if no key has
    the id, 403 if the key has a scope that the caller's key lacks, and 409 if the key sees no page or no base
    URL is set.
    """
    record = next((record for record in await api_keys.list_keys(api.store) if record.id == key_id), None)
    if record is None:
        raise Problem(404, "no key has this id")
    if lacking := lacking_scopes(record.scopes, own_scopes):
        text = f"you cannot make a sign-in link for a key with scopes that yours lacks: {', '.join(lacking)}"
        raise Problem(403, text)
    if not can_see_pages(record.scopes):
        raise Problem(409, "this key sees no page, because it lacks the scope 'read': it cannot sign in")
    if api.settings.base_url is None:
        raise Problem(409, "set PIXEL_BASE_URL: a sign-in link needs an address")
    try:
        token = await sign_in_links.make(api.store, record.id, who=who)
    except sign_in_links.NoApiKey:  # revoked meanwhile
        raise Problem(404, "no key has this id") from None
    return record, f"{api.settings.base_url}/sign-in/{token}"


async def create_sign_in_link(api: Api, request: Request) -> Response:
    key_id, state = request.path_params["id"], request.state
    _, url = await make_sign_in_link(api, key_id, state.who, state.scopes)
    return reply({"url": url, "seconds": sign_in_links.LIFETIME_SECONDS}, 201)


CALLS = (
    Call("GET", "/api/keys", "read", list_keys, query=BY_TIME.parameters),
    Call("POST", "/api/keys", "write", create_key),
    Call("DELETE", "/api/keys/{id}", "write", revoke_key),
    Call("POST", "/api/keys/{id}/sign-in-link", "write", create_sign_in_link),
)
