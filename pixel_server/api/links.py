"""The call that makes links for recipients. If any row is bad, it makes no link and names all bad rows."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api import fields
from pixel_server.api.context import Api
from pixel_server.api.media_types import JSON, NDJSON, choose
from pixel_server.api.request_body import Check, check_each_field, check_fields, read_json
from pixel_server.api.routing import Call, reply
from pixel_server.campaigns import storage
from pixel_server.campaigns.campaign import Campaign
from pixel_server.mail.links import Minter
from pixel_server.problems import Problem
from pixel_server.recipients import consents, lists
from pixel_server.times import DAY
from pixel_server.tokens import MODES, Mode, Part

PARTS = tuple(part.name.lower() for part in Part)
BATCH_ROWS = 200
"""Number of rows handled at once. Between two batches the process answers other requests, such as pixels."""

LinkRow = dict[str, Any]
"""The checked fields of a row: recipient and mode, and optionally part, sent_at, test and consent_ref."""

_json = msgspec.json.Encoder().encode

_CHECKS: dict[str, Check] = {
    "recipient": fields.recipient,
    "mode": fields.one_of(*MODES),
    "part": fields.one_of(*PARTS),
    "sent_at": fields.instant,
    "test": fields.flag,
    "consent_ref": fields.consent,
}


async def make(api: Api, campaign: Campaign, content: Any) -> list[dict[str, Any]]:
    """Makes links from the JSON of a body, `{recipients: [...], sent}`. Returns them in the form of `mint`.

    Stores the consents of the rows. In a campaign that needs consents, the link of a recipient without a
    stored consent has the mode `count`. Raises Problem 409 if the campaign cannot have links, and 422 if rows
    are bad.
    """
    minter = minter_of(api, campaign)
    rows, are_sent = parse_rows(content, api.consent.rule(campaign.mode, None).mode)
    await storage.note_links(api.store, campaign.id, api.clock())
    await _note_consents(api, campaign, rows)
    if are_sent:
        await _note_mails(api, campaign.id, rows)
    links: list[dict[str, Any]] = []
    for i in range(0, len(rows), BATCH_ROWS):
        links += [mint(minter, campaign.id, row, api.clock()) for row in rows[i : i + BATCH_ROWS]]
        await asyncio.sleep(0)
    return links


def minter_of(api: Api, campaign: Campaign) -> Minter:
    """Returns the minter of a campaign's links. Raises Problem 409 if the campaign cannot have links."""
    if campaign.kind != "email":
        raise Problem(409, f"a web campaign has one pixel for all: /p/{campaign.id}.gif")
    if campaign.closed_at is not None:
        raise Problem(409, "this campaign is closed: its time to keep recipients is over")
    return api.minter(campaign.base_url)


async def make_links(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    links = await make(api, campaign, await read_json(request))
    if choose(request, NDJSON) != JSON:
        lines = b"".join(_json(link) + b"\n" for link in links)
        return Response(lines, 200, {"Cache-Control": "no-store"}, NDJSON)
    return reply({"links": links})


def parse_rows(content: Any, campaign_mode: Mode) -> tuple[list[LinkRow], bool]:
    """Returns (the rows of a body, each with a mode; whether their mails count as sent).

    campaign_mode: the mode of rows without a mode, and the highest mode that a row may have. Raises Problem
    422 that names each bad row.
    """
    body = check_fields(
        content, {"recipients": fields.recipients, "sent": fields.flag}, frozenset({"recipients"})
    )
    rows: list[LinkRow] = []
    errors: list[dict[str, Any]] = []
    for number, item in enumerate(body["recipients"]):
        members = {"recipient": item} if isinstance(item, str) else item
        if not isinstance(members, dict):
            errors.append({"row": number, "field": "recipient", "message": "must be text or an object"})
            continue
        row, row_errors = check_each_field(members, _CHECKS, frozenset({"recipient"}))
        row["mode"] = Mode[row["mode"].upper()] if "mode" in row else campaign_mode
        if row["mode"] > campaign_mode:
            message = f"is more than the campaign's mode, {campaign_mode.name.lower()}"
            row_errors.append({"field": "mode", "message": message})
        errors += [{"row": number, **error} for error in row_errors]
        rows.append(row)
    if errors:
        raise Problem(422, f"{len({error['row'] for error in errors})} rows cannot be used", errors)
    return rows, body.get("sent", False)


async def _note_consents(api: Api, campaign: Campaign, rows: list[LinkRow]) -> None:
    """Stores the consents of rows whose mode tells recipients apart.

    Lowers the mode of rows without a stored consent to `count`, if the campaign needs consents.
    """
    named = [row for row in rows if row["mode"] >= Mode.PSEUDONYMOUS]
    entries = [
        lists.ListEntry(row["recipient"], None, row["consent_ref"]) for row in named if "consent_ref" in row
    ]
    if entries:
        try:
            await lists.begin(api.store, campaign.id, False, api.settings, api.clock())
            for i in range(0, len(entries), BATCH_ROWS):
                batch = entries[i : i + BATCH_ROWS]
                await lists.put(api.store, api.secrets, campaign.id, batch, api.settings.shards, False)
        except lists.ListClosed as error:
            raise Problem(409, f"{error}; no links were made") from None
    if not consents.needs_consent(campaign):
        return
    without = [row for row in rows if row["mode"] > Mode.COUNT and "consent_ref" not in row]
    recipient_keys = [api.secrets.recipient_key(row["recipient"]) for row in without]
    stored = await consents.read(api.store, campaign.id, recipient_keys, api.settings.shards)
    for row, key in zip(without, recipient_keys, strict=True):
        if key not in stored:
            row["mode"] = Mode.COUNT


async def _note_mails(api: Api, campaign: str, rows: list[LinkRow]) -> None:
    """Puts the recipients of sent mails on the campaign's list.

    Recipients who must not be told apart are not put on the list, but only counted.
    """
    now, settings = api.clock(), api.settings
    recipients_by_day, other_count = mailed_recipients(rows, now)
    try:
        if recipients_by_day:
            await lists.begin(api.store, campaign, False, settings, now)
        for day, recipients in recipients_by_day.items():
            for i in range(0, len(recipients), BATCH_ROWS):
                batch = [lists.ListEntry(recipient, None) for recipient in recipients[i : i + BATCH_ROWS]]
                await lists.put(
                    api.store, api.secrets, campaign, batch, settings.shards, False, mailed_at=day
                )
        if other_count:
            await lists.count_mails(api.store, campaign, other_count)
    except lists.ListClosed as error:
        raise Problem(409, f"{error}; no links were made") from None


def mailed_recipients(rows: list[LinkRow], now: float) -> tuple[dict[int, list[str]], int]:
    """Returns (the recipients that may be told apart, by day of sending; the number of other recipients).

    A day is given by its first second in UTC. Test mails of the sender, and mails without a pixel, do not
    count.
    """
    days: dict[str, int] = {}
    others: set[str] = set()
    for row in rows:
        recipient, mode = row["recipient"], row["mode"]
        if row.get("test") or mode == Mode.OFF:
            continue
        if mode < Mode.PSEUDONYMOUS:
            others.add(recipient)
            continue
        day = int(row.get("sent_at", now)) // DAY * DAY
        days[recipient] = max(day, days.get(recipient, 0))
    by_day: dict[int, list[str]] = {}
    for recipient, day in days.items():
        by_day.setdefault(day, []).append(recipient)
    return by_day, len(others - days.keys())


def mint(minter: Minter, campaign: str, row: LinkRow, now: float) -> dict[str, str | None]:
    """Makes the link of a row. Returns {recipient, url, html, privacy_url}."""
    link = minter.link(
        campaign,
        row["recipient"],
        mode=row["mode"],
        part=Part[row.get("part", "single").upper()],
        sent_at=row.get("sent_at"),
        test=row.get("test", False),
        now=now,
    )
    return {
        "recipient": row["recipient"],
        "url": link.url,
        "html": link.html,
        "privacy_url": link.privacy_url,
    }


CALLS = (Call("POST", "/api/campaigns/{id}/links", "write", make_links),)
