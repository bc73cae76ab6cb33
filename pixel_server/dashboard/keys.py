"""`/keys`: lists, creates and revokes API keys, and makes links that sign in with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.addresses import is_local
from pixel_server.api import keys
from pixel_server.api.context import Api
from pixel_server.api.request_body import check_each_field
from pixel_server.auth import api_keys, sign_in_links
from pixel_server.auth.api_keys import ApiKey
from pixel_server.dashboard import campaign_picker, forms, long_list, permissions
from pixel_server.problems import Problem, bad_fields
from pixel_server.scopes import CAMPAIGN_SCOPE, can_see_pages
from pixel_server.slug import is_slug

SERVER, SHARED = "server", "shared"
SIGHTS = {
    SERVER: "All campaigns. Its permissions say what else it may do.",
    SHARED: "For a partner: only what a share link shows, of campaigns that you choose.",
}
"""Meanings of the answers to the question what a new key may see."""
SIGHT_NAMES = {SERVER: "This whole server", SHARED: "Only shared figures of chosen campaigns"}
_INITIAL_FIELDS = {"name": "", "campaigns": "", "scope_read": "yes"}
"""Fields of the form for a new key. No answer is chosen, so that nobody gives a partner the whole server."""


async def page(api: Api, request: Request) -> Response:
    return await _page(api, request, _INITIAL_FIELDS)


async def create(api: Api, request: Request) -> Response:
    """Creates a key, and shows the key on the page that answers the POST and nowhere else."""
    fields = request.state.form
    name = fields.get("name", "").strip()
    scopes, errors = _scopes(fields)
    try:
        if errors:
            _, name_errors = check_each_field({"name": name}, {"name": keys.new_name})
            raise bad_fields([*name_errors, *errors])
        content = {"name": name, "scopes": scopes}
        record, key = await keys.create(api, content, request.state.who, request.state.session.scopes)
    except Problem as problem:
        shown = {"name": "", "campaigns": "", **fields}
        return await _page(api, request, shown, _of_form(fields, problem))
    return await _page(api, request, _INITIAL_FIELDS, None, {"record": record, "key": key})


def _of_form(fields: Mapping[str, str], problem: Problem) -> Problem:
    """Returns a problem whose errors name fields of the form. The scopes of a shared key are campaigns."""
    if fields.get("sees") != SHARED:
        return problem
    names = {"scopes": "campaigns"}
    errors = [{**error, "field": names.get(error["field"], error["field"])} for error in problem.errors or []]
    return Problem(problem.status, problem.detail, errors)


def _scopes(fields: Mapping[str, str]) -> tuple[list[str], list[dict[str, str]]]:
    """Returns (the scopes that the part of the form below the chosen answer names, errors).

    There is an error if no answer is chosen, if its part is empty, or if the other part is filled too. The
    tick of `read` does not fill its part, because it is there from the start.
    """
    scopes = [scope for scope in permissions.MEANINGS if fields.get(f"scope_{scope}")]
    campaigns = [*campaign_picker.ticked(fields), *forms.lines(fields.get("campaigns", ""))]
    sight = fields.get("sees")
    if sight == SERVER:
        if campaigns:
            return [], [_contradiction(SERVER, "chose campaigns")]
        return scopes, [] if scopes else [_error("scopes", "tick at least one permission")]
    if sight == SHARED:
        if set(scopes) - {"read"}:
            return [], [_contradiction(SHARED, "ticked permissions")]
        if not campaigns:
            return [], [_error("scopes", "choose at least one campaign")]
        if bad := [campaign for campaign in campaigns if not is_slug(campaign)]:
            return [], [_error("scopes", f"“{bad[0][:64]}” is not an id of a campaign")]
        return [CAMPAIGN_SCOPE + campaign for campaign in campaigns], []
    return [], [_error("sees", "choose what the key may see")]


def _error(field: str, message: str) -> dict[str, str]:
    return {"field": field, "message": message}


def _contradiction(sight: str, other: str) -> dict[str, str]:
    return _error("sees", f"you chose “{SIGHT_NAMES[sight]}” and also {other}: undo one of the two")


async def make_sign_in_link(api: Api, request: Request) -> Response:
    """Makes a sign-in link for a key, and shows the link only on the page that answers the POST."""
    key_id, scopes = request.path_params["id"], request.state.session.scopes
    record, url = await keys.make_sign_in_link(api, key_id, request.state.who, scopes)
    return await _page(api, request, _INITIAL_FIELDS, sign_in_link={"record": record, "url": url})


async def ask_revoke(api: Api, request: Request) -> Response:
    return _confirm_page(api, request, await _record(api, request))


async def revoke(api: Api, request: Request) -> Response:
    record = await _record(api, request)
    if record.id == request.state.session.key_id and not request.state.form.get("own"):
        errors = [{"field": "own", "message": "must be ticked, because you are signed in with this key"}]
        return _confirm_page(api, request, record, Problem(422, "nothing was revoked", errors))
    await keys.revoke(api, record.id, request.state.who)
    return forms.done(api, "keys", "revoked")


async def _page(
    api: Api,
    request: Request,
    fields: Mapping[str, str],
    problem: Problem | None = None,
    created: Mapping[str, Any] | None = None,
    sign_in_link: Mapping[str, Any] | None = None,
) -> Response:
    own_scopes = request.state.session.scopes
    records = (await api_keys.list_keys(api.store))[::-1]
    campaigns = await campaign_picker.search(api, "", []) if "write" in own_scopes else []
    context = {
        "sights": SIGHTS,
        "sight_names": SIGHT_NAMES,
        "campaigns": campaigns,
        "has_more_campaigns": len(campaigns) == campaign_picker.MAX_MATCHES or bool(fields["campaigns"]),
        "campaign_field": campaign_picker.FIELD,
        "keys": [
            (key, can_see_pages(key.scopes) and not keys.lacking_scopes(key.scopes, own_scopes))
            for key in long_list.shown_rows(records, request.query_params)
        ],
        "total": len(records),
        "means": permissions.MEANINGS,
        "created": created,
        "sign_in_link": sign_in_link,
        "link_minutes": sign_in_links.LIFETIME_SECONDS // 60,
        "base_url": api.settings.base_url,
        "is_local": is_local(api.settings.base_url or ""),
    }
    return forms.page(api, request, "keys.html", fields, context, problem)


def _confirm_page(api: Api, request: Request, record: ApiKey, problem: Problem | None = None) -> Response:
    context = {
        "key": record,
        "is_own": record.id == request.state.session.key_id,
        "is_environment": record.name == api_keys.ENVIRONMENT_KEY_NAME,
        "environment": api_keys.ENVIRONMENT_KEY_NAME,
    }
    return forms.page(api, request, "key_revoke.html", {}, context, problem)


async def _record(api: Api, request: Request) -> ApiKey:
    """Returns the key in the path. Raises Problem 404 if no key has its id."""
    key_id = request.path_params["id"]
    for record in await api_keys.list_keys(api.store):
        if record.id == key_id:
            return record
    raise Problem(404, "no key has this id")
