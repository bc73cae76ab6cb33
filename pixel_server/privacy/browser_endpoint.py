"""/privacy without a token: a browser says that nothing of it is to be recorded, or takes that back.

The answer is a cookie (`opt_out_cookie`), so there is nothing to store, and this works while Redis is away.
GET changes nothing. POST sets or clears the cookie and sends the browser back to look: what is then shown is
what the browser really sends, whether it kept the cookie or not.
"""

from __future__ import annotations

import logging
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
from pixel_server.privacy.browser_page import Browser, render
from pixel_server.privacy.recipient_page import headers, language
from pixel_server.settings import cookie_path

log = logging.getLogger("pixel_server.privacy")

_FRAMES = ("iframe", "frame")
_WISHES = {"no": True, "yes": False}


async def answer(api: Api, request: Request, campaign: str, wish: str) -> Response:
    """campaign: the web campaign whose page shows this one, any text. wish: of a form, "no" or "yes"."""
    web = _web(api, campaign)
    framed = request.headers.get("sec-fetch-dest") in _FRAMES
    if request.method == "POST":
        return _set(api, wish, campaign, web, framed)
    cookies = b"; ".join(value for name, value in request.headers.raw if name == b"cookie")
    keep = retention.server_days(api.settings)
    if web:
        with suppress(storage.UnknownCampaign, UnreadableCampaign):
            try:
                keep = retention.campaign_days(api.settings, await storage.get(api.store, campaign))
            except (redis.RedisError, OSError, NewerFormat) as error:
                log.error("privacy: how long %s keeps is not known: %s", campaign, error)
    shown = Browser(
        out=opt_out_cookie.is_set(cookies),
        said=_WISHES.get(request.query_params.get("said", "")),
        framed=framed,
        campaign=campaign if web else "",
        identity=web.identity if web else None,
        operator=api.settings.operator,
        keep={"buckets": keep.buckets, "days": keep.days, "dead_letters": api.settings.keep_dead_letters},
    )
    page = render(shown, language(request.headers.get("accept-language", "")))
    return Response(page, 200, headers(web.origins if web else ()), "text/html; charset=utf-8")


def _web(api: Api, campaign: str) -> WebCampaign | None:
    """What is known of a web campaign, from memory; None: there is none of this name."""
    return api.campaign_cache.web.get(campaign, DEFAULT_WEB) if api.campaign_cache.is_web(campaign) else None


def _set(api: Api, wish: str, campaign: str, web: WebCampaign | None, framed: bool) -> Response:
    out = _WISHES.get(wish)
    query = urlencode([("c", campaign)] * (web is not None) + [("said", wish)] * (out is not None))
    # Relative, as the form's action is: a proxy may have taken a prefix off.
    head = headers(web.origins if web else ())
    back = RedirectResponse(f"privacy?{query}" if query else "privacy", 303, head)
    if out is not None:
        path = cookie_path(api.settings.base_url) if web is None or web.path is None else web.path
        back.headers["set-cookie"] = opt_out_cookie.set_cookie(path or "/", out=out, framed=framed)
    return back
