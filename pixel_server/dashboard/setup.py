"""`/campaigns/{id}` before the first counted request: a checklist that leads to that request.

The steps of a mailing: tell how many mails are sent, put the pixel into them, wait. A site has no first step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api import campaigns as campaign_calls
from pixel_server.api.context import Api
from pixel_server.api.routing import reply
from pixel_server.campaigns import storage
from pixel_server.campaigns.campaign import Campaign, Uses
from pixel_server.dashboard import campaign as campaign_page
from pixel_server.dashboard import campaign_form, campaign_losses, formatting, forms, pixel
from pixel_server.dashboard.page_figures import is_waiting
from pixel_server.problems import Problem

NOT_COUNTED = {
    "totals.refused_origin": "Refused: from the script on another web site",
    "totals.dropped_gpc": "Not counted: the browser asked not to be tracked",
    "totals.dropped_opted_out": "Not counted: the person opted out",
}
"""Labels of the figures of requests that came and were not counted."""
_SENT_FIELDS = ("sent", "sent_at")
_RANGE_PARAMS = ("from", "to", "until", "interval", "tz")


async def page(api: Api, request: Request) -> Response:
    """Returns the checklist. Returns the page of the campaign if requests were counted, or for a range."""
    campaign = await api.campaign(request.path_params["id"])
    _, uses = await storage.get_uses(api.store, campaign.id)
    has_range = any(request.query_params.get(name) for name in _RANGE_PARAMS)
    if request.state.has_shared_key or has_range or not is_waiting(campaign, uses):
        return await campaign_page.page(api, request)
    return await _show(api, request, campaign, {})


async def submit(api: Api, request: Request) -> Response:
    """Answers the forms of the checklist: stores the number of mails, or creates the pixel of a recipient."""
    campaign = await api.campaign(request.path_params["id"])
    if request.state.form.get("step") != "pixel":
        return await _store_sent(api, request, campaign)
    _, uses = await storage.get_uses(api.store, campaign.id)
    if not is_waiting(campaign, uses):
        return await pixel.create(api, request)
    fields = pixel.fields_of(request.state.form)
    try:
        link = await pixel.make_link(api, campaign, fields)
    except Problem as problem:
        return await _show(api, request, campaign, fields, problem)
    return await _show(api, request, campaign, {**fields, "recipient": ""}, link=link)


async def _store_sent(api: Api, request: Request, campaign: Campaign) -> Response:
    form, path = request.state.form, f"campaigns/{campaign.id}"
    fields = {name: form[name] for name in _SENT_FIELDS if name in form}
    if campaign_losses.is_back(form):
        return await _show(api, request, campaign, fields)
    try:
        changes = campaign_form.changes(campaign, fields)
        if changes:
            _, uses = await storage.get_uses(api.store, campaign.id)
            if question := await campaign_losses.question(api, request, campaign, uses, changes, path):
                return question
            await campaign_calls.change(api, campaign.id, changes, request.state.who)
    except Problem as problem:
        return await _show(api, request, campaign, fields, problem)
    return forms.done(api, path, "saved")


async def figures_json(api: Api, request: Request) -> Response:
    """Returns the texts of all figures, for pages that poll because they receive no live events."""
    campaign = await api.campaign(request.path_params["id"])
    texts, as_of = await texts_and_as_of(api, campaign, request.query_params)
    return reply({"figures": texts, "as_of": as_of})


async def texts_and_as_of(
    api: Api, campaign: Campaign, params: Mapping[str, str]
) -> tuple[dict[str, str], str]:
    """Returns what `campaign.texts_and_as_of` returns, with the figures that only the checklist shows."""
    _, uses = await storage.get_uses(api.store, campaign.id)
    texts, as_of = await campaign_page.texts_and_as_of(api, campaign, params)
    return {**texts, "last_link": _last_link(uses)}, as_of


def _last_link(uses: Uses) -> str:
    return formatting.instant(uses.last_link) if uses.last_link else formatting.UNKNOWN


async def _show(
    api: Api,
    request: Request,
    campaign: Campaign,
    fields: Mapping[str, str],
    problem: Problem | None = None,
    link: Mapping[str, Any] | None = None,
) -> Response:
    """Returns the checklist. fields: as they were sent. link: the link that was just created, if any."""
    texts, as_of = await texts_and_as_of(api, campaign, {})
    stored = campaign_form.texts(campaign)
    none = ("0", formatting.UNKNOWN)
    refusals = {path: label for path, label in NOT_COUNTED.items() if texts.get(path, "0") not in none}
    context = {
        **pixel.context(api, campaign),
        "link": link,
        "texts": texts,
        "as_of": as_of,
        "late_since": await asyncio.to_thread(api.late_since),
        "is_sent_known": texts["sent"] != formatting.UNKNOWN,
        "are_links_made": texts["last_link"] != formatting.UNKNOWN,
        "refusals": refusals,
        "not_counted": NOT_COUNTED,
    }
    initial = {**pixel.INITIAL_FIELDS, **{name: stored.get(name, "") for name in _SENT_FIELDS}}
    return forms.page(api, request, "setup.html", {**initial, **fields}, context, problem)
