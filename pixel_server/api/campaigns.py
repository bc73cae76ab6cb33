"""Calls of the API on campaigns: list, create, show, change, delete."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api import fields
from pixel_server.api.context import Api
from pixel_server.api.openapi.values import TAG
from pixel_server.api.paging import Paging
from pixel_server.api.request_body import check_each_field, read_json
from pixel_server.api.routing import Call, Parameter, reply
from pixel_server.campaigns import deletion, storage
from pixel_server.campaigns.campaign import (
    KINDS,
    Campaign,
    UnfitField,
    Uses,
    campaign_json,
    new_campaign,
    set_mode,
    unfit_fields,
)
from pixel_server.campaigns.tags import query_errors
from pixel_server.figures import disclosure
from pixel_server.problems import Problem, bad_fields
from pixel_server.slug import PATTERN
from pixel_server.store import audit_log

TAKEN = {"field": "id", "message": "is taken, or belonged to a deleted campaign"}
"""Error of an id that no new campaign can have."""


async def create(api: Api, content: Any) -> Campaign:
    """Creates a campaign from the JSON of a body.

    Raises Problem 422 if fields are bad, and 409 if the id is taken or belonged to a deleted campaign, or if
    a field does not fit the kind of the campaign.
    """
    checks = {"id": fields.slug, "kind": fields.one_of(*KINDS), **fields.campaign_checks(api.settings)}
    values, errors = check_each_field(content, checks, frozenset({"id", "name", "kind"}))
    values.setdefault("time_zone", api.settings.time_zone)
    _refuse(errors, _unfit_new(api, values))
    campaign = new_campaign(**values, created=api.clock())
    try:
        await storage.create(api.store, campaign)
    except storage.CampaignExists as error:
        raise Problem(409, str(error), [TAKEN]) from None
    api.campaign_cache.learn(campaign)
    return campaign


def _unfit_new(api: Api, values: dict[str, Any]) -> list[UnfitField]:
    """Returns an error for each checked field of a new campaign that does not fit the others.

    Adds the mode to the fields if they have none.
    """
    if "kind" not in values:
        return []
    try:
        set_mode(values, api.consent)
    except UnfitField as error:
        return [error]
    campaign = new_campaign(**{"id": "", "name": "", **values})
    return list(unfit_fields(campaign.kind, values, campaign))


def _refuse(errors: list[dict[str, Any]], unfit: list[UnfitField]) -> None:
    """Raises Problem 422 with all errors if a field is bad, and 409 if the good fields do not fit."""
    faults = [{"field": error.field, "message": str(error)} for error in unfit]
    if errors:
        raise bad_fields([*errors, *faults])
    if faults:
        raise Problem(409, str(unfit[0]), faults)


async def create_campaign(api: Api, request: Request) -> Response:
    campaign = await create(api, await read_json(request))
    return reply(campaign_json(campaign), 201, {"Location": f"campaigns/{campaign.id}"})


async def list_campaigns(api: Api, request: Request) -> Response:
    tag = request.query_params.get("tag")
    page = _PAGING.parse(request.query_params, query_errors(tag))
    if tag is None:
        campaigns, next_cursor = await storage.page(api.store, *page)
    else:
        campaigns, next_cursor = await storage.page_with_tag(api.store, *page, tag)
    return reply({"items": [campaign_json(campaign) for campaign in campaigns], "next": next_cursor})


async def show_campaign(api: Api, request: Request) -> Response:
    shown = campaign_json(await api.campaign(request.path_params["id"]))
    if request.state.has_shared_key:
        return reply({field: shown[field] for field in disclosure.FIELDS})
    return reply(shown)


async def change(api: Api, campaign_id: str, content: Any, who: str) -> Campaign:
    """Sets fields of a campaign, and returns the campaign. who: name for the audit log.

    Raises Problem 404 if no campaign has this id, 422 if fields are bad, and 409 if a field does not
    fit the kind of the campaign or cannot be changed any more.
    """
    values = _checked_change(api, await api.campaign(campaign_id), content)
    with _conflicts():
        changed = await storage.change(api.store, campaign_id, values, who)
    api.campaign_cache.learn(changed)
    return changed


def preview_change(api: Api, campaign: Campaign, uses: Uses, content: Any) -> Campaign:
    """Returns the campaign that `change` would store. Stores nothing. Raises Problem as `change` does."""
    values = _checked_change(api, campaign, content)
    with _conflicts():
        return storage.changed(campaign, uses, values)


def _checked_change(api: Api, campaign: Campaign, content: Any) -> dict[str, Any]:
    """Returns the checked fields of a change. Raises Problem that names each field that is bad or unfit."""
    values, errors = check_each_field(content, fields.campaign_checks(api.settings))
    after = msgspec.structs.replace(campaign, **values)
    _refuse(errors, list(unfit_fields(campaign.kind, values, after)))
    return values


@contextmanager
def _conflicts() -> Iterator[None]:
    """Raises Problem 409 if a change does not fit the campaign, or cannot be made any more."""
    try:
        yield
    except UnfitField as error:
        raise Problem(409, str(error), [{"field": error.field, "message": str(error)}]) from None
    except storage.SealedField as error:
        raise Problem(409, str(error)) from None


async def change_campaign(api: Api, request: Request) -> Response:
    content = await read_json(request)
    changed = await change(api, request.path_params["id"], content, request.state.who)
    return reply(campaign_json(changed))


async def delete(api: Api, campaign_id: str, who: str) -> None:
    """Deletes a campaign. who: name for the audit log. Raises Problem 404 if no campaign has this id."""
    await api.campaign(campaign_id)
    await audit_log.note(api.store, who, "campaign.deleted", campaign=campaign_id)
    await deletion.delete(api.store, campaign_id, api.settings.shards)
    api.campaign_cache.forget(campaign_id)


async def delete_campaign(api: Api, request: Request) -> Response:
    await delete(api, request.path_params["id"], request.state.who)
    return Response(status_code=204)


_PAGING = Paging(PATTERN)
TAG_PARAMETER = Parameter("tag", {**TAG, "description": "Only campaigns with this tag, in any case."})
CALLS = (
    Call("GET", "/api/campaigns", "read", list_campaigns, query=(TAG_PARAMETER, *_PAGING.parameters)),
    Call("POST", "/api/campaigns", "write", create_campaign),
    Call("GET", "/api/campaigns/{id}", "read", show_campaign, allows_shared_key=True),
    Call("PATCH", "/api/campaigns/{id}", "write", change_campaign),
    Call("DELETE", "/api/campaigns/{id}", "write", delete_campaign),
)
