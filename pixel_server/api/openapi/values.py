"""Schemas of single values in the OpenAPI document: counts, texts, times, names."""

from __future__ import annotations

from typing import Any

from pixel_server.api import fields
from pixel_server.campaigns import origins, tags
from pixel_server.mail.links import MAX_RECIPIENT_CHARACTERS

Schema = dict[str, Any]


def or_null(schema: Schema, description: str) -> Schema:
    """Returns the schema of a value that may also be null."""
    if "enum" in schema:
        return {"enum": [*schema["enum"], None], "description": description}
    if "type" in schema:
        return {**schema, "type": [schema["type"], "null"], "description": description}
    return {"anyOf": [schema, {"type": "null"}], "description": description}


def count(description: str) -> Schema:
    return {"type": "integer", "minimum": 0, "description": description}


def flag(description: str) -> Schema:
    return {"type": "boolean", "description": description}


def text(description: str, **rules: Any) -> Schema:
    return {"type": "string", **rules, "description": description}


def instant(description: str) -> Schema:
    return text(description, format="date-time")


def instant_or_null(description: str) -> Schema:
    return or_null(instant(""), description)


def text_or_null(description: str) -> Schema:
    return or_null(text(""), description)


def choice(choices: tuple[str, ...], description: str, **rules: Any) -> Schema:
    return text(description, enum=list(choices), **rules)


ONE_LINE = r"[^\x00-\x1f\x7f-\x9f]"
NAME = text(
    "A text for people. Must not be blank, and must not contain control characters.",
    minLength=1,
    maxLength=fields.MAX_NAME_CHARACTERS,
    pattern=rf"^{ONE_LINE}*[^\s\x00-\x1f\x7f-\x9f]{ONE_LINE}*$",
)
RECIPIENT = text(
    "Any text without control characters. Only its keyed hash is stored.",
    minLength=1,
    maxLength=MAX_RECIPIENT_CHARACTERS,
    pattern=rf"^{ONE_LINE}+$",
)
TAG = text(
    "A tag, without commas and control characters.",
    minLength=1,
    maxLength=tags.MAX_TAG_CHARACTERS,
    pattern=r"^[^\x00-\x1f\x7f-\x9f,]*[^\s\x00-\x1f\x7f-\x9f,][^\x00-\x1f\x7f-\x9f,]*$",
)
TAGS = {"type": "array", "items": TAG, "maxItems": tags.MAX_TAGS}
ORIGINS = {
    "type": "array",
    "items": {"type": "string", "pattern": origins.PATTERN},
    "maxItems": fields.MAX_ORIGINS,
}
