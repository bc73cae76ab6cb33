"""Signs in with an API key or with a one-time link, and signs out.

A user whom a proxy signed in needs neither: these pages then redirect to the list of campaigns.
"""

from __future__ import annotations

import re

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api import request_form, request_stream
from pixel_server.api.context import Api
from pixel_server.auth import api_keys, sessions, sign_in_links, throttle
from pixel_server.auth.api_keys import ApiKey
from pixel_server.dashboard import permissions, render, routing
from pixel_server.dashboard.routing import Page
from pixel_server.problems import Problem
from pixel_server.scopes import can_see_pages

MAX_FORM_BYTES = 4096
_is_own_path = re.compile(r"[a-z0-9][a-z0-9/_.-]{0,200}(\?[A-Za-z0-9=&%._:+-]{0,500})?", re.ASCII).fullmatch


async def show(api: Api, request: Request) -> Response:
    if routing.session_by_proxy(api, request):
        return render.redirect(api, "")
    return _form(api, request, request.query_params.get("next", ""))


async def submit_key(api: Api, request: Request) -> Response:
    if routing.session_by_proxy(api, request):
        return render.redirect(api, "")
    if request_form.is_cross_site(request, api.settings.base_url):
        raise Problem(403, "this form was sent by another web site; you were not signed in")
    try:
        fields = await request_form.read_form(request, MAX_FORM_BYTES)
    except request_stream.BodyError as error:
        raise Problem(error.status, f"this form {error}; you were not signed in") from None
    key, target = fields.get("key", "").strip(), fields.get("next", "")
    if not key:
        return _form(api, request, target, "Enter an API key.", 422)
    record = await api_keys.find_by_key(api.store, key)
    if record is None:
        return await _failed(api, request, target, "This API key does not exist or was revoked.")
    return _signed_in(api, request, record, target)


async def use_link(api: Api, request: Request) -> Response:
    if request.method == "HEAD":
        return Response(headers=render.headers())  # link previews must not use up the link
    if routing.session_by_proxy(api, request):
        return render.redirect(api, "")
    key_id = await sign_in_links.redeem(api.store, request.path_params["token"])
    record = await api_keys.find_by_id(api.store, key_id) if key_id else None
    if record is None:
        message = (
            "This link was already used, or is older than ten minutes. "
            "Ask the person who made it for another link. "
            "On the server, “pixel-server sign-in” prints a link."
        )
        return await _failed(api, request, "", message, is_link=True)
    return _signed_in(api, request, record, "")


async def sign_out(api: Api, request: Request) -> Response:
    if request.state.session.key_id is None:
        raise Problem(
            409, "the proxy in front of this server signed you in, so only the proxy can sign you out"
        )
    await sessions.end(api.store, request.cookies[sessions.COOKIE])
    response = render.redirect(api, "sign-in")
    sessions.delete_cookie(response, *routing.cookie_scope(api))
    return response


async def _failed(
    api: Api, request: Request, target: str, message: str, *, is_link: bool = False
) -> Response:
    if await api.throttle.delay_failure(request, api.clock()):
        return _form(api, request, target, message, 403, is_link=is_link)
    message += " There are too many failed attempts; wait a moment."
    response = _form(api, request, target, message, 429, is_link=is_link)
    response.headers["retry-after"] = str(throttle.RETRY_SECONDS)
    return response


def _signed_in(api: Api, request: Request, record: ApiKey, target: str) -> Response:
    if not can_see_pages(record.scopes):
        message = (
            f"This API key lacks the permission {permissions.in_words('read')}, so it cannot see any page."
        )
        return _form(api, request, target, message, 403)
    response = render.redirect(api, target if _is_own_path(target) else "")
    cookie = sessions.issue_cookie(api.secrets, record.id, api.clock())
    sessions.set_cookie(response, cookie, *routing.cookie_scope(api))
    return response


def _form(
    api: Api,
    request: Request,
    target: str,
    message: str = "",
    status: int = 200,
    *,
    is_link: bool = False,
) -> Response:
    """Returns the page. is_link: whether the message is about a link, not about the field of the key."""
    context = {"next": target if _is_own_path(target) else "", "message": message, "is_link": is_link}
    return render.page(api, request, "sign_in.html", context, status)


PAGES = (
    Page("GET", "/sign-in", None, show),
    Page("POST", "/sign-in", None, submit_key),
    Page("GET", "/sign-in/{token}", None, use_link),
    Page("POST", "/sign-out", routing.ANY, sign_out),
)
