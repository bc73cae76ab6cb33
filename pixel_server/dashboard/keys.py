"""`/keys`: lists, creates and revokes API keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api import keys
from pixel_server.api.context import Api
from pixel_server.auth import api_keys
from pixel_server.auth.api_keys import ApiKey
from pixel_server.dashboard import forms, long_list
from pixel_server.problems import Problem
from pixel_server.scopes import CAMPAIGN_SCOPE, METRICS_SCOPE

SCOPE_MEANINGS = {
    "read": "Read campaigns, their figures and the list of keys, and see these pages.",
    "write": "Create, change and delete campaigns, links and keys.",
    "people": "Single recipients, withdrawals and the audit log. No other scope includes this.",
    METRICS_SCOPE: "Numbers for Prometheus at /metrics, and nothing else.",
}


async def page(api: Api, request: Request) -> Response:
    return await _page(api, request, {"scope_read": "yes"})


async def create(api: Api, request: Request) -> Response:
    """Creates a key, and shows the key on the page that answers the POST and nowhere else."""
    fields = request.state.form
    campaigns = forms.lines(fields.get("campaigns", ""))
    scopes = [scope for scope in SCOPE_MEANINGS if fields.get(f"scope_{scope}")]
    content = {
        "name": fields.get("name", "").strip(),
        "scopes": [*scopes, *(CAMPAIGN_SCOPE + campaign for campaign in campaigns)],
    }
    try:
        record, key = await keys.create(api, content, request.state.who, request.state.session.scopes)
    except Problem as problem:
        return await _page(api, request, fields, problem)
    return await _page(api, request, {"scope_read": "yes"}, None, {"record": record, "key": key})


async def ask_revoke(api: Api, request: Request) -> Response:
    return _confirm_page(api, request, await _record(api, request))


async def revoke(api: Api, request: Request) -> Response:
    record = await _record(api, request)
    if record.id == request.state.session.key_id and not request.state.form.get("own"):
        errors = [{"field": "own", "message": "must be ticked, because you are signed in with this key"}]
        return _confirm_page(api, request, record, Problem(422, "nothing was revoked", errors))
    await keys.revoke(api, record.id, request.state.who)
    return forms.done(api, "keys", "revoked")


async def _page(
    api: Api,
    request: Request,
    fields: Mapping[str, str],
    problem: Problem | None = None,
    created: Mapping[str, Any] | None = None,
) -> Response:
    records = (await api_keys.list_keys(api.store))[::-1]
    context = {
        "keys": long_list.shown_rows(records, request.query_params),
        "total": len(records),
        "means": SCOPE_MEANINGS,
        "created": created,
    }
    empty = {"name": "", "campaigns": ""}
    return forms.page(api, request, "keys.html", {**empty, **fields}, context, problem)


def _confirm_page(api: Api, request: Request, record: ApiKey, problem: Problem | None = None) -> Response:
    context = {
        "key": record,
        "is_own": record.id == request.state.session.key_id,
        "is_environment": record.name == api_keys.ENVIRONMENT_KEY_NAME,
        "environment": api_keys.ENVIRONMENT_KEY_NAME,
    }
    return forms.page(api, request, "key_revoke.html", {}, context, problem)


async def _record(api: Api, request: Request) -> ApiKey:
    """Returns the key in the path. Raises Problem 404 if no key has its id."""
    key_id = request.path_params["id"]
    for record in await api_keys.list_keys(api.store):
        if record.id == key_id:
            return record
    raise Problem(404, "no key has this id")
