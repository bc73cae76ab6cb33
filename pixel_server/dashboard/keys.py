"""`/keys`: API keys listed, made, revoked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api import keys
from pixel_server.api.context import Api
from pixel_server.auth import api_keys
from pixel_server.auth.api_keys import ApiKey
from pixel_server.dashboard import forms
from pixel_server.problems import Problem

MEANS = {
    "read": "Campaigns and their figures, these pages, the list of keys.",
    "write": "Make, change and delete campaigns, links and keys.",
    "people": "Single recipients, withdrawals, the audit log. Not part of the others.",
}


async def page(api: Api, request: Request) -> Response:
    return await _page(api, request, {"scope_read": "yes"})


async def make(api: Api, request: Request) -> Response:
    """The key stands on the page that answers, and nowhere else."""
    fields = request.state.form
    own = forms.lines(fields.get("campaigns", ""))
    scopes = [scope for scope in MEANS if fields.get(f"scope_{scope}")]
    content = {
        "name": fields.get("name", "").strip(),
        "scopes": [*scopes, *(api_keys.CAMPAIGN_SCOPE + each for each in own)],
    }
    try:
        record, key = await keys.create(api, content, request.state.who, request.state.session.scopes)
    except Problem as problem:
        return await _page(api, request, fields, problem)
    return await _page(api, request, {"scope_read": "yes"}, None, {"record": record, "key": key})


async def ask_revoke(api: Api, request: Request) -> Response:
    return _ask(api, request, await _record(api, request))


async def revoke(api: Api, request: Request) -> Response:
    record = await _record(api, request)
    if record.id == request.state.session.key_id and not request.state.form.get("own"):
        errors = [{"field": "own", "message": "must be ticked, as you are signed in with this key"}]
        return _ask(api, request, record, Problem(422, "nothing was revoked", errors))
    await keys.revoke(api, record.id, request.state.who)
    return forms.done(api, "keys", "revoked")


async def _page(
    api: Api,
    request: Request,
    fields: Mapping[str, str],
    problem: Problem | None = None,
    made: Mapping[str, Any] | None = None,
) -> Response:
    context = {"keys": await api_keys.list_keys(api.store), "means": MEANS, "made": made}
    names = {"name": "", "campaigns": ""}
    return forms.page(api, request, "keys.html", {**names, **fields}, context, problem)


def _ask(api: Api, request: Request, record: ApiKey, problem: Problem | None = None) -> Response:
    context = {
        "key": record,
        "is_own": record.id == request.state.session.key_id,
        "is_environment": record.name == api_keys.ENVIRONMENT,
        "environment": api_keys.ENVIRONMENT,
    }
    return forms.page(api, request, "key_revoke.html", {}, context, problem)


async def _record(api: Api, request: Request) -> ApiKey:
    """Problem 404: there is no such key."""
    wanted = request.path_params["id"]
    for record in await api_keys.list_keys(api.store):
        if record.id == wanted:
            return record
    raise Problem(404, "there is no such key")
