"""`/audit`: the audit log, and the log of what recipients did on the privacy page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api import audit
from pixel_server.api.context import Api
from pixel_server.auth import api_keys
from pixel_server.campaigns import storage
from pixel_server.dashboard import recipients, render
from pixel_server.store import audit_log

PAGE_ROWS = 50
"""Entries on a page."""
_key_of = re.compile(r"key ([0-9a-f]+)", re.ASCII).fullmatch
"""Finds the id of the API key in `who`: `key 0b71d440072a`."""


async def list_audit(api: Api, request: Request) -> Response:
    return await _page(api, request, "audit")


async def list_actions(api: Api, request: Request) -> Response:
    return await _page(api, request, "recipients")


async def _page(api: Api, request: Request, log_name: audit_log.Log) -> Response:
    query = {"limit": str(PAGE_ROWS), **request.query_params}
    entries, next_cursor = await audit.audit_page(api, query, log_name)
    # A session without `read` must not learn the names of keys and campaigns.
    may_read = "read" in request.state.session.scopes
    keys = {key.id: key.name for key in await api_keys.list_keys(api.store)} if may_read else {}
    campaigns = await _campaign_names(api, entries) if may_read else {}
    context = {
        "items": [_row(entry, keys, campaigns) for entry in entries],
        "next": next_cursor,
        "after": request.query_params.get("after"),
        "counts": await audit_log.recipient_counts(api.store) if log_name == "recipients" else {},
        "log": log_name,
    }
    return render.page(api, request, "audit.html", context)


async def _campaign_names(api: Api, entries: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Returns the name of each campaign of these entries by id, without campaigns that no longer exist."""
    ids = sorted({entry["about"]["campaign"] for entry in entries if "campaign" in entry["about"]})
    pipe = api.store.pipeline(transaction=False)
    for campaign in ids:
        storage.queue_record(pipe, campaign)
    records = await pipe.execute() if ids else []
    campaigns = [storage.unpack_record(record, ident) for ident, record in zip(ids, records, strict=True)]
    return {campaign.id: campaign.name for campaign in campaigns if campaign}


def _row(entry: Mapping[str, Any], keys: Mapping[str, str], campaigns: Mapping[str, str]) -> dict[str, Any]:
    """Returns {at, who, key, what, about} of an entry. about: (label, value, campaign) of each detail.

    key: the id of the API key that acted if its name is known, and then `who` is this name; otherwise "".
    campaign: the id of the campaign to link to if the campaign exists, and then the value is its name;
    otherwise "".
    """
    match = _key_of(entry["who"])
    key = match[1] if match and match[1] in keys else ""
    return {
        "at": entry["at"],
        "who": keys[key] if key else entry["who"],
        "key": key,
        "what": entry["what"].replace(".made", ".created").replace(".", " ").replace("_", " "),
        "about": list(_details(entry["about"], keys, campaigns)),
    }


def _details(
    about: Mapping[str, str], keys: Mapping[str, str], campaigns: Mapping[str, str]
) -> Iterator[tuple[str, str, str]]:
    for name, value in about.items():
        label = name.replace("_", " ")
        if name == "campaign" and value in campaigns:
            yield label, campaigns[value], value
        elif name == "state" and value in recipients.STATES:
            yield label, recipients.STATES[value][0], ""
        elif name == "key" and value in keys:
            yield label, f"{keys[value]} ({value})", ""
        else:
            yield label, value.replace(",", ", "), ""
