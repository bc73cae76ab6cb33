"""`/new`, `/campaigns/{id}/edit` and `/campaigns/{id}/delete`: creates, changes and deletes a campaign."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from pixel_server import slug
from pixel_server.api import campaigns as campaign_calls
from pixel_server.api.context import Api
from pixel_server.campaigns import retention, storage
from pixel_server.campaigns.campaign import Campaign, Uses, new_campaign
from pixel_server.dashboard import campaign as campaign_page
from pixel_server.dashboard import campaign_form, campaign_losses, forms
from pixel_server.problems import Problem
from pixel_server.settings import time_zones
from pixel_server.slug import is_slug
from pixel_server.tokens import MODES, Mode

MAX_ID_NUMBER = 1000
"""Highest number at the end of an id that is created from a name: `spring-1000`."""

MAIN_FIELDS = ("kind", "name", "sent", "mode", campaign_form.WEB_MODE)
"""Fields of the form for a new campaign that are always visible, apart from the modes that few campaigns
need. The other fields are behind “More”."""


async def new(api: Api, request: Request) -> Response:
    return _form(api, request, {})


async def create(api: Api, request: Request) -> Response:
    fields = request.state.form
    fields_of_kind = campaign_form.of_kind(fields, fields.get("kind", ""))
    content = campaign_form.content(fields_of_kind, fields_of_kind.get("time_zone", "").strip())
    if content.get("kind") != "web":
        content = campaign_form.with_mode_of_preset(content)
    try:
        campaign = await (campaign_calls.create if content.get("id") else _create_named)(api, content)
    except Problem as problem:
        if content.get("mode") == "":
            problem = forms.with_message(problem, "mode", campaign_form.NO_ANSWER)
        return _form(api, request, fields, await _with_taken_id(api, content.get("id", ""), problem))
    return forms.done(api, f"campaigns/{campaign.id}", "made")


async def _create_named(api: Api, content: dict[str, Any]) -> Campaign:
    """Creates a campaign under the first unused id that is made from its name: `spring`, `spring-2`, ..."""
    name = str(content.get("name", ""))
    for number in itertools.count(1):
        try:
            return await campaign_calls.create(api, {**content, "id": slug.from_name(name, number)})
        except Problem as problem:
            if problem.errors != [campaign_calls.TAKEN] or number == MAX_ID_NUMBER:
                raise
    raise AssertionError


async def _with_taken_id(api: Api, campaign_id: str, problem: Problem) -> Problem:
    """Returns the problem of a form, which also names the id if no new campaign can have it.

    Storing the campaign would find this only after all other errors are corrected.
    """
    errors = problem.errors or []
    has_error = any(error["field"] == "id" for error in errors)
    if has_error or not is_slug(campaign_id) or not await storage.is_taken(api.store, campaign_id):
        return problem
    return Problem(problem.status, problem.detail, [*errors, campaign_calls.TAKEN])


async def edit(api: Api, request: Request) -> Response:
    campaign, uses = await storage.get_uses(api.store, (await api.campaign(request.path_params["id"])).id)
    return _form(api, request, campaign_form.texts(campaign), None, campaign, uses)


async def change(api: Api, request: Request) -> Response:
    campaign, uses = await storage.get_uses(api.store, (await api.campaign(request.path_params["id"])).id)
    fields, path = campaign_losses.typed(request.state.form), f"campaigns/{campaign.id}/edit"
    if campaign_losses.is_back(request.state.form):
        return _form(api, request, fields, None, campaign, uses)
    try:
        changes = campaign_form.changes(campaign, fields)
        if changes:
            if question := await campaign_losses.question(api, request, campaign, uses, changes, path):
                return question
            await campaign_calls.change(api, campaign.id, changes, request.state.who)
    except Problem as problem:
        return _form(api, request, fields, problem, campaign, uses)
    return forms.done(api, path, "saved")


async def ask_delete(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    return forms.page(api, request, "campaign_delete.html", {"id": ""}, _head_context(api, campaign))


async def delete(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    typed = request.state.form.get("id", "")
    if typed.strip() != campaign.id:
        problem = Problem(
            422, "nothing was deleted", [{"field": "id", "message": "this is not the id of the campaign"}]
        )
        context = _head_context(api, campaign)
        return forms.page(api, request, "campaign_delete.html", {"id": typed}, context, problem)
    await campaign_calls.delete(api, campaign.id, request.state.who)
    return forms.done(api, "", "deleted")


def _initial_fields(api: Api) -> dict[str, str]:
    """Returns the initial fields of the form for a new campaign, which has the fields of both kinds.

    No mode of a mailing is chosen: the sender must choose, because the mode can only be lowered later. A
    site starts with the server's default.
    """
    mode, zone = _default_mode(api), api.settings.time_zone
    return {
        **campaign_form.texts(new_campaign("", "", "web", mode=mode, time_zone=zone)),
        **campaign_form.texts(new_campaign("", "", "email", mode=mode, time_zone=zone)),
        **{"mode": "", campaign_form.WEB_MODE: mode},
    }


def _default_mode(api: Api) -> str:
    return api.consent.default.mode.name.lower()


def _is_more_used(initial: Mapping[str, str], fields: Mapping[str, str], problem: Problem) -> bool:
    """Returns whether a refused form has an error or a changed field behind “More”.

    The id does not count as changed, because the page proposes an id.
    """
    errors = {error["field"] for error in problem.errors or []}
    changed = {name for name, text in fields.items() if name in initial and text != initial[name]}
    return bool((errors | changed - {"id"}) - set(MAIN_FIELDS))


def _head_context(api: Api, campaign: Campaign) -> dict[str, Any]:
    return {"campaign": campaign, "keeps_recipients": campaign_page.keeps_recipients(api, campaign)}


def _form(
    api: Api,
    request: Request,
    fields: Mapping[str, str],
    problem: Problem | None = None,
    campaign: Campaign | None = None,
    uses: Uses = Uses(0, 0, 0),  # noqa: B008 - immutable
) -> Response:
    """Returns the form of a campaign. campaign: the campaign to change, or None for a new campaign.

    uses: times at which the campaign was used, see `Uses`.
    """
    max_mode = min(api.consent.rule("identified", None).mode, Mode.IDENTIFIED)
    can_only_lower_mode = campaign is not None and bool(uses.first_hit or uses.last_link)
    limit = min(max_mode, Mode[campaign.mode.upper()]) if campaign and can_only_lower_mode else max_mode
    initial = campaign_form.texts(campaign) if campaign else _initial_fields(api)
    allowed_modes = {name for name in MODES if Mode[name.upper()] <= limit}
    main_modes = campaign_form.main_modes(_default_mode(api), fields.get("mode", ""))
    is_web = fields.get("kind") == "web"
    context = {
        **(_head_context(api, campaign) if campaign else {"campaign": None}),
        "labels": campaign_form.labels(campaign.kind == "web")
        if campaign
        else campaign_form.labels_of_new(is_web, [name for name in main_modes if name in allowed_modes]),
        "is_web": is_web,
        "mode_question": campaign_form.QUESTION,
        "web_question": campaign_form.WEB_QUESTION,
        "uses": uses,
        "can_only_lower_mode": can_only_lower_mode,
        "modes": campaign_form.MODES,
        "main_modes": main_modes,
        "other_modes": {name: text for name, text in campaign_form.MODES.items() if name not in main_modes},
        "mode_names": campaign_form.MODE_NAMES,
        "web_mode_names": campaign_form.WEB_MODE_NAMES,
        "samples": campaign_form.SAMPLES,
        "kind_names": campaign_form.KIND_NAMES,
        "web_modes": campaign_form.web_modes(campaign.mode if campaign else _default_mode(api)),
        "allowed_modes": allowed_modes,
        "max_mode": max_mode.name.lower(),
        "presets": campaign_form.PRESETS,
        "identities": campaign_form.IDENTITIES,
        "identity_names": campaign_form.IDENTITY_NAMES,
        "paths": campaign_form.PATHS,
        "path_names": campaign_form.PATH_NAMES,
        "gpc_effects": campaign_form.GPC_EFFECTS,
        "server_gpc_effect": campaign_form.GPC_EFFECTS[api.settings.gpc_effect],
        "keeps": campaign_form.KEEP_LABELS,
        "keep_max": retention.server_days(api.settings)._asdict(),
        "base_url": api.settings.base_url,
        "zones": sorted(time_zones()),
    }
    context["is_more_open"] = problem is not None and _is_more_used(initial, fields, problem)
    return forms.page(api, request, "campaign_form.html", {**initial, **fields}, context, problem)
