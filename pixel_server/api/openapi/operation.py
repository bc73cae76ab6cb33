"""The words that operations are made of, and what many of them have in common."""

from __future__ import annotations

from typing import Any

from pixel_server.api.openapi.schema import Schema, answer, array, or_null, ref, text

KEYED, BODY = (400, 401, 403, 429, 503), (400, 408, 413, 415, 422)
"""Statuses of every call with a key, and of every call that takes JSON."""

CAMPAIGN = {"$ref": "#/components/parameters/campaign"}
GONE = {"description": "It is gone."}
SHARED = "A key of the scope `read:CAMPAIGN` may ask this of its own campaign"


def call(
    name: str, scope: str | None, summary: str, problems: tuple[int, ...], good: dict[int, Any], **more: Any
) -> dict[str, Any]:
    """An operation. problems: statuses beside those of every call with a key. body: a schema's name."""
    statuses = sorted({*problems, *(KEYED if scope else ())})
    found: dict[str, Any] = {"operationId": name, "summary": summary}
    if scope:
        found["security"] = [{"bearer": [scope]}]
    if sent := more.pop("body", None):
        found["requestBody"] = {"required": True, "content": content(ref(sent))}
    answers = {status: {"$ref": f"#/components/responses/{status}"} for status in statuses}
    return {
        **found,
        **more,
        "responses": {str(status): response for status, response in (good | answers).items()},
    }


def content(schema: Schema, media: str = "application/json") -> dict[str, Any]:
    return {media: {"schema": schema}}


def header(schema: Schema, description: str, required: bool = True) -> Schema:
    return {"description": description, "schema": schema, "required": required}


def path(name: str, description: str, schema: Schema) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "description": description, "schema": schema}


def query(name: str, schema: Schema, *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "required": required}


def ok(description: str, schema: Schema, **more: Any) -> dict[str, Any]:
    return {"description": description, "content": content(schema), **more}


def page(item: str) -> Schema:
    return answer(
        items=array(ref(item)),
        next=or_null(text(""), "Cursor of the next page, for `after`; null on the last."),
    )
