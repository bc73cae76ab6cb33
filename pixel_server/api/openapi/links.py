"""Pixel links of an email campaign."""

from __future__ import annotations

from pixel_server.api import fields, links
from pixel_server.api.openapi.operation import BODY, CAMPAIGN, call, content
from pixel_server.api.openapi.schema import (
    RECIPIENT,
    answer,
    array,
    choice,
    instant,
    or_null,
    ref,
    taken,
    text,
)
from pixel_server.tokens import MODES

PATHS = {
    "/api/campaigns/{id}/links": {
        "parameters": [CAMPAIGN],
        "post": call(
            "make_links",
            "write",
            "Make pixel links of an email campaign",
            (*BODY, 404, 409),
            {
                200: {
                    "description": "A link for each recipient, in their order.",
                    "content": {
                        **content(answer(links=array(ref("Link")))),
                        **content(text("A link as JSON on each line."), "application/x-ndjson"),
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
}

_ROW = taken(
    ("recipient",),
    recipient=RECIPIENT,
    mode=choice(
        MODES, "How much is kept of the recipient; `off`: no pixel. Default, and most: the campaign's."
    ),
    part=choice(links.PARTS, "Which pixel of the mail; `bottom` counts no open.", default="single"),
    sent_at=instant("When the mail goes out, to the second, 1970 to 2106. Default: not known."),
    test={"type": "boolean", "default": False, "description": "A trial mail of the sender's own."},
)

SCHEMAS = {
    "Recipients": taken(
        ("recipients",),
        recipients=array({"anyOf": [RECIPIENT, _ROW]}, minItems=1, maxItems=fields.MAX_RECIPIENTS),
        sent={
            "type": "boolean",
            "default": False,
            "description": "Their mails are sent: recipients are put on the campaign's list, and counted "
            "once each as sent to; in modes that tell none apart, only counted, each time.",
        },
    ),
    "Link": answer(
        recipient=RECIPIENT,
        url=or_null(text(""), "The pixel's address; null in mode `off`."),
        html=or_null(text(""), "The image tag for the mail; null in mode `off`."),
        privacy_url=or_null(text(""), "The page on which its recipient sees what is recorded, and stops it."),
    ),
}
