"""`/webhooks`: lists, creates and changes webhooks, and shows what was sent to each, with the answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api import webhooks
from pixel_server.api.context import Api
from pixel_server.dashboard import campaign_picker, forms, permissions, render
from pixel_server.problems import Problem, bad_parameters
from pixel_server.webhooks import deliveries, endpoint, queue_view, report, storage
from pixel_server.webhooks.deliveries import Delivery
from pixel_server.webhooks.endpoint import PEOPLE_SCOPE, Endpoint
from pixel_server.webhooks.event import (
    EACH_OPEN,
    FIRST_OPEN,
    HEALTH,
    MILESTONE,
    PERSONAL,
    TYPES,
    WITHDRAWAL,
)
from pixel_server.webhooks.queue_view import Place
from pixel_server.webhooks.report import Report

_PEOPLE = permissions.in_words(PEOPLE_SCOPE)
_CHANGE_PERSONAL = "change a webhook that gets events on recipients"
PAGE_ROWS = 25
"""Rows on a page of one webhook."""
EVENT_MEANINGS: dict[str, str] = {
    FIRST_OPEN: "A recipient opened for the first time.",
    EACH_OPEN: "A recipient opened, each time.",
    WITHDRAWAL: "A recipient must no longer be recorded, or may be recorded again.",
    MILESTONE: "10, 25 or 50 percent of the mails of a campaign were opened by people.",
    HEALTH: "This server is in trouble, or the trouble is over.",
}
VIEWS = {"tries": "Log", "waiting": "Waiting", "aside": "Set aside"}
"""Labels of the lists of one webhook, by the value of `show` in the page's address."""
OVERLAPS = {
    0: "Not at all: it ends now",
    3600: "For an hour",
    storage.OVERLAP_SECONDS: "For a day",
    7 * storage.OVERLAP_SECONDS: "For a week",
}
"""Choices for how long the old secret signs too, by their seconds."""
_EMPTY_FIELDS = {"url": "", "name": "", "campaigns": "", "events_per_request": "1"}
_MORE = "name", "campaigns", "events_per_request"
"""Fields behind “More” in the form of a new webhook."""


class Try(NamedTuple):
    """A line of the log, and what is true of its request now.

    state: `delivered`, `repeated`, `later delivered`, `waiting`, `set aside` or `removed`.
    at: time (s) of the next try of a request that waits, or when it was set aside, otherwise 0.
    """

    line: Delivery
    state: str
    at: float = 0


class Choice(NamedTuple):
    """A checkbox for a type of events. reason: why it cannot be ticked, "" if it can."""

    type: str
    id: str
    field: str
    meaning: str
    reason: str


async def page(api: Api, request: Request) -> Response:
    return await _list_page(api, request, _EMPTY_FIELDS)


async def create(api: Api, request: Request) -> Response:
    """Creates a webhook, and shows its secret on the page that answers the POST and nowhere else."""
    fields = request.state.form
    per_request = forms.parse_whole(fields.get("events_per_request", ""))
    content = _content(fields) | ({} if per_request is None else {"events_per_request": per_request})
    session = request.state.session
    try:
        made, secret = await webhooks.create(api, content, request.state.who, session.scopes)
    except Problem as problem:
        return await _list_page(api, request, {**_EMPTY_FIELDS, **fields}, _of_page(fields, problem))
    return await _list_page(api, request, _EMPTY_FIELDS, created={"webhook": made, "secret": secret})


async def show(api: Api, request: Request) -> Response:
    """Shows one webhook: how it fares, and a list of its tries, of what waits, or of what was set aside."""
    webhook_id, query = request.path_params["id"], request.query_params
    view = query.get("show", "tries")
    if view not in VIEWS:
        raise bad_parameters([{"field": "show", "message": f"must be one of: {', '.join(VIEWS)}"}])
    asked = {"limit": str(PAGE_ROWS), **({"after": query["after"]} if "after" in query else {})}
    rows: list[Any]
    failures: dict[str, str] = {}
    if view == "tries":
        lines, next_cursor = await webhooks.deliveries_page(api, webhook_id, asked)
        failed = {line.webhook_id for line in lines if line.outcome != "delivered"}
        rows = tries(lines, await queue_view.find_places(api.store, webhook_id, failed))
    else:
        asked["aside"] = "true" if view == "aside" else "false"
        rows, next_cursor = await webhooks.queue_page(api, webhook_id, asked)
        tried = [row.id for row in rows if row.tries]
        failures = await deliveries.last_failures(api.store, webhook_id, tried)
    of = await webhooks.report_on(api, webhook_id)
    context = {
        **_head(request, of),
        "condition": condition(of),
        "view": view,
        "rows": rows,
        "failures": failures,
        "keep_days": api.settings.keep_webhooks,
        "next": next_cursor,
        "is_first": "after" not in query,
    }
    return render.page(api, request, "webhook.html", context)


def tries(lines: Iterable[Delivery], places: Mapping[str, Place]) -> list[Try]:
    """Returns the lines of a page, newest first, each with the state of its request now.

    Only the newest line of a request tells its state. After each older line came another try.
    """
    shown: list[Try] = []
    newer: dict[str, str] = {}
    for line in lines:
        state, at = _state(line, places, newer.get(line.webhook_id))
        newer.setdefault(line.webhook_id, line.outcome)
        shown.append(Try(line, state, at / 1000))
    return shown


def _state(line: Delivery, places: Mapping[str, Place], newer: str | None) -> tuple[str, int]:
    """Returns (state of a try, time in ms or 0).

    newer: outcome of the newest line of its request, None if this line is the newest.
    """
    if line.outcome == "delivered":
        return "delivered", 0
    if newer is not None:
        return "later delivered" if newer == "delivered" else "repeated", 0
    place = places[line.webhook_id]
    if place.aside is not None:
        return "set aside", place.aside
    return ("removed", 0) if place.due is None else ("waiting", place.due)


async def edit(api: Api, request: Request) -> Response:
    of = await webhooks.report_on(api, request.path_params["id"])
    known = of.endpoint
    ticked = [*map(_field, known.events), *(campaign_picker.FIELD + ident for ident in known.campaigns)]
    fields = {"url": known.url, "name": known.name, "campaigns": "", **dict.fromkeys(ticked, "yes")}
    return await _edit_page(api, request, of, fields)


async def change(api: Api, request: Request) -> Response:
    webhook_id, fields = request.path_params["id"], request.state.form
    try:
        await _change(api, request, _content(fields))
    except Problem as problem:
        of = await webhooks.report_on(api, webhook_id)
        return await _edit_page(api, request, of, {**_EMPTY_FIELDS, **fields}, _of_page(fields, problem))
    return forms.done(api, f"webhooks/{webhook_id}", "saved")


async def enable(api: Api, request: Request) -> Response:
    await _change(api, request, {"is_enabled": True})
    return forms.done(api, f"webhooks/{request.path_params['id']}", "webhook_enabled")


async def ask_disable(api: Api, request: Request) -> Response:
    of = await webhooks.report_on(api, request.path_params["id"])
    if not _may_change(request, of.endpoint):
        raise permissions.Lacking(request.state.session, PEOPLE_SCOPE, _CHANGE_PERSONAL)
    return render.page(api, request, "webhook_disable.html", _head(request, of))


async def disable(api: Api, request: Request) -> Response:
    await _change(api, request, {"is_enabled": False})
    return forms.done(api, f"webhooks/{request.path_params['id']}", "webhook_disabled")


async def _change(api: Api, request: Request, content: Mapping[str, Any]) -> None:
    scopes = request.state.session.scopes
    await webhooks.change(api, request.path_params["id"], content, request.state.who, scopes)


async def send_test(api: Api, request: Request) -> Response:
    webhook_id = request.path_params["id"]
    await webhooks.send_test(api, webhook_id)
    return forms.done(api, f"webhooks/{webhook_id}", "test_queued")


async def send_again(api: Api, request: Request) -> Response:
    """Sends one request again, or all that were set aside if the form names no request."""
    webhook_id, unit = request.path_params["id"], request.state.form.get("unit")
    count = await webhooks.send_again(api, webhook_id, {} if unit is None else {"webhook_ids": [unit]})
    if not count:
        return forms.done(api, f"webhooks/{webhook_id}", "nothing_to_send")
    return forms.done(api, f"webhooks/{webhook_id}", "sent_again", count)


async def ask_secret(api: Api, request: Request) -> Response:
    return _secret_page(api, request, await webhooks.report_on(api, request.path_params["id"]))


async def rotate(api: Api, request: Request) -> Response:
    """Makes a new secret, and shows it on the page that answers the POST and nowhere else."""
    webhook_id = request.path_params["id"]
    content = {"overlap_seconds": forms.parse_whole(request.state.form.get("overlap_seconds", ""))}
    try:
        secret = await webhooks.rotate(api, webhook_id, content, request.state.who)
    except Problem as problem:
        return _secret_page(api, request, await webhooks.report_on(api, webhook_id), problem)
    return _secret_page(api, request, await webhooks.report_on(api, webhook_id), secret=secret)


async def ask_delete(api: Api, request: Request) -> Response:
    of = await webhooks.report_on(api, request.path_params["id"])
    return render.page(api, request, "webhook_delete.html", _head(request, of))


async def delete(api: Api, request: Request) -> Response:
    await webhooks.delete(api, request.path_params["id"], request.state.who)
    return forms.done(api, "webhooks", "webhook_deleted")


def condition(of: Report) -> str:
    """Returns how a webhook fares: `disabled`, `failing`, `late`, `works`, or `new` if nothing was sent."""
    if not of.endpoint.is_enabled:
        return "disabled"
    if of.state.failing_since:
        return "failing"
    if of.late_seconds > report.LATE_SECONDS:
        return "late"
    return "works" if of.state.success else "new"


def _content(fields: Mapping[str, str]) -> dict[str, Any]:
    """Returns the JSON of the API for the fields that a new and a changed webhook have."""
    return {
        "url": fields.get("url", "").strip(),
        "name": fields.get("name", "").strip(),
        "events": [event_type for event_type in TYPES if fields.get(_field(event_type))],
        "campaigns": list(
            dict.fromkeys([*campaign_picker.ticked(fields), *forms.lines(fields.get("campaigns", ""))])
        ),
    }


def _of_page(fields: Mapping[str, str], problem: Problem) -> Problem:
    """Returns the problem of a form. If no type of events is ticked, its message does not list the types."""
    if any(fields.get(_field(event_type)) for event_type in TYPES):
        return problem
    return forms.with_message(problem, "events", "choose at least one")


def _field(event_type: str) -> str:
    """Returns the name of the checkbox of a type of events: `event_open.first`."""
    return f"event_{event_type}"


def _choices(people_reason: str) -> list[Choice]:
    """Returns the checkboxes of all types. people_reason: why events on recipients are disabled, or ""."""
    return [
        Choice(
            event_type,
            "event-" + event_type.replace(".", "-"),
            _field(event_type),
            meaning,
            people_reason if event_type in PERSONAL else "",
        )
        for event_type, meaning in EVENT_MEANINGS.items()
    ]


async def _picks(api: Api, fields: Mapping[str, str]) -> tuple[dict[str, str], dict[str, Any]]:
    """Returns (the fields to show, what the checkboxes of campaigns need).

    The campaigns that are ticked come first, then the newest others. A ticked id without a campaign moves to
    the text field, so that it is not lost: a webhook without campaigns would get the events of all.
    """
    ticked = campaign_picker.ticked(fields)
    chosen, _ = await campaign_picker.chosen(api, ticked[: endpoint.MAX_CAMPAIGNS])
    others = await campaign_picker.search(api, "", chosen)
    known = {campaign.id for campaign in chosen}
    lines = [fields["campaigns"], *(campaign_id for campaign_id in ticked if campaign_id not in known)]
    shown = {**fields, "campaigns": "\n".join(filter(None, lines))}
    picks = {
        "campaigns": [*chosen, *others],
        "has_more_campaigns": len(others) == campaign_picker.MAX_MATCHES or bool(shown["campaigns"]),
        "campaign_field": campaign_picker.FIELD,
    }
    return shown, picks


def _labels(choices: Iterable[Choice], picks: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Returns (label, id of the element) of each field, for the links above a refused form."""
    first_choice = next(choice.id for choice in choices if not choice.reason)
    return {
        "url": ("URL", "url"),
        "events": ("Events", first_choice),
        "name": ("Name", "name"),
        "campaigns": ("Campaigns", "campaigns" if picks["has_more_campaigns"] else "pick-campaigns"),
        "events_per_request": ("Events in a request", "events_per_request"),
    }


def _may_change(request: Request, known: Endpoint) -> bool:
    """Returns whether the visitor may change a webhook, by the rule of `webhooks.change`."""
    scopes = request.state.session.scopes
    return "write" in scopes and (PEOPLE_SCOPE in scopes or set(known.events).isdisjoint(PERSONAL))


def _head(request: Request, of: Report) -> dict[str, Any]:
    """Returns what the head of each page of one webhook needs."""
    known = of.endpoint
    return {
        "webhook": known,
        "of": of,
        "may_change": _may_change(request, known),
        "people": _PEOPLE,
        "views": VIEWS,
        "may_write": "write" in request.state.session.scopes,
    }


async def _list_page(
    api: Api,
    request: Request,
    fields: Mapping[str, str],
    problem: Problem | None = None,
    created: Mapping[str, Any] | None = None,
) -> Response:
    has_people = PEOPLE_SCOPE in request.state.session.scopes
    choices = _choices("" if has_people else f"You need the permission {_PEOPLE} for it.")
    reports = await report.read(api.store, api.clock())
    errors = forms.errors(problem)
    fields, picks = await _picks(api, fields)
    context = {
        "reports": [(of, condition(of)) for of in reports[::-1]],
        "created": created,
        "choices": choices,
        **picks,
        "labels": _labels(choices, picks),
        "is_more_open": bool(campaign_picker.ticked(fields))
        or any(name in errors or fields[name] != _EMPTY_FIELDS[name] for name in _MORE),
        "max_events": endpoint.MAX_EVENTS_PER_REQUEST,
    }
    return forms.page(api, request, "webhooks.html", fields, context, problem)


async def _edit_page(
    api: Api, request: Request, of: Report, fields: Mapping[str, str], problem: Problem | None = None
) -> Response:
    known = of.endpoint
    if not _may_change(request, known):
        raise permissions.Lacking(request.state.session, PEOPLE_SCOPE, _CHANGE_PERSONAL)
    lacks_people = f"This webhook was made without the permission {_PEOPLE}: make another webhook for it."
    choices = _choices("" if PEOPLE_SCOPE in known.scopes else lacks_people)
    fields, picks = await _picks(api, fields)
    context = {**_head(request, of), **picks, "choices": choices, "labels": _labels(choices, picks)}
    return forms.page(api, request, "webhook_edit.html", fields, context, problem)


def _secret_page(
    api: Api, request: Request, of: Report, problem: Problem | None = None, secret: str = ""
) -> Response:
    now = api.clock()
    context = {
        **_head(request, of),
        "secrets": [each for each in of.endpoint.secrets if each.until is None or now < each.until],
        "secret": secret,
        "overlaps": OVERLAPS,
        "default_overlap": storage.OVERLAP_SECONDS,
    }
    return forms.page(api, request, "webhook_secret.html", {}, context, problem)
