"""`/campaigns/{id}/shares`: creates, lists and revokes links that show a campaign without an API key."""

from __future__ import annotations

from html import escape
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.addresses import is_local
from pixel_server.api import fields as api_fields
from pixel_server.api import shares
from pixel_server.api.context import Api
from pixel_server.auth import share_links
from pixel_server.auth.share_links import Share
from pixel_server.campaigns.campaign import Campaign
from pixel_server.dashboard import campaign as campaign_page
from pixel_server.dashboard import forms, long_list, render, shared_figures
from pixel_server.problems import Problem

_EMPTY_FIELDS = {"name": "", "expires_at": "", "frames": ""}


async def page(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    return forms.page(api, request, "shares.html", _EMPTY_FIELDS, await _context(api, campaign, request))


async def create(api: Api, request: Request) -> Response:
    """Creates a link, and shows it once, on the page that answers the POST."""
    campaign = await api.campaign(request.path_params["id"])
    fields = {name: request.state.form.get(name, "") for name in _EMPTY_FIELDS}
    content: dict[str, Any] = {"name": fields["name"].strip(), "frames": forms.lines(fields["frames"])}
    if fields["expires_at"]:
        content["expires_at"] = api_fields.with_offset_or_end_of_day(fields["expires_at"], campaign.zone)
    try:
        share, url = await shares.make(api, campaign, content, request.state.who)
    except Problem as problem:
        return forms.page(
            api, request, "shares.html", fields, await _context(api, campaign, request), problem
        )
    context = {
        **await _context(api, campaign, request),
        "created": share,
        "created_url": url,
        "frame": iframe(campaign, share, url),
        "base_url": shares.link_base(api, campaign),
        "is_local": is_local(url),
    }
    return forms.page(api, request, "shares.html", _EMPTY_FIELDS, context)


async def ask_revoke(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    for share in await share_links.list_shares(api.store, campaign.id):
        if share.id == request.path_params["share"]:
            return render.page(api, request, "share_revoke.html", {"campaign": campaign, "share": share})
    raise Problem(404, "no share link of this campaign has this id")


async def revoke(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    await shares.revoke(api, campaign, request.path_params["share"], request.state.who)
    return forms.done(api, f"campaigns/{campaign.id}/shares", "unshared")


def iframe(campaign: Campaign, share: Share, url: str) -> str:
    """Returns the HTML that embeds the shared figures, or "" if no origin may embed them.

    The HTML does not contain the share's name, because visitors of the embedding page can read the HTML.
    """
    if not share.frames:
        return ""
    return (
        f'<iframe src="{escape(url)}" title="{escape(campaign.name)}" width="100%" height="900" '
        'loading="lazy" referrerpolicy="no-referrer"></iframe>'
    )


async def _context(api: Api, campaign: Campaign, request: Request) -> dict[str, Any]:
    now = api.clock()
    links = await share_links.list_shares(api.store, campaign.id)
    return {
        "campaign": campaign,
        "keeps_recipients": campaign_page.keeps_recipients(api, campaign),
        "shares": [
            (share, share_links.has_expired(share, now))
            for share in long_list.shown_rows(links[::-1], request.query_params)
        ],
        "total": len(links),
        "share_for_guests": await shared_figures.share_for_guests(api, campaign),
        "has_base_url": shares.link_base(api, campaign) is not None,
        "created": None,
        "created_url": "",
        "frame": "",
    }
