"""`/deliveries`: lists, adds and removes the mail services that report events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.addresses import is_local
from pixel_server.api import deliveries
from pixel_server.api.context import Api
from pixel_server.dashboard import forms, long_list, render
from pixel_server.deliveries import sources
from pixel_server.deliveries.providers import PROVIDERS
from pixel_server.problems import Problem

_EMPTY_FIELDS = {"provider": "ses", "name": "", "key": ""}


async def page(api: Api, request: Request) -> Response:
    return await _page(api, request, _EMPTY_FIELDS)


async def add(api: Api, request: Request) -> Response:
    """Adds a source, and shows its address once, on the page that answers the POST."""
    fields = {name: request.state.form.get(name, "").strip() for name in _EMPTY_FIELDS}
    provider = PROVIDERS.get(fields["provider"])
    content = {"provider": fields["provider"], "name": fields["name"] or (provider.label if provider else "")}
    if fields["key"]:
        content["key"] = fields["key"]
    try:
        source, url = await deliveries.add(api, content, request.state.who)
    except Problem as problem:
        return await _page(api, request, fields, problem)
    return await _page(api, request, _EMPTY_FIELDS, None, {"name": source.name, "url": url})


async def set_key(api: Api, request: Request) -> Response:
    key = request.state.form.get("key", "").strip()
    try:
        await deliveries.set_key(api, request.path_params["source"], {"key": key}, request.state.who)
    except Problem as problem:
        if problem.status != 422:
            raise
        message = (problem.errors or [{"message": problem.detail}])[0]["message"]
        return await _page(api, request, _EMPTY_FIELDS, Problem(422, f"the key {message}"))
    return forms.done(api, "deliveries", "saved")


async def ask_remove(api: Api, request: Request) -> Response:
    for source, _ in await sources.list_sources(api.store):
        if source.id == request.path_params["source"]:
            return render.page(api, request, "delivery_remove.html", {"source": source})
    raise Problem(404, "there is no such mail service")


async def remove(api: Api, request: Request) -> Response:
    await deliveries.remove(api, request.path_params["source"], request.state.who)
    return forms.done(api, "deliveries", "source_removed")


async def _page(
    api: Api,
    request: Request,
    fields: Mapping[str, str],
    problem: Problem | None = None,
    added: Mapping[str, Any] | None = None,
) -> Response:
    pairs = (await sources.list_sources(api.store))[::-1]
    shown = long_list.shown_rows(pairs, request.query_params)
    context = {
        "sources": [sources.to_json(*pair) for pair in shown],
        "total": len(pairs),
        "providers": PROVIDERS,
        "base_url": api.settings.base_url,
        "is_local": is_local(api.settings.base_url or ""),
        "added": added,
    }
    return forms.page(api, request, "deliveries.html", fields, context, problem)
