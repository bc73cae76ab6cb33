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
    campaign_edit,
    campaign_list,
    campaign_page,
    compare_page,
    kept_page,
    keys_page,
    notes_page,
    people_pages,
    pixel_page,
    recipients_page,
    render,
    share_page,
    shares_page,
    sign_in,
)
from pixel_server.report.pages import routes as table
from pixel_server.report.pages.live import Live
from pixel_server.report.pages.routes import Page

PAGES = (
    Page("GET", "/", "read", campaign_list.show, shared=True),
    Page("GET", "/new", "write", campaign_edit.new),
    Page("POST", "/new", "write", campaign_edit.create),
    Page("GET", "/compare", "read", compare_page.page),
    Page("GET", "/campaigns/{id}", "read", campaign_page.page, shared=True),
    Page("GET", "/campaigns/{id}/stats.json", "read", campaign_page.stats_json, shared=True),
    Page("GET", "/campaigns/{id}/series.csv", "read", campaign_page.series),
    Page("GET", "/campaigns/{id}/figures.json", "read", campaign_page.figures_json),
    Page("GET", "/campaigns/{id}/recipients", "people", recipients_page.page),
    Page("GET", "/campaigns/{id}/recipients.csv", "people", recipients_page.download),
    Page("GET", "/campaigns/{id}/recipients.ndjson", "people", recipients_page.download),
    Page("GET", "/campaigns/{id}/edit", "write", campaign_edit.edit),
    Page("POST", "/campaigns/{id}/edit", "write", campaign_edit.change),
    Page("GET", "/campaigns/{id}/pixel", "read", pixel_page.page),
    Page("POST", "/campaigns/{id}/pixel", "write", pixel_page.make),
    Page("GET", "/campaigns/{id}/delete", "write", campaign_edit.ask_delete),
    Page("POST", "/campaigns/{id}/delete", "write", campaign_edit.delete),
    Page("GET", "/keys", "read", keys_page.page),
    Page("POST", "/keys", "write", keys_page.make),
    Page("GET", "/keys/{id}/revoke", "write", keys_page.ask_revoke),
    Page("POST", "/keys/{id}/revoke", "write", keys_page.revoke),
    Page("GET", "/withdrawals", "people", people_pages.list_withdrawals),
    Page("POST", "/withdrawals", "people", people_pages.withdraw, most=people_pages.MOST_FORM),
    Page("POST", "/withdrawals/end", "people", people_pages.allow, most=people_pages.MOST_FORM),
    Page("GET", "/recipients", "people", people_pages.ask_recipient),
    Page("POST", "/recipients", "people", people_pages.find_recipient),
    Page("GET", "/recipients/{key}", "people", people_pages.show_recipient),
    Page("GET", "/recipients/{key}/erase", "people", people_pages.ask_erase),
    Page("POST", "/recipients/{key}/erase", "people", people_pages.erase),
    Page("GET", "/kept", "read", kept_page.show),
    Page("GET", "/audit", "people", people_pages.list_audit),
    Page("GET", "/audit/recipients", "people", people_pages.list_actions),
    Page("POST", "/campaigns/{id}/notes", "write", notes_page.add),
    Page("POST", "/campaigns/{id}/notes/{note}/remove", "write", notes_page.remove),
    Page("GET", "/campaigns/{id}/shares", "read", shares_page.page),
    Page("POST", "/campaigns/{id}/shares", "write", shares_page.make),
    Page("POST", "/campaigns/{id}/shares/{share}/revoke", "write", shares_page.revoke),
    Page("GET", "/s/{token}", None, share_page.page),
    Page("GET", "/s/{token}/stats.json", None, share_page.stats_json),
)


def routes(api: Api) -> list[Route]:
    live = Page("GET", "/campaigns/{id}/live", "read", Live(campaign_page.texts).answer)
    return table.routes(api, (*PAGES, live, *sign_in.PAGES))


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
