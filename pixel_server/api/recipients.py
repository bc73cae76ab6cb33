"""Calls of the API on recipients: upload and list them; find, show and erase a single recipient."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from pixel_server.api import fields, uploads
from pixel_server.api.context import Api
from pixel_server.api.media_types import CSV, NDJSON, choose, refuse_codings
from pixel_server.api.openapi.values import choice, text
from pixel_server.api.paging import Page, Paging
from pixel_server.api.request_body import check_fields, read_json
from pixel_server.api.routing import Call, Parameter, reply
from pixel_server.api.uploads import Upload
from pixel_server.api.withdrawals import periods_json
from pixel_server.campaigns import retention, storage
from pixel_server.campaigns.campaign import Campaign, UnreadableCampaign
from pixel_server.figures import inactive_recipients, recipient, recipients
from pixel_server.figures.recipients import Parts
from pixel_server.logs import Log
from pixel_server.problems import BAD_CURSOR, Problem, bad_fields, bad_parameters
from pixel_server.recipients import erasure, lists, withdrawals
from pixel_server.secret import Secrets
from pixel_server.store import audit_log
from pixel_server.tokens import BadToken
from pixel_server.tokens import verify as verify_token

log = Log(__name__)

NO_STORE = {"Cache-Control": "no-store"}
_PAGING = Paging("[0-9]{1,9}(?:-[0-9a-f]{16})?", fields.MAX_PAGE_SIZE)
"""A place holds several recipients (see `figures.recipients`). A cursor is the number of the place at which
the next page begins: `4711`. If a page ends in the middle of a place, the key of the page's last recipient
follows, and the next page begins after this recipient: `4711-5f0c9a3be1d2a4b6`."""
KEY_DIGITS = 16
"""Hexadecimal digits of a recipient key."""


async def upload_recipients(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    keeps_names = _keeps_names(api, campaign)
    who = request.state.who
    mailed_at = _mailed_at(campaign, request.query_params.get("sent", "true"), api.clock())
    store_rows = uploads.list_writer(
        api.store, api.secrets, api.settings, campaign.id, keeps_names, api.clock(), who, mailed_at=mailed_at
    )
    refuse_codings(request)
    is_csv = uploads.is_csv_type(request.headers.get("content-type", ""))
    upload = Upload(store_rows, is_csv=is_csv, keeps_names=keeps_names)
    try:
        await upload.read(request.stream())
    except ClientDisconnect:
        log.warning(
            "upload-cut-off",
            "the upload of a list of %(campaign)s was cut off; lines 1 to %(lines)d are stored",
            campaign=campaign.id,
            lines=upload.lines,
        )
        return Response(status_code=400)  # the client is gone and reads no answer
    except lists.ListClosed as error:
        raise Problem(409, f"{error}; {upload.progress}") from None
    finally:
        await uploads.log_end(api.store, upload, campaign.id, who)
    if upload.bad and not upload.has_usable_lines:
        left_out = upload.bad - len(upload.errors)
        more = {"errors_left_out": left_out} if left_out else None
        raise Problem(422, "no line can be used; nothing was taken", upload.errors, more=more)
    return reply({**upload.counts, "errors": upload.errors, "warnings": upload.warnings})


def _mailed_at(campaign: Campaign, sent: str, now: float) -> float | None:
    """Returns the time of sending (s) for an uploaded list, or None if its mails do not count as sent."""
    if sent not in ("true", "false"):
        errors = [{"field": "sent", "message": "must be true or false"}]
        raise Problem(422, "some parameters cannot be used", errors)
    return uploads.time_of_sending(campaign, now) if sent == "true" else None


def _keeps_names(api: Api, campaign: Campaign) -> bool:
    """Returns whether names are stored. Raises Problem 409 if the campaign does not tell recipients apart."""
    try:
        return lists.keeps_names(campaign, api.consent)
    except lists.ListClosed as error:
        raise Problem(409, str(error)) from None


async def list_recipients(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    query = request.query_params
    page = _PAGING.parse(query, _state_errors(query.get("state", "opened")))
    place, last_key = _place(page)
    parts = await read_recipients(api, campaign, query.get("state", "opened"), place, request.state.who)
    parts = _without_earlier(api, parts, last_key)
    return await _list_response(api, request, parts, recipients.FIELDS, page.limit)


async def read_recipients(
    api: Api,
    campaign: Campaign,
    state: str,
    start: str,
    who: str,
    first_places: int = recipients.FIRST_PLACES,
) -> Parts:
    """Returns a campaign's recipients with a state, and writes to the audit log that they were read.

    start: number of the place to begin at (see `figures.recipients`). who: name for the audit log.
    first_places: number of places that the first round trip reads. Raises Problem 422 if the state or the
    cursor is bad, and 409 if the campaign keeps no recipients, or no longer keeps them.
    """
    errors = _state_errors(state)
    if not (start.isascii() and start.isdigit() and len(start) < 10 and int(start) < place_count(api)):
        errors.append(BAD_CURSOR)
    if errors:
        raise bad_parameters(errors)
    keeps_names = _keeps_names(api, campaign)
    if campaign.closed_at is not None:
        raise Problem(409, "this campaign is closed: its recipients are gone")
    shards = api.settings.shards
    if state == "unopened" and not await lists.count_listed(api.store, campaign.id, shards):
        raise Problem(
            409, "upload a list, or make links with `sent`: only then is it known who did not open a mail"
        )
    await audit_log.note(api.store, who, "recipients.read", campaign=campaign.id, state=state)
    return recipients.rows(
        api.store, api.secrets, campaign.id, shards, state, keeps_names, int(start), first_places
    )


def _state_errors(state: str) -> list[dict[str, str]]:
    """Returns the errors of the parameter `state`: one error, or none if the state is in STATES."""
    message = f"must be one of: {', '.join(recipients.STATES)}"
    return [] if state in recipients.STATES else [{"field": "state", "message": message}]


def _place(page: Page) -> tuple[str, str]:
    """Returns (the place at which a page begins, the key of the last recipient before the page or "")."""
    place, _, last_key = (page.after or "0").partition("-")
    return place, last_key


def place_count(api: Api) -> int:
    """Returns the number of places of a list of recipients. The first place is 0."""
    return recipients.place_count(api.settings.shards)


async def list_quiet(api: Api, request: Request) -> Response:
    query = request.query_params
    errors, since = [], 0
    try:
        since = fields.day(query.get("quiet_since"))
    except ValueError as error:
        errors.append({"field": "quiet_since", "message": str(error)})
    page = _PAGING.parse(query, errors)
    place, last_key = _place(page)
    if int(place) >= place_count(api):
        raise bad_parameters([BAD_CURSOR])
    await audit_log.note(api.store, request.state.who, "recipients.read", state="quiet")
    span = inactive_recipients.Span(since, int(api.clock()))
    sources = await _inactive_sources(api)
    parts = inactive_recipients.rows(api.store, api.secrets, sources, api.settings.shards, span, int(place))
    parts = _without_earlier(api, parts, last_key)
    return await _list_response(api, request, parts, inactive_recipients.FIELDS, page.limit)


async def _inactive_sources(api: Api) -> list[inactive_recipients.Source]:
    """Returns the campaigns from which inactive recipients are read: open campaigns that keep recipients."""
    sources = []
    for campaign_id in await storage.ids_of_kind(api.store, "email"):
        with suppress(storage.UnknownCampaign, UnreadableCampaign):
            campaign, uses = await storage.get_uses(api.store, campaign_id)
            if campaign.closed_at is None and lists.keeps_recipients(campaign, api.consent):
                keeps_names = lists.keeps_names(campaign, api.consent)
                sent_at = retention.sending_time(campaign, uses)
                sources.append(inactive_recipients.Source(campaign_id, sent_at, keeps_names))
    return sources


async def _list_response(
    api: Api, request: Request, parts: Parts, columns: Sequence[str], limit: int
) -> Response:
    """Returns all rows if `Accept` names NDJSON or CSV, else a page of at most `limit` rows in JSON."""
    media_type = choose(request, NDJSON, CSV)
    if media_type == NDJSON:
        return StreamingResponse(recipients.ndjson(parts), 200, NO_STORE, NDJSON)
    if media_type == CSV:
        lines = recipients.as_csv(parts, columns)
        return StreamingResponse(lines, 200, NO_STORE, "text/csv; charset=utf-8")
    items: list[recipients.Row] = []
    next_place = 0
    async for place_after, rows in parts:
        items += rows
        next_place = place_after
        if len(items) >= limit:
            break
    if len(items) > limit:
        key = items[limit - 1]["key"]
        return reply({"items": items[:limit], "next": f"{_order(api, key)[0]}-{key}"})
    return reply({"items": items, "next": str(next_place) if next_place < place_count(api) else None})


async def _without_earlier(api: Api, parts: Parts, last_key: str) -> Parts:
    """Yields the parts with only the rows after the recipient with `last_key`, or all rows if it is ""."""
    async for place_after, rows in parts:
        later = [row for row in rows if not last_key or _order(api, row["key"]) > _order(api, last_key)]
        yield place_after, later


def _order(api: Api, key: str) -> tuple[int, str]:
    """Returns (place, key) of a recipient. Lists of recipients are in this order."""
    recipient_key = bytes.fromhex(key)
    return recipients.place(recipient_key, api.settings.shards), key


def key_of_query(content: Any, secrets: Secrets) -> bytes:
    """Returns the recipient key of `{recipient}` or `{token}`.

    Raises Problem 422 if the body does not have exactly one of the two fields, if the field is bad, or if the
    token names no recipient.
    """
    query = check_fields(content, {"recipient": fields.recipient, "token": fields.string})
    if len(query) != 1:
        raise Problem(422, "send either `recipient` or `token`")
    if "recipient" in query:
        return secrets.recipient_key(query["recipient"])
    try:
        _, _, key, _ = verify_token(query["token"].encode("utf-8", "replace"), secrets.signing)
    except BadToken:
        errors = [{"field": "token", "message": "was not made by this server"}]
        raise bad_fields(errors) from None
    if not key:
        raise Problem(422, "this token names no recipient")
    return key


def parse_key(text: str) -> bytes:
    """Returns the recipient key of a path. Raises Problem 404 if the text is not a key."""
    try:
        if len(text) == KEY_DIGITS and text == text.lower():
            return bytes.fromhex(text)
    except ValueError:
        pass
    raise Problem(404, f"a recipient's key has {KEY_DIGITS} hex digits")


async def find_recipient(api: Api, request: Request) -> Response:
    return reply({"key": key_of_query(await read_json(request), api.secrets).hex()})


async def show(api: Api, key: str, who: str) -> dict[str, Any]:
    """Returns everything that is stored about one recipient, and writes to the audit log that it was shown.

    who: name for the audit log. Raises Problem 404 if `key` is not a recipient key.
    """
    recipient_key = parse_key(key)
    await audit_log.note(api.store, who, "recipient.shown")
    stored = await recipient.read(api.store, api.settings.shards, recipient_key)
    periods = await withdrawals.get_periods(api.store, api.secrets, recipient_key)
    return {**stored, "withdrawals": periods_json(periods)}


async def show_recipient(api: Api, request: Request) -> Response:
    return reply(await show(api, request.path_params["key"], request.state.who))


async def erase(api: Api, key: str, who: str) -> erasure.Erased:
    """Erases one recipient, and stops the recording of this recipient. who: name for the audit log.

    Raises Problem 404 if `key` is not a recipient key.
    """
    recipient_key = parse_key(key)
    shards = api.settings.shards
    erased = await erasure.erase(api.store, api.secrets, recipient_key, api.clock(), shards, who)
    api.withdrawn.learn(recipient_key, True)
    return erased


async def erase_recipient(api: Api, request: Request) -> Response:
    key = request.path_params["key"]
    erased = await erase(api, key, request.state.who)
    return reply(
        {
            "key": key,
            "removed_from": erased.campaigns,
            "removed": erased.removed,
            "note": "sums stay as they were; a HyperLogLog of addresses stays too, and names nobody",
        }
    )


_SENT = Parameter(
    "sent", choice(("true", "false"), "Whether the mails of the list count as sent.", default="true")
)
_STATE = Parameter("state", choice(recipients.STATES, "State of the recipients to list.", default="opened"))
_QUIET_SINCE = Parameter(
    "quiet_since",
    text("First day, in UTC, of the time without an open by a person.", format="date"),
    is_required=True,
)

CALLS = (
    Call("PUT", "/api/campaigns/{id}/recipients", "people", upload_recipients, query=(_SENT,)),
    Call(
        "GET",
        "/api/campaigns/{id}/recipients",
        "people",
        list_recipients,
        query=(_STATE, *_PAGING.parameters),
    ),
    Call("GET", "/api/recipients", "people", list_quiet, query=(_QUIET_SINCE, *_PAGING.parameters)),
    Call("POST", "/api/recipients/find", "people", find_recipient),
    Call("GET", "/api/recipients/{key}", "people", show_recipient),
    Call("DELETE", "/api/recipients/{key}", "people", erase_recipient),
)
