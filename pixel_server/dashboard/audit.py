"""`/audit`: the audit log, and the log of what recipients did on the privacy page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api import audit
from pixel_server.api.context import Api
from pixel_server.auth import api_keys, share_links
from pixel_server.campaigns import storage
from pixel_server.dashboard import forms, recipients, render
from pixel_server.deliveries import sources
from pixel_server.figures import campaign_order, csv_export
from pixel_server.figures import sources as sources_of_figures
from pixel_server.problems import Problem
from pixel_server.slug import is_slug
from pixel_server.store import audit_log
from pixel_server.webhooks import storage as webhooks

PAGE_ROWS = 50
"""Entries on a page."""
_key_of = re.compile(r"key ([0-9a-f]+)", re.ASCII).fullmatch
"""Finds the id of the API key in `who`: `key 0b71d440072a`."""


FILTERS = "who", "what", "campaign", "from", "until"
"""Fields of the form that filters the log. `until` is the last day; the API's `to` is the day after it."""

_LABELS = {"source": "mail service", "share": "share link"}
"""Names of details on the page, if the log has another name."""

Names = Mapping[tuple[str, str], tuple[str, str]]
"""(text, path of a page or "") of a detail, by its name and value: `("webhook", "80c5f7145b")`."""


async def list_audit(api: Api, request: Request) -> Response:
    return await _page(api, request, "audit")


async def list_actions(api: Api, request: Request) -> Response:
    return await _page(api, request, "recipients")


async def download(api: Api, request: Request) -> Response:
    """Returns all lines that the filter wants as CSV."""
    keys = await _key_names(api, request)
    query, campaigns, errors = await _api_query(api, request)
    entries = await audit.read_all(api, query, _who_of_names(keys, query.get("who", "")), errors, campaigns)
    rows = [_csv_row(entry, keys) for entry in entries]
    return Response(
        csv_export.lines([("at", "who", "key_name", "what", "campaign", "details"), *rows]),
        headers={**render.headers(), "Content-Disposition": 'attachment; filename="audit.csv"'},
        media_type="text/csv; charset=utf-8",
    )


def _csv_row(entry: Mapping[str, Any], keys: Mapping[str, str]) -> tuple[str, ...]:
    match = _key_of(entry["who"])
    about = entry["about"]
    details = "; ".join(f"{name}={value}" for name, value in about.items() if name != "campaign")
    name = keys.get(match[1], "") if match else ""
    return entry["at"], entry["who"], name, entry["what"], about.get("campaign", ""), details


async def _page(api: Api, request: Request, log_name: audit_log.Log) -> Response:
    submitted = {name: request.query_params.get(name, "").strip() for name in FILTERS}
    after = request.query_params.get("after")
    keys = await _key_names(api, request)
    problem: Problem | None = None
    entries: list[dict[str, Any]] = []
    next_cursor = None
    query, campaigns, errors = await _api_query(api, request)
    query["limit"] = str(PAGE_ROWS)
    try:
        who_too = _who_of_names(keys, submitted["who"])
        entries, next_cursor = await audit.audit_page(api, query, log_name, who_too, errors, campaigns)
    except Problem as error:
        if error.status != 422 or not any(submitted.values()):
            raise
        problem = error
    names = await _names(api, request, entries, keys)
    context = {
        "items": [_row(entry, keys, names) for entry in entries],
        "next": next_cursor,
        "after": after,
        "counts": await audit_log.recipient_counts(api.store) if log_name == "recipients" else {},
        "log": log_name,
        "filtered": urlencode({name: value for name, value in submitted.items() if value}),
        "key_names": sorted(set(keys.values())),
        "actions": sorted(audit_log.ACTIONS.values()),
    }
    return forms.page(api, request, "audit.html", submitted, context, problem)


async def _api_query(api: Api, request: Request) -> tuple[dict[str, str], list[str], list[dict[str, Any]]]:
    """Returns the parameters of the API call, the campaigns whose names match, and errors.

    The API does not know `until`, and of a campaign it takes only the id.
    """
    query, errors = _parse_days(request.query_params)
    text = query.get("campaign", "")
    campaigns = await _campaigns_named(api, request, text)
    if text and not campaigns and not is_slug(text):
        del query["campaign"]
        errors.append({"field": "campaign", "message": "no campaign has this id or name"})
    return query, campaigns, errors


def _parse_days(query: Mapping[str, str]) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Returns the parameters of the API call, with `to` in place of `until`, and the errors of `until`."""
    asked = {name: query[name].strip() for name in ("who", "what", "campaign", "from") if query.get(name)}
    if "after" in query:
        asked["after"] = query["after"]
    if until := query.get("until", "").strip():
        try:
            asked["to"] = (date.fromisoformat(until) + timedelta(days=1)).isoformat()
        except (ValueError, OverflowError):
            return asked, [{"field": "until", "message": "must be a day, as 2026-11-24"}]
    return asked, []


async def _key_names(api: Api, request: Request) -> dict[str, str]:
    """Returns the names of API keys by id. A session without `read` must not learn them."""
    if "read" not in request.state.session.scopes:
        return {}
    return {key.id: key.name for key in await api_keys.list_keys(api.store)}


async def _campaigns_named(api: Api, request: Request, text: str) -> list[str]:
    """Returns the ids of campaigns whose name contains a text. A session without `read` must not learn them.

    Returns nothing if the text is the id of a campaign.
    """
    if not text or "read" not in request.state.session.scopes:
        return []
    found = await sources_of_figures.find(api.store, api.settings.shards)
    order = await campaign_order.read(api.store, found.tags, api.consent, api.clock())
    if any(entry.id == text for entry in order.entries):
        return []
    return [entry.id for entry in order.entries if text.casefold() in entry.name]


def _who_of_names(keys: Mapping[str, str], text: str) -> list[str]:
    """Returns `who` of each API key whose name contains a text."""
    return [f"key {key}" for key, name in keys.items() if text.casefold() in name.casefold()] if text else []


async def _names(
    api: Api, request: Request, entries: Sequence[Mapping[str, Any]], keys: Mapping[str, str]
) -> Names:
    """Returns the names of the keys, campaigns and so on in these entries, as far as they still exist."""
    if "read" not in request.state.session.scopes:
        return {}
    abouts = [entry["about"] for entry in entries]
    names = {("key", key): (f"{name} ({key})", "keys") for key, name in keys.items()}
    for ident, name in (await _campaign_names(api, abouts)).items():
        names["campaign", ident] = name, f"campaigns/{ident}"
    for hook in await webhooks.list_all(api.store):
        names["webhook", hook.id] = hook.name or hook.url, f"webhooks/{hook.id}"
    for source, _ in await sources.list_sources(api.store):
        names["source", source.id] = source.name, "deliveries"
    shares = {about["share"]: about["campaign"] for about in abouts if {"share", "campaign"} <= about.keys()}
    for ident, name in (await share_links.find_names(api.store, shares)).items():
        names["share", ident] = name, f"campaigns/{shares[ident]}/shares"
    return names


async def _campaign_names(api: Api, abouts: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Returns the name of each campaign of these entries by id, without campaigns that no longer exist."""
    ids = sorted({about["campaign"] for about in abouts if "campaign" in about})
    pipe = api.store.pipeline(transaction=False)
    for campaign in ids:
        storage.queue_record(pipe, campaign)
    records = await pipe.execute() if ids else []
    campaigns = [storage.unpack_record(record, ident) for ident, record in zip(ids, records, strict=True)]
    return {campaign.id: campaign.name for campaign in campaigns if campaign}


def _row(entry: Mapping[str, Any], keys: Mapping[str, str], names: Names) -> dict[str, Any]:
    """Returns {at, who, key, what, about, is_of_recipient} of an entry.

    about: (label, text, path or "") of each detail. is_of_recipient: whether somebody acted on one recipient.
    key: the id of the API key that acted if its name is known, and then `who` is this name; otherwise "".
    """
    match = _key_of(entry["who"])
    key = match[1] if match and match[1] in keys else ""
    return {
        "at": entry["at"],
        "who": keys[key] if key else entry["who"],
        "key": key,
        "what": audit_log.words(entry["what"]),
        "about": list(_details(entry["about"], names)),
        "is_of_recipient": entry["what"].startswith("recipient."),
    }


def _details(about: Mapping[str, str], names: Names) -> Iterator[tuple[str, str, str]]:
    for name, value in about.items():
        label = _LABELS.get(name) or name.replace("_", " ")
        if name == "state" and value in recipients.STATES:
            yield label, recipients.STATES[value][0], ""
        else:
            text, path = names.get((name, value), (value.replace(",", ", "), ""))
            yield label, text, path
