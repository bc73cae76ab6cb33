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
    Page("GET", "/", "read", campaign_list.show, "see the campaigns", allows_shared_key=True),
    Page("GET", "/new", "write", campaign_edit.new, "create a campaign"),
    Page("POST", "/new", "write", campaign_edit.create, "create a campaign"),
    Page("GET", "/compare", "read", compare.page, "compare campaigns"),
    Page("GET", "/audience", "people", audience.page, "see an audience"),
    Page("GET", "/audience/recipients.csv", "people", audience.download, "download an audience"),
    Page("GET", "/audience/recipients.ndjson", "people", audience.download, "download an audience"),
    Page("GET", "/campaigns/{id}", "read", setup.page, "see this campaign", allows_shared_key=True),
    Page("POST", "/campaigns/{id}", "write", setup.submit, "set up this campaign"),
    Page(
        "GET",
        "/campaigns/{id}/stats.json",
        "read",
        campaign.stats_json,
        "see this campaign",
        allows_shared_key=True,
    ),
    Page("GET", "/campaigns/{id}/series.csv", "read", campaign.series, "download these figures"),
    Page(
        "GET",
        "/campaigns/{id}/breakdowns.csv",
        "read",
        campaign.download_breakdowns,
        "download these figures",
    ),
    Page("GET", "/campaigns/{id}/figures.json", "read", setup.figures_json, "see this campaign"),
    Page("GET", "/campaigns/{id}/recipients", "people", recipients.page, "see recipients"),
    Page("POST", "/campaigns/{id}/recipients", "people", recipients.search, "see recipients"),
    Page("GET", "/campaigns/{id}/recipients/upload", "people", upload.page, "upload recipients"),
    Page(
        "POST",
        "/campaigns/{id}/recipients/upload",
        "people",
        upload.upload,
        "upload recipients",
        has_file=True,
    ),
    Page("GET", "/campaigns/{id}/recipients.csv", "people", recipients.download, "download recipients"),
    Page("GET", "/campaigns/{id}/recipients.ndjson", "people", recipients.download, "download recipients"),
    Page("GET", "/campaigns/{id}/edit", "write", campaign_edit.edit, "change this campaign"),
    Page("POST", "/campaigns/{id}/edit", "write", campaign_edit.change, "change this campaign"),
    Page("GET", "/campaigns/{id}/pixel", "read", pixel.page, "see this pixel"),
    Page("POST", "/campaigns/{id}/pixel", "write", pixel.create, "create a pixel"),
    Page("GET", "/campaigns/{id}/pixel/list", "write", link_list.page, "make the links of a list"),
    Page(
        "GET", "/campaigns/{id}/pixel/list.csv", "people", link_list.download, "download the links of a list"
    ),
    Page(
        "POST",
        "/campaigns/{id}/pixel/list",
        "write",
        link_list.create,
        "make the links of a list",
        has_file=True,
    ),
    Page("GET", "/campaigns/{id}/delete", "write", campaign_edit.ask_delete, "delete this campaign"),
    Page("POST", "/campaigns/{id}/delete", "write", campaign_edit.delete, "delete this campaign"),
    Page("GET", "/settings", "read", settings_page.show, "see the settings"),
    Page("GET", "/keys", "read", keys.page, "see API keys"),
    Page("POST", "/keys", "write", keys.create, "create an API key"),
    Page("GET", "/keys/{id}/revoke", "write", keys.ask_revoke, "revoke an API key"),
    Page("POST", "/keys/{id}/revoke", "write", keys.revoke, "revoke an API key"),
    Page("POST", "/keys/{id}/sign-in-link", "write", keys.make_sign_in_link, "make a sign-in link"),
    Page("GET", "/deliveries", "read", deliveries.page, "see mail services"),
    Page("POST", "/deliveries", "write", deliveries.add, "add a mail service"),
    Page("POST", "/deliveries/{source}/key", "write", deliveries.set_key, "set the key of a mail service"),
    Page("GET", "/deliveries/{source}/remove", "write", deliveries.ask_remove, "remove a mail service"),
    Page("POST", "/deliveries/{source}/remove", "write", deliveries.remove, "remove a mail service"),
    Page("GET", "/webhooks", "read", webhooks.page, "see webhooks"),
    Page("POST", "/webhooks", "write", webhooks.create, "create a webhook"),
    Page("GET", "/webhooks/{id}", "read", webhooks.show, "see this webhook"),
    Page("GET", "/webhooks/{id}/edit", "write", webhooks.edit, "change this webhook"),
    Page("POST", "/webhooks/{id}/edit", "write", webhooks.change, "change this webhook"),
    Page("POST", "/webhooks/{id}/enable", "write", webhooks.enable, "enable this webhook"),
    Page("GET", "/webhooks/{id}/disable", "write", webhooks.ask_disable, "disable this webhook"),
    Page("POST", "/webhooks/{id}/disable", "write", webhooks.disable, "disable this webhook"),
    Page("POST", "/webhooks/{id}/test", "write", webhooks.send_test, "send a test event"),
    Page("POST", "/webhooks/{id}/again", "write", webhooks.send_again, "send requests again"),
    Page("GET", "/webhooks/{id}/secret", "write", webhooks.ask_secret, "make a new secret"),
    Page("POST", "/webhooks/{id}/secret", "write", webhooks.rotate, "make a new secret"),
    Page("GET", "/webhooks/{id}/delete", "write", webhooks.ask_delete, "delete this webhook"),
    Page("POST", "/webhooks/{id}/delete", "write", webhooks.delete, "delete this webhook"),
    Page("GET", "/withdrawals/all.csv", "people", people.download_withdrawals, "download withdrawals"),
    Page("GET", "/withdrawals", "people", people.list_withdrawals, "see withdrawals"),
    Page(
        "POST",
        "/withdrawals",
        "people",
        people.withdraw,
        "stop recording recipients",
        max_bytes=people.MAX_FORM_BYTES,
    ),
    Page(
        "POST",
        "/withdrawals/end/ask",
        "people",
        people.ask_allow,
        "record recipients again",
        max_bytes=people.MAX_FORM_BYTES,
    ),
    Page(
        "POST",
        "/withdrawals/end",
        "people",
        people.allow,
        "record recipients again",
        max_bytes=people.MAX_FORM_BYTES,
    ),
    Page("GET", "/recipients", "people", people.ask_recipient, "find a recipient"),
    Page("POST", "/recipients", "people", people.open_recipient, "find a recipient"),
    Page("GET", "/recipients/{key}", "people", people.show_recipient, "see a recipient"),
    Page("GET", "/recipients/{key}/erase", "people", people.ask_erase, "erase a recipient"),
    Page("POST", "/recipients/{key}/erase", "people", people.erase, "erase a recipient"),
    Page("GET", "/kept", "read", inventory.show, "see what is stored"),
    Page("GET", "/audit", "people", audit.list_audit, "see the audit log"),
    Page("GET", "/audit/all.csv", "people", audit.download, "download the audit log"),
    Page("GET", "/audit/recipients", "people", audit.list_actions, "see the actions of recipients"),
    Page("POST", "/campaigns/{id}/notes", "write", notes.add, "write a note"),
    Page("POST", "/campaigns/{id}/notes/{note}", "write", notes.change, "change a note"),
    Page("POST", "/campaigns/{id}/notes/{note}/remove", "write", notes.remove, "remove a note"),
    Page("GET", "/campaigns/{id}/shares", "read", share_links.page, "see share links"),
    Page("POST", "/campaigns/{id}/shares", "write", share_links.create, "create a share link"),
    Page(
        "GET", "/campaigns/{id}/shares/{share}/revoke", "write", share_links.ask_revoke, "revoke a share link"
    ),
    Page("POST", "/campaigns/{id}/shares/{share}/revoke", "write", share_links.revoke, "revoke a share link"),
    Page("GET", "/s/{token}", None, public_share.page),
    Page("GET", "/s/{token}/stats.json", None, public_share.stats_json),
)


def routes(api: Api) -> list[Route]:
    """Returns the routes of all pages."""
    live = Page(
        "GET", "/campaigns/{id}/live", "read", Live(setup.texts_and_as_of).answer, "see this campaign"
    )
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
