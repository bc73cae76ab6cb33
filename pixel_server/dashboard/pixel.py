"""`/campaigns/{id}/pixel`: the HTML for a mail or for the pages of a web site."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.addresses import is_local
from pixel_server.api import links, uploads
from pixel_server.api.context import Api
from pixel_server.campaigns.campaign import Campaign
from pixel_server.dashboard import campaign as campaign_page
from pixel_server.dashboard import forms
from pixel_server.problems import Problem
from pixel_server.tokens import Mode

PARTS = {
    "single": "The only pixel of the mail.",
    "top": "The upper of two pixels. Its opens are counted.",
    "bottom": "The lower of two pixels. It shows whether the mail was displayed to its end.",
}
"""Meaning of each place of a pixel in a mail."""
INITIAL_FIELDS = {"recipient": "", "part": "single", "test": ""}
"""The fields of the form for a recipient's pixel."""

LIST_FIELDS = {"column": uploads.COLUMN, "count_sent": "yes", "leave_out": ""}
"""The fields of the form for a list of recipients, beside the list."""


async def page(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    return forms.page(api, request, "pixel.html", INITIAL_FIELDS, context(api, campaign))


async def create(api: Api, request: Request) -> Response:
    """Shows the tag of one recipient, as the answer to the POST, so that no URL names a recipient."""
    campaign = await api.campaign(request.path_params["id"])
    fields = fields_of(request.state.form)
    try:
        link = await make_link(api, campaign, fields)
    except Problem as problem:
        return forms.page(api, request, "pixel.html", fields, context(api, campaign), problem)
    shown = {**context(api, campaign), "link": link}
    return forms.page(api, request, "pixel.html", {**fields, "recipient": ""}, shown)


def fields_of(form: Mapping[str, str]) -> dict[str, str]:
    """Returns the fields of a recipient's pixel. A form without parts makes the only pixel of the mail."""
    return {name: form.get(name, initial) for name, initial in INITIAL_FIELDS.items()}


async def make_link(api: Api, campaign: Campaign, fields: Mapping[str, str]) -> dict[str, Any]:
    """Makes the link of one recipient, see `links.mint`. Raises Problem if the link cannot be made."""
    row = {"recipient": fields["recipient"].strip(), "part": fields["part"], "test": fields["test"] == "yes"}
    try:
        [link] = await links.make(api, campaign, {"recipients": [row]})
    except Problem as problem:
        errors = [{"field": error["field"], "message": error["message"]} for error in problem.errors or []]
        detail = "no pixel was created" if errors else problem.detail
        raise Problem(problem.status, detail, errors) from None
    return link


_IMAGE_STYLE = ";".join(
    f"{declaration}!important"
    for declaration in (
        *("display:block", "position:fixed", "top:0", "left:0"),
        *("width:1px", "height:1px", "opacity:0", "pointer-events:none"),
    )
)
"""Style that takes the image out of the flow of the page, and wins over the page's own rules for images.

The image stays in the window, so that it is loaded even if a program adds `loading="lazy"`. If a Content
Security Policy blocks the style, the attribute `hidden` keeps the image from adding a line.
"""


def image(base_url: str, campaign: str) -> str:
    """Returns the image tag of a web campaign. The image moves nothing in the page.

    Without `referrerpolicy`, browsers send only the page's origin. Without `eager`, a CMS may make the image
    lazy.
    """
    return (
        f'<img src="{escape(base_url)}/p/{campaign}.gif" width="1" height="1" alt="" loading="eager" '
        f'referrerpolicy="no-referrer-when-downgrade" hidden style="{_IMAGE_STYLE}">'
    )


def script(base_url: str, campaign: str) -> str:
    """Returns the script tag, with the image for browsers without JavaScript."""
    return (
        f'<script defer src="{escape(base_url)}/p.js" data-campaign="{campaign}"></script>\n'
        f"<noscript>{image(base_url, campaign)}</noscript>"
    )


def context(api: Api, campaign: Campaign) -> dict[str, Any]:
    """Returns the context of pages that show the pixel of a campaign."""
    base_url = campaign.base_url or api.settings.base_url
    mode = api.consent.rule(campaign.mode, None).mode
    return {
        "campaign": campaign,
        "keeps_recipients": campaign_page.keeps_recipients(api, campaign),
        "is_off": mode == Mode.OFF,
        "base_url": base_url,
        "is_local": is_local(base_url or ""),
        "image": image(base_url or "", campaign.id),
        "script": script(base_url or "", campaign.id),
        "parts": PARTS,
        "link": None,
        "list_fields": LIST_FIELDS,
        "checked": None,
        "has_names": campaign.closed_at is None and mode == Mode.IDENTIFIED and campaign.kind == "email",
    }
