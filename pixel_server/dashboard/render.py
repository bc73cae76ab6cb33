"""Renders templates to pages, with the headers that all pages have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from pixel_server import operator_name
from pixel_server.api.context import Api
from pixel_server.dashboard import formatting, permissions, static_files
from pixel_server.dashboard.glossary import DEFINITIONS
from pixel_server.dashboard.input_types import input_type
from pixel_server.dashboard.names import display_name
from pixel_server.problems import redis_unavailable
from pixel_server.settings import Settings

DONE_MESSAGES = {
    "made": "The campaign was created.",
    "counted": "The pixel works: the first request was counted.",
    "saved": "Saved.",
    "deleted": "The campaign and all its data were deleted.",
    "revoked": "The API key was revoked.",
    "withdrawn": "No longer recorded: {n}.",
    "allowed": "Recorded again: {n}.",
    "erased": "Erased in all campaigns, and no longer recorded.",
    "noted": "The note was saved.",
    "removed": "The note was removed.",
    "source_removed": "The mail service was removed. Its address takes no more reports.",
    "webhook_enabled": "Enabled: events are sent to this webhook.",
    "webhook_disabled": "Disabled: nothing is sent to this webhook, and new events do not wait for it.",
    "webhook_deleted": "The webhook was deleted, with all that waited for it.",
    "test_queued": "A test event is being sent. Load this page again to see its answer.",
    "sent_again": "Being sent again: {n}. Load this page again to see the answers.",
    "nothing_to_send": "Nothing is sent again: it was delivered or removed meanwhile.",
    "unshared": "The share link was revoked.",
}
"""Success messages by name. The address of a page contains only the name, so no link can show other text."""
ERROR_TITLES = {403: "Not allowed", 404: "Not found", 422: "Invalid input"}
"""Titles of error pages, by status, if the phrase of HTTP is not clear to a visitor."""

_environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
_FILTERS = (
    *(
        "number",
        "counted",
        "share",
        "share_range",
        "span",
        "instant",
        "instant_here",
        "log_time",
        "day",
        "iso",
        "ago",
    ),
    *("rate_parts", "interval"),
)
_environment.filters.update({name: getattr(formatting, name) for name in _FILTERS})
_environment.filters.update(display_name=display_name, input_type=input_type)
_environment.globals.update(definitions=DEFINITIONS, permissions=permissions.NAMES)


def prefix(settings: Settings) -> str:
    """Returns the path of the base URL, with which all paths begin: "" or `/pixels`."""
    return urlsplit(settings.base_url or "").path.rstrip("/")


def url(settings: Settings, path: str = "") -> str:
    """Returns the address of a page, for a link: `/pixels/keys` for `keys`."""
    return f"{prefix(settings)}/{path}"


def headers(framed_by: Iterable[str] = ()) -> dict[str, str]:
    """Returns the headers of all pages. framed_by: origins that may embed the page."""
    sources = " ".join(framed_by) or "'none'"
    return {
        "Cache-Control": "no-store",
        "Content-Security-Policy": (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
            f"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors {sources}"
        ),
        "Referrer-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
        "X-Robots-Tag": "noindex",
    }


def page(
    api: Api,
    request: Request,
    template: str,
    context: Mapping[str, Any] | None = None,
    status: int = 200,
    framed_by: Iterable[str] = (),
    more: Mapping[str, str] | None = None,
) -> Response:
    """Returns a page. more: additional headers.

    Every template also gets session (None if signed out), sign_out_url (None if not set), url(path),
    static(name), now (seconds), operator and done (the success message, or "").
    """
    text = _environment.get_template(template).render(
        session=getattr(request.state, "session", None),
        sign_out_url=api.settings.sign_out_url,
        url=_url_of(api.settings),
        static=lambda name: url(api.settings, static_files.address(name)),
        now=api.clock(),
        done=_done_message(request),
        operator=operator_name.parse(api.settings.operator),
        **(context or {}),
    )
    # A name may contain lone surrogates, which UTF-8 cannot encode: they become question marks.
    return Response(
        text.encode("utf-8", "replace"),
        status,
        {**headers(framed_by), **(more or {})},
        "text/html; charset=utf-8",
    )


def _done_message(request: Request) -> str:
    """Returns the success message that the address names, or "" if the address names no message."""
    count = request.query_params.get("n", "")
    count = f"{int(count):,}" if count.isascii() and count.isdigit() and len(count) < 10 else ""
    text = DONE_MESSAGES.get(request.query_params.get("done", ""), "")
    return text.format(n=count) if count or "{n}" not in text else ""


def _url_of(settings: Settings) -> Callable[[str], str]:
    return lambda path: url(settings, path)


def redirect(api: Api, path: str) -> Response:
    """Redirects the browser to a page, which the browser requests with GET. path: such as `keys`."""
    return RedirectResponse(url(api.settings, path), 303, {"Cache-Control": "no-store"})


def error(
    api: Api,
    request: Request,
    status: int,
    detail: str,
    errors: Iterable[Mapping[str, Any]] = (),
    more: Mapping[str, str] | None = None,
    *,
    lacks_permission: bool = False,
) -> Response:
    """Returns an error page. If Redis does not answer, the page also says what still works.

    lacks_permission: whether the page says that the operator can give a permission.
    """
    is_away = detail == redis_unavailable().detail
    context = {
        "is_away": is_away,
        "lacks_permission": lacks_permission,
        "title": _away_title(api, request)
        if is_away
        else ERROR_TITLES.get(status) or HTTPStatus(status).phrase.capitalize(),
        "detail": detail,
        "errors": list(errors),
    }
    retry = {"Retry-After": "2"} if status == 503 else {}
    return page(api, request, "error.html", context, status, more={**retry, **(more or {})})


def _away_title(api: Api, request: Request) -> str:
    """Returns the title of an error page if Redis does not answer."""
    if request.url.path.removeprefix(prefix(api.settings)).startswith("/sign-in"):
        return "Nobody can sign in at the moment"
    return "The figures cannot be read at the moment"
