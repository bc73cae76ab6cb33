"""Recipients, many at once: of a campaign, uploaded to it, quiet over all."""

from __future__ import annotations

from typing import Any

from pixel_server.api import uploads
from pixel_server.api.openapi.operation import CAMPAIGN, call, content, ok, page, query
from pixel_server.api.openapi.schema import answer, choice, count, instant, or_null, ref, text
from pixel_server.figures import recipients

LISTED = "It is on the campaign's list: by an upload, or by links made with `sent`."
_LINES = {**content({"type": "string"}, uploads.NDJSON), **content({"type": "string"}, uploads.CSV)}
_AFTER = query("after", text("`next` of the page before.", pattern="^[0-9]{1,9}$"))


def _page_or_lines(item: str) -> dict[str, Any]:
    return {
        "description": "A page, in an order of no meaning; or all as lines if `Accept` asks.",
        "content": {
            **content(page(item)),
            **content(text("One as JSON on each line."), uploads.NDJSON),
            **content(text("One on each line."), uploads.CSV),
        },
    }


PATHS = {
    "/api/campaigns/{id}/recipients": {
        "parameters": [CAMPAIGN],
        "get": call(
            "list_recipients",
            "people",
            "The recipients of a campaign, by what they did",
            (404, 409, 422),
            {200: _page_or_lines("Recipient")},
            description=(
                "`opened`: with any open. `person`: with one by a person, or a proxy for one. "
                "`machine_only`: each open a prefetch's or a scanner's. `unopened`: on the list (an "
                "upload, or links made with `sent`), and without an open; not those who withdrew, whose "
                "opens are dropped; 409 without a list. Pages may be a little longer or shorter than a "
                "thousand."
            ),
            parameters=[query("state", choice(recipients.STATES, "Which.", default="opened")), _AFTER],
        ),
        "put": call(
            "upload_recipients",
            "people",
            "Upload whom a campaign went to",
            (404, 409, 415, 422),
            {200: ok("All of it is taken.", ref("Uploaded"))},
            description=(
                "A line for each recipient: NDJSON of `{recipient, name}`, or CSV whose first line names "
                "the columns `recipient` and, if you like, `name`; UTF-8, no limit to the lines. Adds to "
                "the list: to send it again does no harm. Names are kept in mode `identified` only. "
                "422: some lines cannot be used, as `errors` says of the first "
                f"{uploads.Upload.MAX_ERRORS}; the others are taken. Of a body that is cut off, whole lines "
                "are taken."
            ),
            requestBody={"required": True, "content": _LINES},
        ),
    },
    "/api/recipients": {
        "get": call(
            "list_quiet",
            "people",
            "Who had mail since a day, and no open by a person since, over all campaigns",
            (422,),
            {200: _page_or_lines("QuietRecipient")},
            description=(
                "To write to once more, or to stop writing to. Who had mail is known from lists alone: "
                "links made with `sent`, from that day to today; an upload, if its campaign was sent "
                "in that time. Without them, it is nobody. Campaigns that are closed, or tell no "
                "recipients apart, are left out, and so is who withdrew."
            ),
            parameters=[
                query("quiet_since", text("A day of UTC.", format="date"), required=True),
                _AFTER,
            ],
        ),
    },
}

SCHEMAS = {
    "Recipient": answer(
        key=ref("RecipientKey"),
        recipient=or_null(text(""), "As uploaded, in mode `identified`; null: it is not kept."),
        name=or_null(text(""), "As uploaded, in mode `identified`; null: there is none."),
        listed={"type": "boolean", "description": LISTED},
        opens=count("How many."),
        opens_person=count("Of these, by a person or a proxy for one."),
        first_open=or_null(instant(""), "Null: none."),
        last_open=or_null(instant(""), "Null: none."),
        last_open_person=or_null(instant(""), "By a person or a proxy for one; null: none."),
    ),
    "QuietRecipient": answer(
        key=ref("RecipientKey"),
        recipient=or_null(text(""), "As uploaded, in mode `identified`; null: it is not kept."),
        name=or_null(text(""), "As uploaded, in mode `identified`; null: there is none."),
        campaigns=count("Of which it had mail since then."),
        last_open_person=or_null(instant(""), "By a person or a proxy for one, before that; null: none."),
    ),
    "Uploaded": answer(
        lines=count("The number of the last line that was dealt with."),
        new=count("Recipients that were not on the list."),
        known=count("Those that were; names are as they came last."),
        withdrawn=count("Those who said no: left out."),
        bad=count("Lines that cannot be used: left out."),
    ),
}
