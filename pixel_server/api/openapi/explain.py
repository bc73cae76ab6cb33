"""The call that explains the verdict on a hit."""

from __future__ import annotations

from pixel_server.api import fields
from pixel_server.api.openapi.operation import Operation, ok
from pixel_server.api.openapi.schema import answer, array, body, ref
from pixel_server.api.openapi.values import choice, count, text
from pixel_server.verdicts import CLASSES

OPERATIONS = {
    "explain_hit": Operation(
        "Explain the verdict on a hit", ok("The verdict.", ref("Explanation")), body="HitToExplain"
    ),
}

SCHEMAS = {
    "HitToExplain": body(
        ("user_agent", "ip"),
        user_agent=text("The user agent as sent.", maxLength=fields.MAX_TEXT_CHARACTERS),
        ip=text("The client's address.", anyOf=[{"format": "ipv4"}, {"format": "ipv6"}]),
        headers={
            "type": "object",
            "maxProperties": fields.MAX_HEADERS,
            "propertyNames": {"maxLength": fields.MAX_TEXT_CHARACTERS},
            "additionalProperties": {"type": "string", "maxLength": fields.MAX_TEXT_CHARACTERS},
            "description": "Other headers, such as `Referer` and `Sec-Purpose`, which rules use.",
        },
        delay={
            "type": ["number", "null"],
            "minimum": 0,
            "maximum": fields.MAX_DELAY_SECONDS,
            "description": "Seconds from sending to this open; null if not known.",
        },
    ),
    "Explanation": answer(
        verdict=choice(CLASSES, "The class of the hit."),
        rule=text("Id of the rule that decided; `none` if no rule did."),
        source=text("Where the rule comes from."),
        ruleset=text("Version of the rules and, after the slash, of the lists of networks."),
        networks=array(text("A list of networks that contains the address.")),
        soon_seconds=count("Seconds after sending within which an open counts as a scanner's."),
        delivery_seconds=count("Seconds after sending within which mail gateways fetch images."),
    ),
}
