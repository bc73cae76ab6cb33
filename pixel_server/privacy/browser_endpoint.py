"""`/privacy` without a token: a browser opts out of recording, or allows it again.

The opt-out is a cookie (`opt_out_cookie`). The server stores nothing, so this works while Redis is away. GET
changes nothing. POST sets or deletes the cookie and redirects the browser to GET, whose page shows whether
the browser really kept or dropped the cookie.
"""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import urlencode

import redis
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from pixel_server import opt_out_cookie
from pixel_server.api.context import Api
from pixel_server.campaigns import retention, storage
from pixel_server.campaigns.cache import DEFAULT_WEB, WebCampaign
from pixel_server.campaigns.campaign import UnreadableCampaign
from pixel_server.counters.stored_format import NewerFormat
from pixel_server.counters.visit_sample import KEPT_DAYS
from pixel_server.logs import Log
from pixel_server.privacy.browser_page import BrowserView, render
from pixel_server.privacy.document import headers
from pixel_server.privacy.texts import choose_language
from pixel_server.settings import cookie_path

log = Log(__name__)

_FRAME_DESTINATIONS = ("iframe", "frame")
"""Values of `Sec-Fetch-Dest` for a page in a frame."""
_OPTS_OUT = {"no": True, "yes": False}
"""For each action of the form, whether it opts out (True) or ends the opt-out (False)."""


async def answer(api: Api, request: Request, campaign: str, action: str) -> Response:
    """Answers GET with the browser's page, and POST with a redirect to that page.

    campaign: id of the web campaign whose site links to the page; a client can send any text. action: value
    of the pressed button, "no" or "yes".
    """
    web = _find_web_campaign(api, campaign)
    is_framed = request.headers.get("sec-fetch-dest") in _FRAME_DESTINATIONS
    if request.method == "POST":
        return _redirect_with_cookie(api, action, campaign, web, is_framed)
    cookies = b"; ".join(value for name, value in request.headers.raw if name == b"cookie")
    keep_days = retention.server_days(api.settings)
    if web:
        with suppress(storage.UnknownCampaign, UnreadableCampaign):
            try:
                keep_days = retention.campaign_days(api.settings, await storage.get(api.store, campaign))
            except (redis.RedisError, OSError, NewerFormat) as error:
                log.error(
                    "keep-days-unreadable",
                    "cannot read for how long campaign %(campaign)s keeps data; the page shows the server's "
                    "default times: %(error)s",
                    campaign=campaign,
                    error=error,
                )
    view = BrowserView(
        has_opted_out=opt_out_cookie.is_set(cookies),
        form_opted_out=_OPTS_OUT.get(request.query_params.get("said", "")),
        is_framed=is_framed,
        campaign=campaign if web else "",
        identity=web.identity if web else None,
        operator=api.settings.operator,
        keep={
            "buckets": keep_days.buckets,
            "days": keep_days.days,
            **({"visits": min(KEPT_DAYS, keep_days.days)} if api.settings.visit_sample else {}),
            "dead_letters": api.settings.keep_dead_letters,
        },
    )
    page = render(view, choose_language(request.headers.get("accept-language", "")))
    return Response(page, 200, headers(web.origins if web else ()), "text/html; charset=utf-8")


def _find_web_campaign(api: Api, campaign: str) -> WebCampaign | None:
    """Returns a web campaign from the cache, or None if the cache has no web campaign with this id."""
    return api.campaign_cache.web.get(campaign, DEFAULT_WEB) if api.campaign_cache.is_web(campaign) else None


def _redirect_with_cookie(
    api: Api, action: str, campaign: str, web: WebCampaign | None, is_framed: bool
) -> Response:
    """Returns a redirect to the page.

    The redirect sets the cookie if the action is "no", and deletes the cookie if the action is "yes".
    """
    opts_out = _OPTS_OUT.get(action)
    query = urlencode([("c", campaign)] * (web is not None) + [("said", action)] * (opts_out is not None))
    # The address is relative, as the form's action is, because a proxy may have removed a prefix.
    address = f"privacy?{query}" if query else "privacy"
    response = RedirectResponse(address, 303, headers(web.origins if web else ()))
    if opts_out is not None:
        path = cookie_path(api.settings.base_url) if web is None or web.path is None else web.path
        response.headers["set-cookie"] = opt_out_cookie.set_cookie(
            path or "/", opts_out=opts_out, is_framed=is_framed
        )
    return response
