"""Routes of the pages: who may see a page, the forms that it accepts, and its error pages."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pixel_server.api import request_file, request_form, request_stream
from pixel_server.api.context import Api
from pixel_server.api.errors import EXPECTED_ERRORS, problem_of
from pixel_server.api.routing import Handler, refuse_other_store, routes_by_path
from pixel_server.auth import sessions
from pixel_server.auth.proxy_users import UnusableHeader
from pixel_server.auth.sessions import Session
from pixel_server.dashboard import permissions, render
from pixel_server.logs import Log
from pixel_server.problems import Problem
from pixel_server.scopes import can_see_pages

log = Log(__name__)

ANY = "any"
"""Scope of pages that every signed-in person may see."""


class Page(NamedTuple):
    """A page. scope: the scope that the session needs, or None if everyone may see the page.

    action: what the page does, for the message to a session without the scope: `"create a campaign"`.
    allows_shared_key: whether a shared key (a key with only `read:CAMPAIGN`) may see the page. If the path
    has a campaign, it must be the key's own. With such a key, `request.state.has_shared_key` is true, and the
    handler shows only shared figures. max_bytes: largest size of the page's form. The handler finds the
    session in `request.state.session`, and the fields of a POST in `request.state.form`. has_file: whether
    the form has a file. The handler reads it from `request.state.file`, a `request_file.FileForm`.
    """

    method: str
    path: str
    scope: str | None
    handler: Handler
    action: str = ""
    allows_shared_key: bool = False
    max_bytes: int = 64 << 10
    has_file: bool = False


class _SignedOut(Exception):
    """The request has no session, or its session has ended."""


def routes(api: Api, pages: Iterable[Page]) -> list[Route]:
    """Returns the routes of the pages."""

    async def answer(page: Page, request: Request) -> Response:
        response = await answer_or_refuse(page, request)
        session: Session | None = getattr(request.state, "session", None)
        if session is not None and session.key_id is None and sessions.COOKIE in request.cookies:
            # The proxy's user is signed in, so an earlier session of this browser must not come back later.
            sessions.delete_cookie(response, *cookie_scope(api))
        return response

    async def answer_or_refuse(page: Page, request: Request) -> Response:
        is_json = page.path.endswith(".json")
        try:
            request_form.check_query(request)
            refuse_other_store(api)
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
            lacks_permission = isinstance(problem, permissions.Lacking)
            return render.error(
                api,
                request,
                problem.status,
                problem.detail,
                problem.errors or (),
                lacks_permission=lacks_permission,
            )

    return routes_by_path("page", pages, answer)


async def _admit(api: Api, request: Request, page: Page, scope: str) -> None:
    """Sets `request.state` for the handler of a page.

    Raises _SignedOut if the request has no session, Problem 403 if the key or the user lacks the scope or the
    form was sent by another site or session, and Problem 413 if the form is too long.
    """
    session = session_by_proxy(api, request) or await _session_of_cookie(api, request)
    request.state.session = session
    request.state.who = session.who
    if scope != ANY and not can_see_pages(session.scopes):
        raise Problem(
            403,
            f"you are signed in as “{session.name}”, and this user cannot see any page; the operator of this "
            "server can change that in PIXEL_SIGN_IN_SCOPES",
        )
    request.state.has_shared_key = scope not in (ANY, *session.scopes)
    if request.state.has_shared_key:
        campaign = request.path_params.get("id")
        if not (
            page.allows_shared_key
            and session.shared_campaigns
            and (campaign is None or campaign in session.shared_campaigns)
        ):
            raise permissions.Lacking(session, scope, page.action)
    if page.method == "POST":
        await _read_form(api, request, page, session.csrf)


def session_by_proxy(api: Api, request: Request) -> Session | None:
    """Returns the session of the user whom a trusted proxy names, None if no trusted proxy names a user.

    This session takes precedence over a cookie. Raises Problem 403 if the proxy's header is unusable.
    """
    peer = request.client.host if request.client else None
    try:
        user = api.proxy_users.find(peer, request.headers.raw)
    except UnusableHeader as error:
        log.warning(
            "sign-in-header-unusable",
            "a proxy of PIXEL_TRUSTED_PROXIES signs nobody in: %(error)s",
            error=error,
        )
        raise Problem(403, f"the proxy in front of this server signs nobody in: {error}") from None
    return sessions.session_of_user(api.secrets, user) if user else None


async def _session_of_cookie(api: Api, request: Request) -> Session:
    """Returns the session of the request's cookie. Raises _SignedOut if no cookie is valid."""
    cookie = request.cookies.get(sessions.COOKIE, "")
    session = await sessions.find_session(api.store, api.secrets, cookie, api.clock()) if cookie else None
    if session is None:
        raise _SignedOut
    return session


async def _read_form(api: Api, request: Request, page: Page, csrf: str) -> None:
    """Sets `request.state.form` to the fields of a form that a page of this session sent."""
    if request_form.is_cross_site(request, api.settings.base_url):
        raise Problem(403, "this form was sent by another web site; nothing was changed")
    try:
        if page.has_file:
            request.state.file = request_file.FileForm(request)
            fields = await request.state.file.read_fields()
        else:
            fields = await request_form.read_form(request, page.max_bytes)
    except request_stream.BodyError as error:
        raise Problem(error.status, f"this form {error}; nothing was changed") from None
    if not hmac.compare_digest(fields.get("csrf", "").encode("utf-8", "replace"), csrf.encode()):
        raise Problem(
            403,
            "this form belongs to an earlier session; go back, load the page again and send the form again",
        )
    request.state.form = fields


def sign_in_first(api: Api, request: Request) -> Response:
    """Redirects to the sign-in page, which redirects back to this page."""
    page_path = request.url.path.removeprefix(render.prefix(api.settings)).lstrip("/")
    if request.method == "GET" and request.url.query:
        page_path += f"?{request.url.query}"
    query = f"?next={quote(page_path, safe='')}" if page_path and request.method in ("GET", "HEAD") else ""
    response = render.redirect(api, f"sign-in{query}")
    if sessions.COOKIE in request.cookies:
        sessions.delete_cookie(response, *cookie_scope(api))
    return response


def cookie_scope(api: Api) -> tuple[str, bool]:
    """Returns the path of the session cookie, and whether the cookie is sent over HTTPS only."""
    base_url = api.settings.base_url or ""
    return render.prefix(api.settings) or "/", base_url.startswith("https:")
