"""What a hit would be taken for, and why."""

from __future__ import annotations

from pixel_server.api import fields
from pixel_server.api.openapi.operation import BODY, call, ok
from pixel_server.api.openapi.schema import answer, array, choice, count, ref, taken, text
from pixel_server.verdicts import CLASSES

PATHS = {
    "/api/explain": {
        "post": call(
            "explain_hit",
            "read",
            "What a hit would be taken for, and why",
            BODY,
            {200: ok("The verdict.", ref("Explanation"))},
            body="HitToExplain",
        ),
    },
}

SCHEMAS = {
    "HitToExplain": taken(
        ("user_agent", "ip"),
        user_agent=text("As sent.", maxLength=fields.MAX_TEXT),
        ip=text("The client's address.", anyOf=[{"format": "ipv4"}, {"format": "ipv6"}]),
        headers={
            "type": "object",
            "maxProperties": 100,
            "propertyNames": {"maxLength": fields.MAX_TEXT},
            "additionalProperties": {"type": "string", "maxLength": fields.MAX_TEXT},
            "description": "Others; `Referer` and `Sec-Purpose` matter.",
        },
        delay={
            "type": ["number", "null"],
            "minimum": 0,
            "maximum": fields.MAX_DELAY,
            "description": "Seconds from sending to this open; null: not known.",
        },
    ),
    "Explanation": answer(
        verdict=choice(CLASSES, "What it would be taken for."),
        rule=text("The id of the rule that says so; `none`."),
        source=text("Where that rule is from."),
        ruleset=text("The version of the rules."),
        networks=array(text("A list that holds the address.")),
        soon_seconds=count("Opens within so many seconds of sending are scanners'."),
    ),
}
