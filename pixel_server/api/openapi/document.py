"""The API described as OpenAPI 3.1, put together from its parts. A test holds it against the routes."""

from __future__ import annotations

from typing import Any

from pixel_server import __version__
from pixel_server.api.openapi import (
    audit,
    breakdowns,
    campaigns,
    compare,
    explain,
    figures,
    health,
    inventory,
    keys,
    links,
    notes,
    one_recipient,
    overview,
    pixels,
    problems,
    recipients,
    shared,
    shares,
    stats,
    withdrawals,
)
from pixel_server.api.openapi.operation import call, ok, path
from pixel_server.api.openapi.schema import ref
from pixel_server.api.request_body import MAX_BODY_BYTES

_ABOUT = f"""\
JSON is UTF-8, {MAX_BODY_BYTES} bytes at most, without duplicate keys; unknown fields of a body are
refused, and unknown parameters of a query. Errors are problem details (RFC 9457). Ranges are half-open:
`from` lies in them, `to` does not. `null` in the place of a figure means that it is not known: no figure is
a guess."""

_ITSELF = {
    "/api/openapi.json": {
        "get": call("describe", None, "This document", (), {200: ok("It.", {"type": "object"})}),
    },
}

# The order of these two is the order in which the document lists calls and schemas.

_PATHS = {
    **campaigns.PATHS,
    **links.PATHS,
    **stats.PATHS,
    **breakdowns.PATHS,
    **overview.PATHS,
    **compare.PATHS,
    **explain.PATHS,
    **notes.PATHS,
    **shares.PATHS,
    **recipients.PATHS,
    **audit.PATHS,
    **one_recipient.PATHS,
    **withdrawals.PATHS,
    **inventory.PATHS,
    **keys.PATHS,
    **_ITSELF,
    **pixels.PATHS,
    **health.PATHS,
}

_SCHEMAS = {
    **campaigns.SCHEMAS,
    **links.SCHEMAS,
    **keys.SCHEMAS,
    **notes.SCHEMAS,
    **shares.SCHEMAS,
    **problems.SCHEMAS,
    **health.SCHEMAS,
    **one_recipient.SCHEMAS,
    **recipients.SCHEMAS,
    **inventory.SCHEMAS,
    **audit.SCHEMAS,
    **withdrawals.SCHEMAS,
    **figures.SCHEMAS,
    **breakdowns.SCHEMAS,
    **compare.SCHEMAS,
    **overview.SCHEMAS,
    **explain.SCHEMAS,
    **stats.SCHEMAS,
    **shared.SCHEMAS,
}


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
        "paths": _PATHS,
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "parameters": {"campaign": path("id", "A campaign.", ref("CampaignId"))},
            "responses": problems.RESPONSES,
            "schemas": _SCHEMAS,
        },
    }
    if base_url is not None:
        found["servers"] = [{"url": base_url}]
    return found
