"""The OpenAPI 3.1 document, made from the declarations of the calls and the texts on each resource.

A test compares the document with the routes and with their answers.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType
from typing import Any

from pixel_server import __version__
from pixel_server.api.openapi import (
    audience,
    audit,
    campaigns,
    deliveries,
    explain,
    health,
    incoming,
    inventory,
    keys,
    links,
    notes,
    overview,
    pixels,
    problems,
    recipients,
    shared_stats,
    shares,
    stats,
    totals,
    webhooks,
    withdrawals,
)
from pixel_server.api.openapi.operation import Operation, describe, ok, path
from pixel_server.api.openapi.schema import ref
from pixel_server.api.openapi.values import Schema
from pixel_server.api.request_body import MAX_BODY_BYTES
from pixel_server.api.routing import Call
from pixel_server.times import MAX_INSTANT, iso

_ABOUT = f"""\
JSON is UTF-8, {MAX_BODY_BYTES} bytes at most, without duplicate keys. Unknown fields of a body are refused,
and so are unknown parameters of a query. Errors are problem details (RFC 9457). Ranges are half-open: they
include `from` and exclude `to`. A figure that is not known is `null`, never a guess. Times in
bodies have an offset, and lie between 1970 and {iso(MAX_INSTANT)[:10]}."""

_RESOURCES: tuple[ModuleType, ...] = (
    *(campaigns, links, stats, overview, explain, notes, shares, recipients, audience),
    *(audit, withdrawals, inventory, keys, deliveries, webhooks),
)
"""Modules of the resources. Each has OPERATIONS, by the name of the handler, and SCHEMAS, by name."""
_OPERATIONS: dict[str, Operation] = {
    "describe": Operation("This document", ok("The document.", {"type": "object"})),
    **{name: operation for module in _RESOURCES for name, operation in module.OPERATIONS.items()},
}
_SCHEMAS: dict[str, Schema] = {
    name: schema
    for module in (*_RESOURCES, problems, health, totals, shared_stats)
    for name, schema in module.SCHEMAS.items()
}
_PATH_PARAMETERS: dict[str, Schema] = {
    "campaigns/{id}": {"$ref": "#/components/parameters/campaign"},
    "notes/{note}": path("note", "A note's id.", ref("NoteId")),
    "shares/{share}": path("share", "A share link's id.", ref("ShareId")),
    "sources/{source}": path("source", "A source's id, not its secret.", ref("SourceId")),
    "recipients/{key}": path("key", "A recipient's key.", ref("RecipientKey")),
    "webhooks/{id}": path("id", "A webhook's id.", ref("WebhookId")),
    "keys/{id}": path("id", "An API key's id, not the key.", ref("ApiKeyId")),
}
"""Parameters of paths, by the part of the path that contains them."""


def document(base_url: str | None, calls: Iterable[Call]) -> dict[str, Any]:
    """Returns the document. base_url: public address of this server, or None if not known."""
    paths: dict[str, Schema] = {}
    for call in calls:
        item = paths.setdefault(call.path, {})
        parameters = [schema for part, schema in _PATH_PARAMETERS.items() if part in call.path]
        if parameters:
            item["parameters"] = parameters
        item[call.method.lower()] = describe(call, _OPERATIONS[call.handler.__name__])
    content: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "pixel-server",
            "version": __version__,
            "summary": "Counts opens of mails and views of web pages by tracking pixels.",
            "description": _ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": {**paths, **incoming.PATHS, **pixels.PATHS, **health.PATHS},
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "parameters": {"campaign": path("id", "A campaign's id.", ref("CampaignId"))},
            "responses": problems.RESPONSES,
            "schemas": _SCHEMAS,
        },
    }
    if base_url is not None:
        content["servers"] = [{"url": base_url}]
    return content
