"""Single recipients: how a call names them; one found, all that is kept of it, its erasure."""

from __future__ import annotations

from pixel_server.api import fields
from pixel_server.api.openapi.operation import BODY, call, ok, path
from pixel_server.api.openapi.recipients import LISTED
from pixel_server.api.openapi.schema import (
    RECIPIENT,
    answer,
    array,
    count,
    instant,
    or_null,
    ref,
    taken,
    text,
)
from pixel_server.api.openapi.withdrawals import PERIOD

PATHS = {
    "/api/recipients/find": {
        "post": call(
            "find_recipient",
            "people",
            "The key of a recipient, by name or by the token of a link",
            BODY,
            {200: ok("Its key.", answer(key=ref("RecipientKey")))},
            body="RecipientQuery",
        ),
    },
    "/api/recipients/{key}": {
        "parameters": [path("key", "A recipient's key.", ref("RecipientKey"))],
        "get": call(
            "show_recipient",
            "people",
            "All that is kept of one recipient",
            (404,),
            {200: ok("It.", ref("KeptOfRecipient"))},
        ),
        "delete": call(
            "erase_recipient",
            "people",
            "Erase one recipient, and record no more of it",
            (404,),
            {
                200: ok(
                    "It is done.",
                    answer(
                        key=ref("RecipientKey"),
                        removed_from=array(ref("CampaignId")),
                        removed={
                            "type": "object",
                            "additionalProperties": {"type": "integer", "minimum": 0},
                            "description": "How many, by kind.",
                        },
                        note=text("What an erasure cannot reach."),
                    ),
                )
            },
            description="Over all campaigns, hits that wait included. Sums stay as they were.",
        ),
    },
}

SCHEMAS = {
    "RecipientKey": text("The keyed hash of a recipient.", pattern="^[0-9a-f]{16}$"),
    "RecipientQuery": {
        "oneOf": [taken(("recipient",), recipient=RECIPIENT), taken(("token",), token=text("Of a link."))]
    },
    "RecipientList": taken(
        ("recipients",), recipients=array(RECIPIENT, minItems=1, maxItems=fields.MAX_RECIPIENTS)
    ),
    "KeptOfRecipient": answer(
        key=ref("RecipientKey"),
        campaigns=array(
            answer(
                campaign=ref("CampaignId"),
                listed={"type": "boolean", "description": LISTED},
                recipient=or_null(text(""), "As uploaded, in mode `identified`; null: it is not kept."),
                name=or_null(text(""), "As uploaded, in mode `identified`; null: there is none."),
                last_mail_day=or_null(
                    text("", format="date"), "When the last mail went out that was said to; null: none was."
                ),
                opens=count("How many."),
                first_open=or_null(instant(""), "Null: none."),
                last_open=or_null(instant(""), "Null: none."),
                opens_person=count("Of these, by a person, or an image proxy for one."),
                opens_prefetch=count("Of these, by a machine ahead of a reader."),
                opens_scanner=count("Of these, by a scanner."),
                first_open_person=or_null(instant(""), "Null: none."),
                last_open_person=or_null(instant(""), "Null: none."),
                time_to_open=or_null(
                    {"type": "number", "minimum": 0},
                    "Seconds from sending to `first_open_person`, to within 5 %; null: not known.",
                ),
                hidden={"type": "boolean", "description": "Its mail program loads all images by machine."},
                top={"type": "boolean", "description": "The mail's upper pixel was loaded."},
                bottom={"type": "boolean", "description": "The mail's lower pixel was loaded."},
            )
        ),
        last_open_day=or_null(text("", format="date"), "Of mode `last`, over all campaigns; UTC."),
        withdrawals=array(PERIOD),
        waiting={"type": "boolean", "description": "Hits wait to be counted; some may be of this one."},
    ),
}
