"""Pages as a table: who may see each, and what is answered when something is wrong."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pixel_server.api import request_form, request_stream
from pixel_server.api.context import Api
from pixel_server.api.errors import EXPECTED_ERRORS, problem_of
from pixel_server.api.routing import Handler, refuse_emptied
from pixel_server.auth import sessions
from pixel_server.dashboard import render
from pixel_server.problems import Problem

ANY = "any"
"""As a scope: whoever is signed in."""


class Page(NamedTuple):
    """Method, path, the scope that its session must have (None: open to all), handler.

    shared: a session whose key has only `read:CAMPAIGN` will do, for its own campaign (or where the path
    names none); the handler then finds `request.state.shared` true, and shows less. most: bytes of a form.
    A handler finds `request.state.session`, and of a POST `request.state.form`.
    """

    method: str
    path: str
    scope: str | None
    handler: Handler
    shared: bool = False
    most: int = 64 << 10


class _SignedOut(Exception):
    """Nobody is signed in, or no longer."""


def routes(api: Api, pages: Iterable[Page]) -> list[Route]:
    """One Starlette route a path, so that a wrong method is 405 with what is allowed."""
    by_path: dict[str, dict[str, Page]] = {}
    for page in pages:
        by_path.setdefault(page.path, {})[page.method] = page
    return [
        Route(path, _endpoint(api, methods), methods=list(methods), name=f"page:{path}")
        for path, methods in by_path.items()
    ]


def _endpoint(api: Api, pages: dict[str, Page]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        page = pages["GET" if request.method == "HEAD" else request.method]
        is_json = page.path.endswith(".json")
        try:
            request_form.check_query(request)
            refuse_emptied(api)
            if page.scope is not None:
                await _admit(api, request, page, page.scope)
            return await page.handler(api, request)
        except _SignedOut:
            if is_json:
                return Problem(401, "sign in first").response()
            return sign_in_first(api, request)
        except EXPECTED_ERRORS as error:
            problem = problem_of(error, request)
            if is_json:
                return problem.response()
            return render.error(api, request, problem.status, problem.detail, problem.errors or ())

    return endpoint


async def _admit(api: Api, request: Request, page: Page, scope: str) -> None:
    """_SignedOut; Problem 403: not with this key, or the form is another's; 413: it is too long."""
    cookie = request.cookies.get(sessions.COOKIE, "")
    found = await sessions.find_session(api.store, api.secrets, cookie, api.clock()) if cookie else None
    if found is None:
        raise _SignedOut
    request.state.session = found
    request.state.who = f"key {found.key_id}"
    request.state.shared = scope not in (ANY, *found.scopes)
    if request.state.shared:
        own = request.path_params.get("id")
        if not (page.shared and found.shared_campaigns and (own is None or own in found.shared_campaigns)):
            raise Problem(403, f"the API key that you signed in with has no scope “{scope}”")
    if page.method == "POST":
        request.state.form = await _own_form(api, request, page.most, found.csrf)


async def _own_form(api: Api, request: Request, most: int, csrf: str) -> dict[str, str]:
    if request_form.is_cross_site(request, api.settings.base_url):
        raise Problem(403, "this form was sent by another site; nothing was changed")
    try:
        fields = await request_form.read_form(request, most)
    except request_stream.BodyError as error:
        raise Problem(error.status, f"this form {error}; nothing was changed") from None
    if not hmac.compare_digest(fields.get("csrf", "").encode("utf-8", "replace"), csrf.encode()):
        raise Problem(
            403, "this form is of an earlier session; go back, load the page again and send it anew"
        )
    return fields


def sign_in_first(api: Api, request: Request) -> Response:
    """To the sign-in page, and from there back here."""
    here = request.url.path.removeprefix(render.prefix(api.settings)).lstrip("/")
    if request.method == "GET" and request.url.query:
        here += f"?{request.url.query}"
    wanted = f"?next={quote(here, safe='')}" if here and request.method in ("GET", "HEAD") else ""
    answer = render.go(api, f"sign-in{wanted}")
    if sessions.COOKIE in request.cookies:
        sessions.forget(answer, *cookie_place(api))
    return answer


def cookie_place(api: Api) -> tuple[str, bool]:
    """(path, whether it goes over HTTPS only)."""
    base_url = api.settings.base_url or ""
    return render.prefix(api.settings) or "/", base_url.startswith("https:")
