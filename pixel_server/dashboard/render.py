"""Pages: templates filled, with the headers that all pages have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from pixel_server.api.context import Api
from pixel_server.dashboard import formatting, static_files
from pixel_server.dashboard.glossary import DEFINITIONS
from pixel_server.problems import redis_unavailable
from pixel_server.settings import Settings

DONE = {
    "made": "The campaign is made.",
    "saved": "Saved.",
    "deleted": "The campaign and all that was counted under it are deleted.",
    "revoked": "The API key is revoked.",
    "withdrawn": "Recorded no more: {n}.",
    "allowed": "Recorded again: {n}.",
    "erased": "Erased in all campaigns, and recorded no more.",
    "noted": "The note is kept.",
    "removed": "The note is removed.",
    "unshared": "The share link is revoked.",
}
"""What a page says that a form led to. Its address only names it: nobody else's words are shown."""
TITLES = {403: "Not allowed", 404: "Not found", 422: "Not understood"}
"""Of errors, where the words of HTTP say little to a person."""

_environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
_FILTERS = ("number", "share", "span", "instant", "exact", "day", "iso", "ago", "called")
_environment.filters.update({name: getattr(formatting, name) for name in _FILTERS})
_environment.globals["definitions"] = DEFINITIONS


def prefix(settings: Settings) -> str:
    """The path that all addresses begin with: "" or `/pixels`."""
    return urlsplit(settings.base_url or "").path.rstrip("/")


def url(settings: Settings, path: str = "") -> str:
    """An address below the base, as pages link to it."""
    return f"{prefix(settings)}/{path}"


def headers(framed_by: Iterable[str] = ()) -> dict[str, str]:
    """framed_by: origins whose pages may show this one in a frame."""
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
    """A page. more: headers. In each template: session (or None), url(path), static(name), now (s), done."""
    text = _environment.get_template(template).render(
        session=getattr(request.state, "session", None),
        url=_url_of(api.settings),
        static=lambda name: url(api.settings, static_files.address(name)),
        now=api.clock(),
        done=_done(request),
        **(context or {}),
    )
    # A name may hold what is no Unicode: it is shown as a question mark.
    return Response(
        text.encode("utf-8", "replace"),
        status,
        {**headers(framed_by), **(more or {})},
        "text/html; charset=utf-8",
    )


def _done(request: Request) -> str:
    """What was just done, in words; "" if nothing was, or all is not well."""
    count = request.query_params.get("n", "")
    count = f"{int(count):,}" if count.isascii() and count.isdigit() and len(count) < 10 else ""
    text = DONE.get(request.query_params.get("done", ""), "")
    return text.format(n=count) if count or "{n}" not in text else ""


def _url_of(settings: Settings) -> Callable[[str], str]:
    return lambda path: url(settings, path)


def go(api: Api, path: str) -> Response:
    """Sends the browser there, by GET. path: below the base."""
    return RedirectResponse(url(api.settings, path), 303, {"Cache-Control": "no-store"})


def error(
    api: Api,
    request: Request,
    status: int,
    detail: str,
    errors: Iterable[Mapping[str, Any]] = (),
    more: Mapping[str, str] | None = None,
) -> Response:
    """A page that says what is wrong, and what still works."""
    is_away = detail == redis_unavailable().detail
    context = {
        "is_away": is_away,
        "title": "Redis does not answer"
        if is_away
        else TITLES.get(status) or HTTPStatus(status).phrase.capitalize(),
        "detail": detail,
        "errors": list(errors),
    }
    again = {"Retry-After": "2"} if status == 503 else {}
    return page(api, request, "error.html", context, status, more={**again, **(more or {})})
