"""`/withdrawals`, `/recipients` and `/audit`: under the scope `people`, as the API calls for these are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api import audit, recipients
from pixel_server.api import fields as api_fields
from pixel_server.api import withdrawals as withdrawal_calls
from pixel_server.api.context import Api
from pixel_server.dashboard import forms, render
from pixel_server.problems import Problem
from pixel_server.recipients import withdrawals
from pixel_server.store import audit_log

ROWS = 100
"""Of a page of withdrawals, about."""
MOST_FORM = 1 << 20
"""Bytes of a list of recipients."""
_of_url = re.compile(r"/o/([\w-]+)\.gif|[?&]t=([\w-]+)", re.ASCII).search


async def list_withdrawals(api: Api, request: Request) -> Response:
    return await _withdrawals(api, request, {})


async def withdraw(api: Api, request: Request) -> Response:
    return await _change(api, request, "recipients")


async def allow(api: Api, request: Request) -> Response:
    return await _change(api, request, "ended")


async def _change(api: Api, request: Request, field: str) -> Response:
    """field: of the form, where the recipients stand."""
    fields = request.state.form
    content = {"recipients": forms.lines(fields.get(field, ""))}
    try:
        if field == "recipients":
            count = (await withdrawal_calls.withdraw(api, content, request.state.who))["withdrawn"]
            return forms.done(api, "withdrawals", "withdrawn", count)
        count = (await withdrawal_calls.allow(api, content, request.state.who))["allowed"]
        return forms.done(api, "withdrawals", "allowed", count)
    except Problem as problem:
        # Whatever row it is in, it stands in this one field.
        errors = [{**error, "field": field} for error in problem.errors or []]
        shown = Problem(problem.status, problem.detail, errors)
        return await _withdrawals(api, request, {field: fields.get(field, "")}, shown)


async def _withdrawals(
    api: Api, request: Request, fields: Mapping[str, str], problem: Problem | None = None
) -> Response:
    after = request.query_params.get("after", "0")
    items, following = await withdrawal_calls.withdrawals_page(api, after, ROWS)
    context = {"items": items, "next": following, "after": after, "most": api_fields.MAX_RECIPIENTS}
    return forms.page(api, request, "withdrawals.html", fields, context, problem)


async def ask_recipient(api: Api, request: Request) -> Response:
    return forms.page(api, request, "recipient_find.html", {}, {})


async def find_recipient(api: Api, request: Request) -> Response:
    """Their key stands in the address: who it is cannot be read from it."""
    fields = {name: request.state.form.get(name, "").strip() for name in ("recipient", "token")}
    content = {name: text for name, text in fields.items() if text}
    if "token" in content and (found := _of_url(content["token"])):
        content["token"] = found[1] or found[2]
    try:
        recipient = recipients.key_of_query(content, api.secrets)
    except Problem as problem:
        detail = problem.detail.replace("send either `recipient` or `token`", "fill in one of the two")
        shown = Problem(problem.status, detail, problem.errors)
        return forms.page(api, request, "recipient_find.html", fields, {}, shown)
    return render.go(api, f"recipients/{recipient.hex()}")


async def show_recipient(api: Api, request: Request) -> Response:
    return render.page(api, request, "recipient.html", await _kept_of(api, request))


async def ask_erase(api: Api, request: Request) -> Response:
    return render.page(api, request, "recipient_erase.html", await _kept_of(api, request))


async def erase(api: Api, request: Request) -> Response:
    key = request.path_params["key"]
    await recipients.erase(api, key, request.state.who)
    return forms.done(api, f"recipients/{key}", "erased")


async def _kept_of(api: Api, request: Request) -> dict[str, Any]:
    found = await recipients.show(api, request.path_params["key"], request.state.who)
    recipient = recipients.parse_key(request.path_params["key"])
    when = await withdrawals.get_periods(api.store, api.secrets, recipient)
    return {**found, "is_withdrawn": withdrawals.is_withdrawn(when)}


async def list_audit(api: Api, request: Request) -> Response:
    return await _audit(api, request, "audit")


async def list_actions(api: Api, request: Request) -> Response:
    return await _audit(api, request, "recipients")


async def _audit(api: Api, request: Request, name: audit_log.Log) -> Response:
    after = request.query_params.get("after")
    items, following = await audit.audit_page(api, after, name)
    counts = await audit_log.recipient_counts(api.store) if name == "recipients" else {}
    context = {"items": items, "next": following, "after": after, "counts": counts, "log": name}
    return render.page(api, request, "audit.html", context)
