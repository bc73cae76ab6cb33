"""Pixels, and the beacon of pages: they are open to all."""

from __future__ import annotations

from typing import Any

from pixel_server.api.openapi.operation import content, header, path, query
from pixel_server.api.openapi.schema import ref, text


def _pixel(parameter: dict[str, Any], summary: str, *asked: dict[str, Any]) -> dict[str, Any]:
    """The image stands in every answer, an error's too. `X-Pixel` says what became of the hit."""
    about = {"summary": summary, "responses": _images()}
    return {
        "parameters": [parameter, *asked],
        "get": {**about, "operationId": f"open_{parameter['name']}"},
        "head": {**about, "operationId": f"head_{parameter['name']}", "description": "A hit, but no open."},
    }


def _images(**more: str) -> dict[str, Any]:
    """What a pixel is answered with. more: of other statuses."""
    reason = {"X-Pixel": header({"type": "string"}, "What became of it: the word, then `; reason=...`.")}
    image = {"headers": reason, "content": {"image/gif": {}}}
    described = {
        "200": "`recorded`: it is stored. `ignored`: it is not to be counted.",
        "404": "`refused`: not a good pixel.",
        "503": "`failed`: it could not be stored in time.",
        **more,
    }
    return {status: {"description": what, **image} for status, what in sorted(described.items())}


_SAID = {
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
_REFUSED = {
    "400": "`refused; reason=body`: not that JSON.",
    "403": "`refused; reason=origin`: the campaign has `origins`, and the page is of another.",
    "408": "`refused; reason=body`: it did not arrive in time.",
    "413": "`refused; reason=body`: more than 4096 bytes.",
}

PATHS = {
    "/o/{token}.gif": _pixel(
        path("token", "Of a link that was made here.", text("", pattern="^[A-Za-z0-9_-]+$")),
        "Pixel of a mail",
    ),
    "/p/{campaign}.gif": _pixel(
        path("campaign", "A web campaign.", ref("CampaignId")),
        "Pixel of a web page",
        query("u", text("The page's URL. Default: `Referer`.")),
        query("r", text("Where its visitor came from.")),
        query("v", text("The page's own id of its visitor, with identity `own`. Kept as a hash.")),
        query("c", text("`1`: the page says yes to the cookie of identity `cookie`.")),
    ),
    "/p/{campaign}": {
        "parameters": [path("campaign", "A web campaign.", ref("CampaignId"))],
        "post": {
            "operationId": "send_beacon",
            "summary": "A view of a web page, or how long it was visible",
            "description": "What `/p.js` sends; as `text/plain` also, which a page of another site may "
            "send without asking first (CORS).",
            "requestBody": {"required": True, "content": content(_SAID)},
            "responses": _images(**_REFUSED),
        },
    },
}
