"""Calls of the API on recipients: upload them; find, show and erase a single recipient.

`recipient_lists` has the calls that list recipients.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from pixel_server.api import fields, uploads
from pixel_server.api.context import Api
from pixel_server.api.media_types import refuse_codings
from pixel_server.api.openapi.values import choice
from pixel_server.api.recipient_lists import KEY_DIGITS, keeps_names
from pixel_server.api.request_body import check_fields, read_json
from pixel_server.api.routing import Call, Parameter, reply
from pixel_server.api.uploads import Upload
from pixel_server.api.withdrawals import periods_json
from pixel_server.campaigns.campaign import Campaign
from pixel_server.figures import recipient
from pixel_server.logs import Log
from pixel_server.problems import Problem, bad_fields
from pixel_server.recipients import consents, erasure, lists, withdrawals
from pixel_server.secret import Secrets
from pixel_server.store import audit_log
from pixel_server.tokens import BadToken
from pixel_server.tokens import verify as verify_token

log = Log(__name__)


async def upload_recipients(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    keeps_names(api, campaign)
    mailed_at = _mailed_at(campaign, request.query_params.get("sent", "true"), api.clock())
    refuse_codings(request)
    is_csv = uploads.is_csv_type(request.headers.get("content-type", ""))
    try:
        upload = await store_list(
            api, campaign, request.stream(), request.state.who, is_csv=is_csv, mailed_at=mailed_at
        )
    except ClientDisconnect:
        return Response(status_code=400)  # the client is gone and reads no answer
    if upload.bad and not upload.has_usable_lines:
        left_out = upload.bad - len(upload.errors)
        more = {"errors_left_out": left_out} if left_out else None
        raise Problem(422, "no line can be used; nothing was taken", upload.errors, more=more)
    return reply({**upload.counts, "errors": upload.errors, "warnings": upload.warnings})


async def store_list(
    api: Api,
    campaign: Campaign,
    chunks: AsyncIterator[bytes],
    who: str,
    *,
    is_csv: bool | None,
    mailed_at: float | None,
    column: str = uploads.COLUMN,
    may_store_names: bool = True,
) -> Upload:
    """Stores a list of recipients, and writes that to the audit log. Returns what was read.

    chunks: the bytes of the list. is_csv: False for NDJSON, None to detect the format. mailed_at: time (s) of
    sending, or None if the mails do not count as sent. column: name of the recipients' column.
    may_store_names: whether names are stored if the campaign keeps names. Raises Problem 409 if the campaign
    takes no list, 422 if it cannot be read, and ClientDisconnect if it is cut off.
    """
    with_names = keeps_names(api, campaign) and may_store_names
    store_rows = uploads.list_writer(
        api.store, api.secrets, api.settings, campaign.id, with_names, api.clock(), who, mailed_at=mailed_at
    )
    upload = Upload(
        store_rows,
        is_csv=is_csv,
        keeps_names=with_names,
        needs_consent=consents.needs_consent(campaign),
        column=column,
    )
    try:
        await upload.read(chunks)
    except ClientDisconnect:
        log.warning(
            "upload-cut-off",
            "the upload of a list of %(campaign)s was cut off; lines 1 to %(lines)d are stored",
            campaign=campaign.id,
            lines=upload.last_line,
        )
        raise
    except lists.ListClosed as error:
        raise Problem(409, f"{error}; {upload.progress}") from None
    finally:
        await uploads.log_end(api.store, upload, campaign.id, who)
    return upload


def _mailed_at(campaign: Campaign, sent: str, now: float) -> float | None:
    """Returns the time of sending (s) for an uploaded list, or None if its mails do not count as sent."""
    if sent not in ("true", "false"):
        errors = [{"field": "sent", "message": "must be true or false"}]
        raise Problem(422, "some parameters cannot be used", errors)
    return uploads.time_of_sending(campaign, now) if sent == "true" else None


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
CALLS = (
    Call("PUT", "/api/campaigns/{id}/recipients", "people", upload_recipients, query=(_SENT,)),
    Call("POST", "/api/recipients/find", "people", find_recipient),
    Call("GET", "/api/recipients/{key}", "people", show_recipient),
    Call("DELETE", "/api/recipients/{key}", "people", erase_recipient),
)
