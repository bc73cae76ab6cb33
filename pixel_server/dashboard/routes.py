"""The table of all pages, and their routes."""

from __future__ import annotations

from collections.abc import Callable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pixel_server.api import errors
from pixel_server.api.context import Api
from pixel_server.dashboard import (
    audience,
    audit,
    campaign,
    campaign_edit,
    campaign_list,
    compare,
    deliveries,
    inventory,
    keys,
    link_list,
    notes,
    people,
    pixel,
    public_share,
    recipients,
    render,
    routing,
    settings_page,
    setup,
    share_links,
    sign_in,
    upload,
    webhooks,
)
from pixel_server.dashboard.live import Live
from pixel_server.dashboard.routing import Page

PAGES = (
    Page("GET", "/", "read", campaign_list.show, allows_shared_key=True),
    Page("GET", "/new", "write", campaign_edit.new),
    Page("POST", "/new", "write", campaign_edit.create),
    Page("GET", "/compare", "read", compare.page),
    Page("GET", "/audience", "people", audience.page),
    Page("GET", "/audience/recipients.csv", "people", audience.download),
    Page("GET", "/audience/recipients.ndjson", "people", audience.download),
    Page("GET", "/campaigns/{id}", "read", setup.page, allows_shared_key=True),
    Page("POST", "/campaigns/{id}", "write", setup.submit),
    Page("GET", "/campaigns/{id}/stats.json", "read", campaign.stats_json, allows_shared_key=True),
    Page("GET", "/campaigns/{id}/series.csv", "read", campaign.series),
    Page("GET", "/campaigns/{id}/breakdowns.csv", "read", campaign.download_breakdowns),
    Page("GET", "/campaigns/{id}/figures.json", "read", setup.figures_json),
    Page("GET", "/campaigns/{id}/recipients", "people", recipients.page),
    Page("POST", "/campaigns/{id}/recipients", "people", recipients.search),
    Page("GET", "/campaigns/{id}/recipients/upload", "people", upload.page),
    Page("POST", "/campaigns/{id}/recipients/upload", "people", upload.upload, has_file=True),
    Page("GET", "/campaigns/{id}/recipients.csv", "people", recipients.download),
    Page("GET", "/campaigns/{id}/recipients.ndjson", "people", recipients.download),
    Page("GET", "/campaigns/{id}/edit", "write", campaign_edit.edit),
    Page("POST", "/campaigns/{id}/edit", "write", campaign_edit.change),
    Page("GET", "/campaigns/{id}/pixel", "read", pixel.page),
    Page("POST", "/campaigns/{id}/pixel", "write", pixel.create),
    Page("GET", "/campaigns/{id}/pixel/list", "write", link_list.page),
    Page("GET", "/campaigns/{id}/pixel/list.csv", "people", link_list.download),
    Page("POST", "/campaigns/{id}/pixel/list", "write", link_list.create, has_file=True),
    Page("GET", "/campaigns/{id}/delete", "write", campaign_edit.ask_delete),
    Page("POST", "/campaigns/{id}/delete", "write", campaign_edit.delete),
    Page("GET", "/settings", "read", settings_page.show),
    Page("GET", "/keys", "read", keys.page),
    Page("POST", "/keys", "write", keys.create),
    Page("GET", "/keys/{id}/revoke", "write", keys.ask_revoke),
    Page("POST", "/keys/{id}/revoke", "write", keys.revoke),
    Page("POST", "/keys/{id}/sign-in-link", "write", keys.make_sign_in_link),
    Page("GET", "/deliveries", "read", deliveries.page),
    Page("POST", "/deliveries", "write", deliveries.add),
    Page("POST", "/deliveries/{source}/key", "write", deliveries.set_key),
    Page("POST", "/deliveries/{source}/remove", "write", deliveries.remove),
    Page("GET", "/webhooks", "read", webhooks.page),
    Page("POST", "/webhooks", "write", webhooks.create),
    Page("GET", "/webhooks/{id}", "read", webhooks.show),
    Page("GET", "/webhooks/{id}/edit", "write", webhooks.edit),
    Page("POST", "/webhooks/{id}/edit", "write", webhooks.change),
    Page("POST", "/webhooks/{id}/enable", "write", webhooks.enable),
    Page("POST", "/webhooks/{id}/disable", "write", webhooks.disable),
    Page("POST", "/webhooks/{id}/test", "write", webhooks.send_test),
    Page("POST", "/webhooks/{id}/again", "write", webhooks.send_again),
    Page("GET", "/webhooks/{id}/secret", "write", webhooks.ask_secret),
    Page("POST", "/webhooks/{id}/secret", "write", webhooks.rotate),
    Page("GET", "/webhooks/{id}/delete", "write", webhooks.ask_delete),
    Page("POST", "/webhooks/{id}/delete", "write", webhooks.delete),
    Page("GET", "/withdrawals/all.csv", "people", people.download_withdrawals),
    Page("GET", "/withdrawals", "people", people.list_withdrawals),
    Page("POST", "/withdrawals", "people", people.withdraw, max_bytes=people.MAX_FORM_BYTES),
    Page("POST", "/withdrawals/end", "people", people.allow, max_bytes=people.MAX_FORM_BYTES),
    Page("GET", "/recipients", "people", people.ask_recipient),
    Page("POST", "/recipients", "people", people.open_recipient),
    Page("GET", "/recipients/{key}", "people", people.show_recipient),
    Page("GET", "/recipients/{key}/erase", "people", people.ask_erase),
    Page("POST", "/recipients/{key}/erase", "people", people.erase),
    Page("GET", "/kept", "read", inventory.show),
    Page("GET", "/audit", "people", audit.list_audit),
    Page("GET", "/audit/all.csv", "people", audit.download),
    Page("GET", "/audit/recipients", "people", audit.list_actions),
    Page("POST", "/campaigns/{id}/notes", "write", notes.add),
    Page("POST", "/campaigns/{id}/notes/{note}", "write", notes.change),
    Page("POST", "/campaigns/{id}/notes/{note}/remove", "write", notes.remove),
    Page("GET", "/campaigns/{id}/shares", "read", share_links.page),
    Page("POST", "/campaigns/{id}/shares", "write", share_links.create),
    Page("POST", "/campaigns/{id}/shares/{share}/revoke", "write", share_links.revoke),
    Page("GET", "/s/{token}", None, public_share.page),
    Page("GET", "/s/{token}/stats.json", None, public_share.stats_json),
)


def routes(api: Api) -> list[Route]:
    """Returns the routes of all pages."""
    live = Page("GET", "/campaigns/{id}/live", "read", Live(setup.texts_and_as_of).answer)
    return routing.routes(api, (*PAGES, live, *sign_in.PAGES))


def router_error(api: Api) -> Callable[[Request, Exception], Response]:
    """Returns the handler of 404 and 405: a page for browsers, problem details for the API and programs."""

    def answer(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        path = request.url.path.removeprefix(render.prefix(api.settings))
        if path.startswith("/api") or "text/html" not in request.headers.get("accept", ""):
            return errors.router_error(request, error)
        if error.status_code == 404:
            return render.error(api, request, 404, "There is nothing at this address.")
        return render.error(api, request, error.status_code, str(error.detail), more=error.headers)

    return answer
