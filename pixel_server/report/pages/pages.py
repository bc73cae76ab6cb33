"""All pages."""

from __future__ import annotations

from collections.abc import Callable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pixel_server.report import api as http
from pixel_server.report.api import Api
from pixel_server.report.pages import (
    campaign_list,
    campaign_page,
    compare_page,
    notes_page,
    recipients_page,
    render,
    share_page,
    shares_page,
)
from pixel_server.report.pages import routes as table
from pixel_server.report.pages.routes import Page
from pixel_server.report.pages.sign_in import AddressOf, SignIn

PAGES = (
    Page("GET", "/", "read", campaign_list.show, shared=True),
    Page("GET", "/compare", "read", compare_page.page),
    Page("GET", "/campaigns/{id}", "read", campaign_page.page, shared=True),
    Page("GET", "/campaigns/{id}/stats.json", "read", campaign_page.stats_json, shared=True),
    Page("GET", "/campaigns/{id}/figures.json", "read", campaign_page.figures_json),
    Page("GET", "/campaigns/{id}/recipients", "people", recipients_page.page),
    Page("GET", "/campaigns/{id}/recipients.csv", "people", recipients_page.download),
    Page("GET", "/campaigns/{id}/recipients.ndjson", "people", recipients_page.download),
    Page("POST", "/campaigns/{id}/notes", "write", notes_page.add),
    Page("POST", "/campaigns/{id}/notes/{note}/remove", "write", notes_page.remove),
    Page("GET", "/campaigns/{id}/shares", "read", shares_page.page),
    Page("POST", "/campaigns/{id}/shares", "write", shares_page.make),
    Page("POST", "/campaigns/{id}/shares/{share}/revoke", "write", shares_page.revoke),
    Page("GET", "/s/{token}", None, share_page.page),
    Page("GET", "/s/{token}/stats.json", None, share_page.stats_json),
)


def routes(api: Api, address_of: AddressOf) -> list[Route]:
    """address_of: whose request it is, as bytes."""
    return table.routes(api, (*PAGES, *SignIn(address_of).pages()))


def not_found(api: Api) -> Callable[[Request, Exception], Response]:
    """404 and 405 of the router: a page for a browser, a problem for the API and for programs."""

    def answer(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        path = request.url.path.removeprefix(render.prefix(api.settings))
        if path.startswith("/api") or "text/html" not in request.headers.get("accept", ""):
            return http.not_found(request, error)
        if error.status_code == 404:
            return render.error(api, request, 404, "There is nothing at this address.")
        return render.error(api, request, error.status_code, str(error.detail), more=error.headers)

    return answer
