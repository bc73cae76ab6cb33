"""Pixels, and the beacon that the script of web pages sends. They need no API key."""

from __future__ import annotations

from pixel_server.api.openapi.operation import content, header, path, query
from pixel_server.api.openapi.schema import ref
from pixel_server.api.openapi.values import Schema, text


def _pixel(parameter: Schema, summary: str, *parameters: Schema) -> Schema:
    about = {"summary": summary, "responses": _images()}
    description = "A HEAD request counts as a hit, but not as an open."
    return {
        "parameters": [parameter, *parameters],
        "get": {**about, "operationId": f"open_{parameter['name']}"},
        "head": {**about, "operationId": f"head_{parameter['name']}", "description": description},
    }


def _images(**more: str) -> Schema:
    """Returns the responses of a pixel, each with the image. more: descriptions of other statuses."""
    result = {
        "X-Pixel": header(
            {"type": "string"}, "Result for the hit: one word, sometimes followed by `; reason=...`."
        )
    }
    image = {"headers": result, "content": {"image/gif": {}}}
    descriptions = {
        "200": "`recorded`: the hit is stored. `ignored`: the hit is not to be counted.",
        "404": "`refused`: not a pixel of this server.",
        "503": "`failed`: the hit could not be stored in time.",
        **more,
    }
    return {status: {"description": text, **image} for status, text in sorted(descriptions.items())}


_BEACON = {
    "type": "object",
    "required": ["i"],
    "properties": {
        "i": text("Id of one view, which the page makes up.", pattern="^[A-Za-z0-9_-]{1,32}$"),
        "u": text("URL of the page. Default: `Referer`."),
        "r": text("URL that the visitor came from."),
        "v": text("The page's own id for the visitor, if the campaign's identity is `own`."),
        "c": {
            "type": "number",
            "description": "1: the visitor consents to the cookie, if the identity is `cookie`.",
        },
        "t": {
            "type": "number",
            "minimum": 0,
            "description": "Milliseconds for which the page has been visible. A beacon with this field is "
            "a report on an earlier view, not a view.",
        },
    },
}
_REFUSALS = {
    "400": "`refused; reason=body`: the body is not this JSON.",
    "403": "`refused; reason=origin`: the campaign has `origins`, and the page has another origin.",
    "408": "`refused; reason=body`: the body did not arrive in time.",
    "413": "`refused; reason=body`: the body has more than 4096 bytes.",
}

PATHS = {
    "/o/{token}.gif": _pixel(
        path("token", "Token of a link that this server made.", text("", pattern="^[A-Za-z0-9_-]+$")),
        "Pixel of a mail",
    ),
    "/p/{campaign}.gif": _pixel(
        path("campaign", "A web campaign.", ref("CampaignId")),
        "Pixel of a web page",
        query("u", text("URL of the page. Default: `Referer`.")),
        query("r", text("URL that the visitor came from.")),
        query("v", text("The page's own id for the visitor, if the identity is `own`. Stored as a hash.")),
        query("c", text("`1`: the visitor consents to the cookie, if the identity is `cookie`.")),
    ),
    "/p/{campaign}": {
        "parameters": [path("campaign", "A web campaign.", ref("CampaignId"))],
        "post": {
            "operationId": "send_beacon",
            "summary": "A view of a web page, or how long it was visible",
            "description": "The script `/p.js` sends this. The body may also be sent as `text/plain`, which "
            "needs no CORS preflight from another site.",
            "requestBody": {"required": True, "content": content(_BEACON)},
            "responses": _images(**_REFUSALS),
        },
    },
}
