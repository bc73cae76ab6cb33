"""`/withdrawals` and `/recipients`: the pages about single people, which need the scope `people`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api import fields as api_fields
from pixel_server.api import recipients
from pixel_server.api import withdrawals as withdrawal_calls
from pixel_server.api.context import Api
from pixel_server.api.media_types import CSV
from pixel_server.campaigns import storage
from pixel_server.campaigns.campaign import Campaign, UnreadableCampaign
from pixel_server.dashboard import forms, mailing, recipient_timeline, render
from pixel_server.dashboard.recipient_timeline import MAX_EVENTS
from pixel_server.problems import Problem
from pixel_server.recipients import withdrawals
from pixel_server.tokens import decode_unreserved

PAGE_ROWS = 50
"""Largest number of withdrawals on a page."""
MAX_ASKED = 10
"""Number of recipients that the page shows which asks before they are recorded again."""
MAX_CAMPAIGNS = 20
"""Number of campaigns of a recipient that are shown at once. The others can be unfolded."""
MAX_FORM_BYTES = 1 << 20
"""Largest number of bytes of a form with a list of recipients."""
_token_in_url = re.compile(r"/o/([\w-]+)\.gif|[?&]t=([\w-]+)", re.ASCII).search


async def list_withdrawals(api: Api, request: Request) -> Response:
    return await _withdrawals(api, request, {})


async def download_withdrawals(api: Api, request: Request) -> Response:
    response = await withdrawal_calls.export(api, CSV, request.state.who)
    response.headers["content-disposition"] = 'attachment; filename="withdrawals.csv"'
    return response


async def withdraw(api: Api, request: Request) -> Response:
    content = _recipients_in(request, "recipients")
    try:
        count = (await withdrawal_calls.withdraw(api, content, request.state.who))["withdrawn"]
    except Problem as problem:
        return await _refused(api, request, "recipients", problem)
    return forms.done(api, "withdrawals", "withdrawn", count)


async def ask_allow(api: Api, request: Request) -> Response:
    """Asks before recipients are recorded again. The page holds them, so that no address names anybody."""
    content = _recipients_in(request, "ended")
    try:
        withdrawal_calls.recipient_keys(content, api.secrets)
    except Problem as problem:
        return await _refused(api, request, "ended", problem)
    context = {**content, "max_shown": MAX_ASKED}
    return render.page(api, request, "withdrawal_end.html", context)


async def allow(api: Api, request: Request) -> Response:
    content = _recipients_in(request, "ended")
    try:
        count = (await withdrawal_calls.allow(api, content, request.state.who))["allowed"]
    except Problem as problem:
        return await _refused(api, request, "ended", problem)
    return forms.done(api, "withdrawals", "allowed", count)


def _recipients_in(request: Request, field: str) -> dict[str, list[str]]:
    """Returns the content of an API call for the recipients in a field of the form, one per line."""
    return {"recipients": forms.lines(request.state.form.get(field, ""))}


async def _refused(api: Api, request: Request, field: str, problem: Problem) -> Response:
    """Returns the page with the refused field. All rows are in it, so each error of a row is its error."""
    errors = [{**error, "field": field} for error in problem.errors or []]
    fields = {field: request.state.form.get(field, "")}
    return await _withdrawals(api, request, fields, Problem(problem.status, problem.detail, errors))


async def _withdrawals(
    api: Api, request: Request, fields: Mapping[str, str], problem: Problem | None = None
) -> Response:
    after = request.query_params.get("after")
    items, next_cursor = await withdrawal_calls.withdrawals_page(api, after, PAGE_ROWS)
    context = {
        "items": items,
        "next": next_cursor,
        "after": after,
        "max_recipients": api_fields.MAX_RECIPIENTS,
    }
    return forms.page(api, request, "withdrawals.html", fields, context, problem)


async def ask_recipient(api: Api, request: Request) -> Response:
    return forms.page(api, request, "recipient_find.html", {}, {})


async def open_recipient(api: Api, request: Request) -> Response:
    """Redirects to the page of a recipient. Its address contains only the recipient's key."""
    fields = {name: request.state.form.get(name, "").strip() for name in ("recipient", "token")}
    content = {name: text for name, text in fields.items() if text}
    if "token" in content:
        text = decode_unreserved(content["token"].encode("utf-8", "replace")).decode("utf-8", "replace")
        match = _token_in_url(text)
        content["token"] = match[1] or match[2] if match else text
    try:
        recipient = recipients.key_of_query(content, api.secrets)
    except Problem as problem:
        detail = problem.detail.replace("send either `recipient` or `token`", "fill in one of the two fields")
        problem_of_form = Problem(problem.status, detail, problem.errors)
        return forms.page(api, request, "recipient_find.html", fields, {}, problem_of_form)
    return render.redirect(api, f"recipients/{recipient.hex()}")


async def show_recipient(api: Api, request: Request) -> Response:
    context = await _recipient_context(api, request)
    campaigns = recipient_timeline.newest_first(context["campaigns"])
    shown = {event.campaign for event in recipient_timeline.events(context, {})[:MAX_EVENTS]}
    shown.update(row["campaign"] for row in campaigns[:MAX_CAMPAIGNS])
    known = await _campaigns(api, shown - {""})
    sent_at = {campaign_id: campaign.sent_at for campaign_id, campaign in known.items()}
    events = recipient_timeline.events(context, sent_at)
    # The address names the campaign of the list from which the visitor came.
    came_from = request.query_params.get("campaign", "")
    more = {
        "events": events[:MAX_EVENTS],
        "number_of_events": len(events),
        "campaigns": campaigns,
        "max_campaigns": MAX_CAMPAIGNS,
        "opened_by": recipient_timeline.opened_by,
        "delay": recipient_timeline.delay,
        "is_sent_on": recipient_timeline.is_sent_on,
        "sent_at": sent_at,
        "delivery_names": mailing.DELIVERIES,
        "campaign_names": {campaign_id: campaign.name for campaign_id, campaign in known.items()},
        "came_from": came_from if came_from in {row["campaign"] for row in campaigns} else "",
        "identities": sorted({row["recipient"] for row in campaigns if row["recipient"]}),
        "person_names": sorted({row["name"] for row in campaigns if row["name"]}),
    }
    return render.page(api, request, "recipient.html", {**context, **more})


async def _campaigns(api: Api, campaign_ids: Iterable[str]) -> dict[str, Campaign]:
    """Returns the campaigns that still exist and can be read, by id."""
    found = {}
    for campaign_id in campaign_ids:
        with suppress(storage.UnknownCampaign, UnreadableCampaign):
            found[campaign_id] = await storage.get(api.store, campaign_id)
    return found


async def ask_erase(api: Api, request: Request) -> Response:
    context = await _recipient_context(api, request)
    campaigns = [row["campaign"] for row in context["campaigns"]]
    known = await _campaigns(api, campaigns if len(campaigns) == 1 else ())
    names = {campaign_id: campaign.name for campaign_id, campaign in known.items()}
    return render.page(api, request, "recipient_erase.html", {**context, "campaign_names": names})


async def erase(api: Api, request: Request) -> Response:
    key = request.path_params["key"]
    await recipients.erase(api, key, request.state.who)
    return forms.done(api, f"recipients/{key}", "erased")


async def _recipient_context(api: Api, request: Request) -> dict[str, Any]:
    """Returns everything stored about the recipient in the path, and whether the recipient withdrew."""
    stored = await recipients.show(api, request.path_params["key"], request.state.who)
    recipient = recipients.parse_key(request.path_params["key"])
    periods = await withdrawals.get_periods(api.store, api.secrets, recipient)
    return {**stored, "is_withdrawn": withdrawals.is_withdrawn(periods)}
