"""`/audience`: counts the recipients who opened some, all or none of several campaigns, and offers them as a
file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api import audience as calls
from pixel_server.api.audience import MAX_CAMPAIGNS, MAX_MIN_OPENS
from pixel_server.api.context import Api
from pixel_server.campaigns.campaign import Campaign
from pixel_server.dashboard import campaign_picker, downloads, render
from pixel_server.figures import audience, sorted_recipients
from pixel_server.problems import Problem
from pixel_server.recipients import lists

COUNTED_AT_ONCE = 100_000
"""Largest number of recipients, added up over the campaigns, that are counted although nobody asked. It takes
0.5 s for two campaigns and 2 s for 20."""
CONDITION = ("opened", "state", "since", "min_opens")
"""Parameters of the condition, as in the API."""
STATES = {"person": "a person", "opened": "a person or a machine"}
"""Labels of `audience.STATES`."""
LABELS = {
    "of": "Campaigns",
    "opened": "Opened",
    "state": "By",
    "min_opens": "Times",
    "since": "Since",
}
"""Labels of the parameters in error messages, in the order of the page."""

Faults = list[dict[str, Any]]
"""Errors of a `Problem`: field and message of each."""


async def page(api: Api, request: Request) -> Response:
    params = request.query_params
    ids = campaign_picker.ids(params, "of")
    chosen, errors = await campaign_picker.chosen(api, ids[:MAX_CAMPAIGNS])
    status = 404 if errors else 200
    if len(ids) > MAX_CAMPAIGNS:
        errors, status = [f"Choose at most {MAX_CAMPAIGNS} campaigns."], 422
    context: dict[str, Any] = {"found": None, "counts": None, "number": 0, "by_machines": 0}
    faults: Faults = []
    if errors:
        faults = _faults_of_condition(params, ids)
        errors += await _without_recipients(api, chosen)
    elif ids:
        try:
            context |= await _figures(api, request, ids)
        except Problem as problem:
            faults, status = problem.errors or [], problem.status
            errors = await _without_recipients(api, chosen) if faults else [_sentence(problem)]
    loaded_by_nobody = {**_condition(params), "state": "opened"}
    context |= {
        "chosen": chosen,
        "query": campaign_picker.search_text(params),
        "matches": await _others(api, request, chosen),
        "errors": [*errors, *_messages(faults)],
        "states": STATES,
        "submitted": {name: params.get(name, "") for name in CONDITION},
        "max_min_opens": MAX_MIN_OPENS,
        "wrong": [fault["field"] for fault in faults],
        "without_machines": urlencode([("of", ",".join(ids)), *loaded_by_nobody.items()]),
        "link": urlencode([("of", ",".join(ids)), *_condition(params).items()]),
    }
    return render.page(api, request, "audience.html", context, status)


async def _figures(api: Api, request: Request, ids: Sequence[str]) -> dict[str, Any]:
    """Returns the counts of the audience, or how many recipients must be read first if they are many."""
    found = await calls.find(api.store, api.settings, api.consent, _parameters(request.query_params, ids))
    shards = api.settings.shards
    numbers = [await sorted_recipients.count_recipients(api.store, id_, shards) for id_ in ids]
    if sum(numbers) > COUNTED_AT_ONCE and "count" not in request.query_params:
        return {"found": found, "number": sum(numbers)}
    counts, withdrawn = await calls.count_alone(api, found, request.state.who)
    least, most = found.condition.least, found.condition.most
    matching = sum(counts[least : most + 1])
    by_machines = matching - await _count_never_loaded(api, found) if _is_unseen(found.condition) else 0
    return {
        "found": found,
        "counts": counts,
        "matching": matching,
        "by_machines": max(0, by_machines),
        "withdrawn": withdrawn,
    }


async def _without_recipients(api: Api, chosen: Sequence[Campaign]) -> list[str]:
    """Returns a sentence about each campaign that keeps no recipients, such as a web site."""
    sentences = []
    for campaign in chosen:
        try:
            await calls.find(api.store, api.settings, api.consent, {"of": campaign.id})
        except Problem as problem:
            sentences.append(_sentence(problem))
    return sentences


def _sentence(problem: Problem) -> str:
    return f"{problem.detail[0].upper()}{problem.detail[1:]}.".replace("`", "")


def _is_unseen(condition: audience.Condition) -> bool:
    """Returns whether the audience has the recipients of whom no open by a person is known."""
    return not condition.most and condition.state == "person"


async def _count_never_loaded(api: Api, found: calls.Audience) -> int:
    """Returns how many recipients have no open in any campaign, by a person or by a machine."""
    condition = found.condition._replace(state="opened")
    async with api.audience_count:
        counts = await audience.count(api.store, api.secrets, found.sources, api.settings.shards, condition)
    return counts.opened[0]


async def _others(api: Api, request: Request, chosen: Sequence[Campaign]) -> list[Campaign]:
    """Returns mailings that keep recipients and are not chosen."""
    text = campaign_picker.search_text(request.query_params)
    return [
        campaign
        for campaign in await campaign_picker.search(api, text, chosen, "email")
        if campaign.closed_at is None and lists.keeps_recipients(campaign, api.consent)
    ]


def _parameters(params: QueryParams, ids: Sequence[str]) -> dict[str, str]:
    """Returns the parameters of the API."""
    return {"of": ",".join(ids), **_condition(params)}


def _condition(params: QueryParams) -> dict[str, str]:
    return {name: params[name] for name in CONDITION if params.get(name)}


def _faults_of_condition(params: QueryParams, ids: Sequence[str]) -> Faults:
    """Returns the errors of the condition, if the campaigns cannot be used either."""
    try:
        calls.parse(_parameters(params, ids))
    except Problem as problem:
        return [fault for fault in problem.errors or () if fault["field"] in CONDITION]
    return []


def _messages(faults: Faults) -> list[str]:
    """Returns the messages of faults, in the order of the page."""
    in_order = sorted(faults, key=lambda fault: list(LABELS).index(fault["field"]))
    return [f"{LABELS[fault['field']]} {fault['message']}." for fault in in_order]


async def download(api: Api, request: Request) -> Response:
    """Returns all recipients of the audience, as CSV or NDJSON by the ending of the path."""
    params = request.query_params
    parameters = _parameters(params, campaign_picker.ids(params, "of"))
    found = await calls.find(api.store, api.settings, api.consent, parameters)
    parts = await calls.read(api.store, api.settings, api.secrets, found, request.state.who)
    ending = request.url.path.rpartition(".")[2]
    return await downloads.file_of(parts, audience.as_csv, f"audience.{ending}")
