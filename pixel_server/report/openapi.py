"""The API described as OpenAPI 3.1. A test holds it against the routes."""

from __future__ import annotations

from typing import Any

from pixel_server import __version__, dimensions, notes, sharelinks
from pixel_server.report import (
    body,
    breakdowns,
    kept_now,
    order,
    overview,
    people,
    ranges,
    recipients,
    schemas,
    uploads,
)
from pixel_server.report import shared as sharing
from pixel_server.report.problems import TYPE as PROBLEM
from pixel_server.report.schemas import Schema, answer, array, choice, count, instant, or_null, ref, text

_ABOUT = f"""\
JSON is UTF-8, {body.LIMIT} bytes at most, without duplicate keys; unknown fields of a body are refused.
Errors are problem details (RFC 9457). Ranges are half-open: `from` lies in them, `to` does not. `null` in the
place of a figure means that it is not known: no figure is a guess."""

_PROBLEMS = {
    400: "The body is not JSON in UTF-8, is nested too deeply, or has a key twice in one object.",
    401: "No API key was sent, or none that is known.",
    403: "The API key has not the scope that this call needs.",
    404: "There is nothing of this id; perhaps no longer.",
    409: "It cannot be done as things stand; `detail` says why.",
    413: f"The body has more than {body.LIMIT} bytes.",
    415: "The body is not sent as `application/json`.",
    422: "The input cannot be used; `errors` names each bad field.",
    503: "Redis does not answer, or not with what was asked. Nothing is known to be done: try again.",
}
_KEYED, _BODY = (401, 403, 503), (400, 413, 415, 422)


def document(base_url: str | None) -> dict[str, Any]:
    """The whole document. base_url: where the world reaches this server; without it, where it was read."""
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "pixel-server",
            "version": __version__,
            "summary": "Counts what tracking pixels in mails and pages tell.",
            "description": _ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": _paths(),
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "parameters": {"campaign": _path("id", "A campaign.", ref("CampaignId"))},
            "responses": {str(status): _problem(status) for status in _PROBLEMS},
            "schemas": schemas.named(),
        },
    }
    if base_url is not None:
        found["servers"] = [{"url": base_url}]
    return found


def _content(schema: Schema, media: str = "application/json") -> dict[str, Any]:
    return {media: {"schema": schema}}


def _header(schema: Schema, description: str, required: bool = True) -> Schema:
    return {"description": description, "schema": schema, "required": required}


def _problem(status: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "description": _PROBLEMS[status],
        "content": _content(ref("Problem"), PROBLEM),
    }
    if status == 401:
        found["headers"] = {"WWW-Authenticate": _header({"const": "Bearer"}, "How to send the key.")}
    if status == 503:
        seconds = _header({"type": "integer"}, "Seconds to wait.", required=False)
        found["headers"] = {"Retry-After": seconds}
    return found


def _path(name: str, description: str, schema: Schema) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "description": description, "schema": schema}


_by = "|".join(breakdowns.BY)


def _query(name: str, schema: Schema, *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "required": required}


def _call(
    name: str, scope: str | None, summary: str, problems: tuple[int, ...], good: dict[int, Any], **more: Any
) -> dict[str, Any]:
    """An operation. problems: statuses beside those of every call with a key. body: a schema's name."""
    statuses = sorted({*problems, *(_KEYED if scope else ())})
    found: dict[str, Any] = {"operationId": name, "summary": summary}
    if scope:
        found["security"] = [{"bearer": [scope]}]
    if sent := more.pop("body", None):
        found["requestBody"] = {"required": True, "content": _content(ref(sent))}
    answers = {status: {"$ref": f"#/components/responses/{status}"} for status in statuses}
    return {
        **found,
        **more,
        "responses": {str(status): answer for status, answer in (good | answers).items()},
    }


def _ok(description: str, schema: Schema, **more: Any) -> dict[str, Any]:
    return {"description": description, "content": _content(schema), **more}


def _page(item: str) -> Schema:
    return answer(
        items=array(ref(item)),
        next=or_null(text(""), "Cursor of the next page, for `after`; null on the last."),
    )


def _paths() -> dict[str, Any]:
    campaign = [{"$ref": "#/components/parameters/campaign"}]
    shown = _ok("The campaign.", ref("Campaign"))
    shared = "A key of the scope `read:CAMPAIGN` may ask this of its own campaign"
    created = {"Location": _header({"type": "string"}, "Its address, relative to this call's.")}
    gone = {"description": "It is gone."}
    return {
        "/api/campaigns": {
            "get": _call(
                "list_campaigns",
                "read",
                "Campaigns, in the order of their ids",
                (422,),
                {200: _ok("A page of them.", _page("Campaign"))},
                parameters=[
                    _query("after", {**ref("CampaignId"), "description": "`next` of the page before."}),
                    _query(
                        "limit",
                        {"type": "integer", "minimum": 1, "maximum": body.MOST_PAGE, "default": body.PAGE},
                    ),
                ],
            ),
            "post": _call(
                "create_campaign",
                "write",
                "Make a campaign",
                (*_BODY, 409),
                {201: {**shown, "headers": created}},
                description=(
                    "Its pixel works at once. 409: the id is taken, or was once; or a field is for web ones."
                ),
                body="NewCampaign",
            ),
        },
        "/api/campaigns/{id}": {
            "parameters": campaign,
            "get": _call(
                "show_campaign",
                "read",
                "A campaign",
                (404,),
                {200: _ok("The campaign.", {"anyOf": [ref("Campaign"), ref("SharedCampaign")]})},
                description=f"{shared}, and is shown a `SharedCampaign`.",
            ),
            "patch": _call(
                "change_campaign",
                "write",
                "Change a campaign",
                (*_BODY, 404, 409),
                {200: shown},
                description=(
                    "Fields that are not sent stay. 409: `time_zone` and `identity` are fixed after the "
                    "first hit; `mode`, after that or the first link, can only fall."
                ),
                body="CampaignChange",
            ),
            "delete": _call(
                "delete_campaign",
                "write",
                "Delete a campaign and all its figures",
                (404,),
                {204: gone},
                description="Its id is never given again. Its pixels are answered 200 and counted no more.",
            ),
        },
        "/api/campaigns/{id}/links": {
            "parameters": campaign,
            "post": _call(
                "make_links",
                "write",
                "Make pixel links of an email campaign",
                (*_BODY, 404, 409),
                {
                    200: {
                        "description": "A link for each recipient, in their order.",
                        "content": {
                            **_content(answer(links=array(ref("Link")))),
                            **_content(text("A link as JSON on each line."), "application/x-ndjson"),
                        },
                    }
                },
                description=(
                    "No link is stored. 422 names every bad row, counted from 0, and makes no link. 409: a "
                    "web campaign, or no base URL is set. NDJSON if `Accept` asks for it."
                ),
                body="Recipients",
            ),
        },
        "/api/campaigns/{id}/stats": {
            "parameters": campaign,
            "get": _call(
                "show_stats",
                "read",
                "The figures of a campaign",
                (404, 422),
                {200: _ok("What is counted.", {"anyOf": [ref("Stats"), ref("SharedStats")]})},
                description=(
                    f"Without `from` and `to`: totals of all time, series of the last {ranges.DEFAULT_DAYS} "
                    f"days. Without `from`: the {ranges.DEFAULT_DAYS} days up to `to`. Without `to`: up to "
                    f"the end of the running interval. At most {ranges.MOST_DAYS} days by `day` in the "
                    f"campaign's own zone; else {ranges.MOST_FINE_DAYS}, read from the 15-minute series. "
                    f"{shared}, by `day` in the campaign's zone (403 otherwise), and is shown "
                    "`SharedStats`: days that have ended and have `min_cell` visits (of mail: opens), and "
                    f"sums of these days. Without `from` and `to`: of the last {sharing.DAYS} days kept."
                ),
                parameters=[
                    _query("from", _boundary("First instant.")),
                    _query("to", _boundary("End: the first instant that is not in the range.")),
                    _query("interval", choice(ranges.INTERVALS, "Of `series`.", default="day")),
                    _query("tz", {**ref("TimeZone"), "description": "Default: the campaign's."}),
                ],
            ),
        },
        "/api/campaigns/{id}/breakdowns": {
            "parameters": campaign,
            "get": _call(
                "show_breakdowns",
                "read",
                "What views and visits of pages break down into",
                (404, 409, 422),
                {200: _ok("Views and visits by name.", ref("Breakdowns"))},
                description=(
                    f"Days of the campaign's own zone; without `from` and `to`, the last "
                    f"{ranges.DEFAULT_DAYS}. Of each day and shard at least the {dimensions.LEFT} names with "
                    f"most visits are kept, and {breakdowns.MOST_NAMES} are shown; the rest is `(other)`. "
                    f"A name has {dimensions.MOST_NAME} bytes at most. 409: of mail; of other intervals."
                ),
                parameters=[
                    _query("by", text("With commas between; default: all.", pattern=f"^({_by})(,({_by}))*$")),
                    _query("from", _boundary("First instant.")),
                    _query("to", _boundary("End: the first instant that is not in the range.")),
                    _query("interval", choice(ranges.INTERVALS, "Only `day`.", default="day")),
                    _query("tz", {**ref("TimeZone"), "description": "Only the campaign's."}),
                ],
            ),
        },
        "/api/overview": {
            "get": _call(
                "show_overview",
                "read",
                "Figures of many campaigns at once",
                (422,),
                {
                    200: _ok(
                        "A page of them.",
                        answer(
                            items=array(ref("InOverview"), maxItems=overview.PAGE),
                            next=or_null({"type": "integer"}, "The page after this; null on the last."),
                            total=count("Campaigns that `q` finds."),
                            as_of=instant("As in `Stats`."),
                            ordered_as_of=instant("When the figures that the order goes by were read."),
                            estimates={"type": "object", "additionalProperties": ref("Estimate")},
                        ),
                    )
                },
                description=(
                    f"{overview.PAGE} a page. The figures shown are read anew; those that the order goes by "
                    f"are at most {order.OLD:g} seconds old. Those that are not known come last."
                ),
                parameters=[
                    _query("q", text("Part of an id or a name.", maxLength=overview.MOST_QUERY)),
                    _query(
                        "sort",
                        choice(
                            (*order.SORTS, *(f"-{sort}" for sort in order.SORTS)),
                            "With a `-`: the greatest first. `rate`: the estimate, else `low`.",
                            default=overview.DEFAULT_SORT,
                        ),
                    ),
                    _query(
                        "page",
                        {"type": "integer", "minimum": 1, "maximum": overview.MOST_PAGES, "default": 1},
                    ),
                ],
            ),
        },
        "/api/compare": {
            "get": _call(
                "compare_campaigns",
                "read",
                "Campaigns side by side",
                (404, 422),
                {200: _ok("In the order asked for; one page.", _page("Compared"))},
                parameters=[
                    {
                        **_query("ids", text("2 to 20 ids, with commas between.")),
                        "required": True,
                    }
                ],
            ),
        },
        "/api/explain": {
            "post": _call(
                "explain_hit",
                "read",
                "What a hit would be taken for, and why",
                _BODY,
                {200: _ok("The verdict.", ref("Explanation"))},
                body="HitToExplain",
            ),
        },
        **_beside(),
        **_people(),
        "/api/kept": {
            "get": _call(
                "show_kept",
                "read",
                "What is kept of people now, by kind of data",
                (),
                {
                    200: _ok(
                        "All of it: there is one page.",
                        answer(
                            items=array(ref("Kept")),
                            next=or_null(text(""), "Always null."),
                            as_of=instant("When this was looked up."),
                        ),
                    )
                },
                description=(
                    f"Numbers and no one's data. It reads the whole store, at most every {kept_now.FRESH} s."
                ),
            )
        },
        "/api/keys": {
            "get": _call(
                "list_keys",
                "read",
                "API keys, oldest first",
                (),
                {200: _ok("All of them: there is one page.", _page("ApiKey"))},
            ),
            "post": _call(
                "create_key",
                "write",
                "Make an API key",
                _BODY,
                {201: _ok("The key: shown this once, kept as a hash.", ref("NewApiKey"))},
                body="KeyRequest",
            ),
        },
        "/api/keys/{id}": {
            "parameters": [_path("id", "An API key's id, not the key.", ref("ApiKeyId"))],
            "delete": _call("revoke_key", "write", "Revoke an API key", (404,), {204: gone}),
        },
        "/api/openapi.json": {
            "get": _call("describe", None, "This document", (), {200: _ok("It.", {"type": "object"})})
        },
        "/o/{token}.gif": _pixel(
            _path("token", "Of a link that was made here.", text("", pattern="^[A-Za-z0-9_-]+$")),
            "Pixel of a mail",
        ),
        "/p/{campaign}.gif": _pixel(
            _path("campaign", "A web campaign.", ref("CampaignId")),
            "Pixel of a web page",
            _query("u", text("The page's URL. Default: `Referer`.")),
            _query("r", text("Where its visitor came from.")),
            _query("v", text("The page's own id of its visitor, with identity `own`. Kept as a hash.")),
            _query("c", text("`1`: the page says yes to the cookie of identity `cookie`.")),
        ),
        "/p/{campaign}": _beacon(),
        "/healthz": {
            "get": _call(
                "healthz",
                None,
                "Is this process alive",
                (),
                {200: _ok("It is.", answer(status={"const": "ok"}))},
            )
        },
        "/readyz": {
            "get": _call(
                "readyz",
                None,
                "Is everything behind it well",
                (),
                {
                    200: _ok("Hits can be stored.", ref("Readiness")),
                    503: _ok("A hit could be stored nowhere.", ref("Readiness")),
                },
            )
        },
    }


def _beside() -> dict[str, Any]:
    """Calls on what stands beside a campaign's figures: notes and share links."""
    campaign = {"$ref": "#/components/parameters/campaign"}
    gone = {"description": "It is gone."}
    return {
        "/api/campaigns/{id}/notes": {
            "parameters": [campaign],
            "get": _call(
                "list_notes",
                "read",
                "Notes on dates of a campaign, in order of time",
                (404,),
                {200: _ok("All of them: there is one page.", _page("Note"))},
            ),
            "post": _call(
                "add_note",
                "write",
                "Note what happened on a date",
                (*_BODY, 404, 409),
                {201: _ok("The note.", ref("Note"))},
                description=f"409: the campaign has {notes.MOST} notes already.",
                body="NewNote",
            ),
        },
        "/api/campaigns/{id}/notes/{note}": {
            "parameters": [campaign, _path("note", "A note's id.", ref("NoteId"))],
            "delete": _call("remove_note", "write", "Remove a note", (404,), {204: gone}),
        },
        "/api/campaigns/{id}/shares": {
            "parameters": [campaign],
            "get": _call(
                "list_shares",
                "read",
                "Share links of a campaign, oldest first, those that have expired too",
                (404,),
                {200: _ok("All of them: there is one page.", _page("Share"))},
            ),
            "post": _call(
                "make_share",
                "write",
                "Make a share link of a campaign",
                (*_BODY, 404, 409),
                {201: _ok("The link: shown this once, kept as a hash.", ref("NewShare"))},
                description=(
                    "Who has it sees what a key of the scope `read:CAMPAIGN` is shown, without a key. 409: "
                    f"the campaign has {sharelinks.MOST} already, or no base URL is set."
                ),
                body="ShareRequest",
            ),
        },
        "/api/campaigns/{id}/shares/{share}": {
            "parameters": [campaign, _path("share", "A share link's id.", ref("ShareId"))],
            "delete": _call("revoke_share", "write", "Revoke a share link", (404,), {204: gone}),
        },
    }


def _people() -> dict[str, Any]:
    """Calls of the scope `people`."""
    named = {
        "required": True,
        "content": _content(ref("RecipientList")),
    }
    number = {"type": "integer", "minimum": 0}
    lines = {media: {"schema": {"type": "string"}} for media in (uploads.NDJSON, uploads.CSV)}
    return {
        "/api/campaigns/{id}/recipients": {
            "parameters": [{"$ref": "#/components/parameters/campaign"}],
            "get": _call(
                "list_recipients",
                "people",
                "The recipients of a campaign, by what they did",
                (404, 409, 422),
                {
                    200: {
                        "description": "A page, in an order of no meaning; or all as lines if `Accept` asks.",
                        "content": {
                            **_content(_page("Recipient")),
                            **_content(text("One as JSON on each line."), uploads.NDJSON),
                            **_content(text("One on each line."), uploads.CSV),
                        },
                    }
                },
                description=(
                    "`opened`: with any open. `person`: with one by a person, or a proxy for one. "
                    "`machine_only`: each open a prefetch's or a scanner's. `unopened`: on the list (an "
                    "upload, or links made with `sent`), and without an open; not those who withdrew, whose "
                    "opens are dropped; 409 without a list. Pages may be a little longer or shorter than a "
                    "thousand."
                ),
                parameters=[
                    _query("state", choice(recipients.STATES, "Which.", default="opened")),
                    _query("after", text("`next` of the page before.", pattern="^[0-9]{1,9}$")),
                ],
            ),
            "put": _call(
                "upload_recipients",
                "people",
                "Upload whom a campaign went to",
                (404, 409, 415, 422),
                {200: _ok("All of it is taken.", ref("Uploaded"))},
                description=(
                    "A line for each recipient: NDJSON of `{recipient, name}`, or CSV whose first line names "
                    "the columns `recipient` and, if you like, `name`; UTF-8, no limit to the lines. Adds to "
                    "the list: to send it again does no harm. Names are kept in mode `identified` only. "
                    "422: some lines cannot be used, as `errors` says of the first "
                    f"{uploads.Upload.SHOWN}; the others are taken. Of a body that is cut off, whole lines "
                    "are taken."
                ),
                requestBody={"required": True, "content": lines},
            ),
        },
        "/api/recipients": {
            "get": _call(
                "list_quiet",
                "people",
                "Who had mail since a day, and no open by a person since, over all campaigns",
                (422,),
                {
                    200: {
                        "description": "A page, in an order of no meaning; or all as lines if `Accept` asks.",
                        "content": {
                            **_content(_page("QuietRecipient")),
                            **_content(text("One as JSON on each line."), uploads.NDJSON),
                            **_content(text("One on each line."), uploads.CSV),
                        },
                    }
                },
                description=(
                    "To write to once more, or to stop writing to. Who had mail is known from lists alone: "
                    "links made with `sent`, from that day to today; an upload, if its campaign was sent "
                    "in that time. Without them, it is nobody. Campaigns that are closed, or tell no "
                    "recipients apart, are left out, and so is who withdrew."
                ),
                parameters=[
                    _query(
                        "quiet_since",
                        text("A day of UTC.", format="date"),
                        required=True,
                    ),
                    _query("after", text("`next` of the page before.", pattern="^[0-9]{1,9}$")),
                ],
            ),
        },
        "/api/audit": {
            "get": _call(
                "list_audit",
                "people",
                "Who did what to data on people, newest first",
                (422,),
                {200: _ok("A page of it.", _page("AuditLine"))},
                parameters=[_query("after", text("`next` of the page before.", pattern=people.CURSOR))],
            ),
        },
        "/api/recipients/find": {
            "post": _call(
                "find_recipient",
                "people",
                "The key of a recipient, by name or by the token of a link",
                _BODY,
                {200: _ok("Its key.", answer(key=ref("RecipientKey")))},
                body="RecipientQuery",
            ),
        },
        "/api/recipients/{key}": {
            "parameters": [_path("key", "A recipient's key.", ref("RecipientKey"))],
            "get": _call(
                "show_recipient",
                "people",
                "All that is kept of one recipient",
                (404,),
                {200: _ok("It.", ref("KeptOfRecipient"))},
            ),
            "delete": _call(
                "erase_recipient",
                "people",
                "Erase one recipient, and record no more of it",
                (404,),
                {
                    200: _ok(
                        "It is done.",
                        answer(
                            key=ref("RecipientKey"),
                            removed_from=array(ref("CampaignId")),
                            removed={
                                "type": "object",
                                "additionalProperties": number,
                                "description": "How many, by kind.",
                            },
                            note=text("What an erasure cannot reach."),
                        ),
                    )
                },
                description="Over all campaigns, hits that wait included. Sums stay as they were.",
            ),
        },
        "/api/withdrawals": {
            "get": _call(
                "list_withdrawals",
                "people",
                "Who is not recorded, in no order",
                (422,),
                {200: _ok("A page of them.", _page("Withdrawal"))},
                parameters=[_query("after", text("`next` of the page before.", pattern="^[0-9]{1,19}$"))],
            ),
            "post": _call(
                "add_withdrawals",
                "people",
                "Record no more of these recipients",
                _BODY,
                {200: _ok("It holds.", answer(withdrawn=number, new=number))},
                requestBody=named,
            ),
            "delete": _call(
                "end_withdrawals",
                "people",
                "Record these recipients again",
                _BODY,
                {200: _ok("It holds.", answer(allowed=number))},
                requestBody=named,
            ),
        },
    }


def _boundary(what: str) -> Schema:
    return {
        "anyOf": [{"type": "string", "format": "date"}, {"type": "string", "format": "date-time"}],
        "description": (
            f"{what} A date or instant on a boundary of the interval in the zone, so that ranges add up; "
            f"without an offset it is one of the zone. Years {ranges.FIRST_YEAR} to {ranges.LAST_YEAR - 1}."
        ),
        "examples": ["2026-11-24", "2026-11-24T09:00:00Z"],
    }


def _pixel(parameter: dict[str, Any], summary: str, *query: dict[str, Any]) -> dict[str, Any]:
    """The image stands in every answer, an error's too. `X-Pixel` says what became of the hit."""
    about = {"summary": summary, "responses": _images()}
    return {
        "parameters": [parameter, *query],
        "get": {**about, "operationId": f"open_{parameter['name']}"},
        "head": {**about, "operationId": f"head_{parameter['name']}", "description": "A hit, but no open."},
    }


def _images(**more: str) -> dict[str, Any]:
    """What a pixel is answered with. more: of other statuses."""
    reason = {"X-Pixel": _header({"type": "string"}, "What became of it: the word, then `; reason=...`.")}
    image = {"headers": reason, "content": {"image/gif": {}}}
    described = {
        "200": "`recorded`: it is stored. `ignored`: it is not to be counted.",
        "404": "`refused`: not a good pixel.",
        "503": "`failed`: it could not be stored in time.",
        **more,
    }
    return {status: {"description": what, **image} for status, what in sorted(described.items())}


def _beacon() -> dict[str, Any]:
    said = {
        "type": "object",
        "required": ["i"],
        "properties": {
            "i": text("Names one view, made up by the page.", pattern="^[A-Za-z0-9_-]{1,32}$"),
            "u": text("The page's URL. Default: `Referer`."),
            "r": text("Where its visitor came from."),
            "v": text("The page's own id of its visitor, with identity `own`."),
            "c": {
                "type": "number",
                "description": "1: the page says yes to the cookie of identity `cookie`.",
            },
            "t": {
                "type": "number",
                "minimum": 0,
                "description": "ms that the view was visible so far. It is then a report, and no view.",
            },
        },
    }
    refused = {
        "400": "`refused; reason=body`: not that JSON.",
        "403": "`refused; reason=origin`: the campaign has `origins`, and the page is of another.",
        "408": "`refused; reason=body`: it did not arrive in time.",
        "413": "`refused; reason=body`: more than 4096 bytes.",
    }
    return {
        "parameters": [_path("campaign", "A web campaign.", ref("CampaignId"))],
        "post": {
            "operationId": "send_beacon",
            "summary": "A view of a web page, or how long it was visible",
            "description": "What `/p.js` sends; as `text/plain` also, which a page of another site may "
            "send without asking first (CORS).",
            "requestBody": {"required": True, "content": _content(said)},
            "responses": _images(**refused),
        },
    }
