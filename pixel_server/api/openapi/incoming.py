"""The address to which mail services report events. It needs no API key, but holds a secret."""

from __future__ import annotations

from pixel_server.api.incoming import MAX_BODY_BYTES
from pixel_server.api.openapi.deliveries import COUNTS
from pixel_server.api.openapi.operation import content, ok, path
from pixel_server.api.openapi.schema import answer, array
from pixel_server.api.openapi.values import Schema, count, text
from pixel_server.deliveries.event import MAX_ERRORS
from pixel_server.deliveries.providers import PROVIDERS
from pixel_server.problems import TYPE

_REFUSALS = {
    "400": "The body is not what the provider sends.",
    "403": "The signature, the user or the password is missing or wrong.",
    "404": "No source has this address.",
    "408": "The body did not come in time.",
    "413": f"The body has more than {MAX_BODY_BYTES} bytes.",
    "415": "The body is compressed.",
    "429": "Too many requests to wrong addresses come at the moment.",
    "503": "Try again: Redis does not answer, the key is not set yet, or too many reports come.",
}


def _refusal(description: str) -> Schema:
    return {"description": description, "content": content({"$ref": "#/components/schemas/Problem"}, TYPE)}


_COUNTED = answer(
    **COUNTS,
    errors=array(
        answer(
            item=count("Position of the event in the request, from 1."),
            message=text("What is wrong with it."),
        ),
        maxItems=MAX_ERRORS,
        description="Events that cannot be used. The others are counted.",
    ),
)

PATHS: dict[str, Schema] = {
    "/in/{provider}/{secret}": {
        "parameters": [
            path("provider", "The mail service.", text("", enum=list(PROVIDERS))),
            path("secret", "The secret of a source.", text("", pattern="^[A-Za-z0-9_-]+$")),
        ],
        "post": {
            "operationId": "report_events",
            "summary": "Events, as the mail service sends them",
            "description": "Events that say nothing of delivery, and those of other campaigns, are ignored.",
            "requestBody": {"required": True, "content": content({})},
            "responses": {
                "200": ok("The events are counted, or ignored.", _COUNTED),
                **{status: _refusal(description) for status, description in _REFUSALS.items()},
            },
        },
    },
}
