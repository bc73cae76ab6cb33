"""The words that schemas are made of."""

from __future__ import annotations

from typing import Any

from pixel_server.api import fields
from pixel_server.mail.links import MAX_RECIPIENT

Schema = dict[str, Any]


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def or_null(schema: Schema, description: str) -> Schema:
    if "type" in schema:
        return {**schema, "type": [schema["type"], "null"], "description": description}
    return {"anyOf": [schema, {"type": "null"}], "description": description}


def count(description: str) -> Schema:
    return {"type": "integer", "minimum": 0, "description": description}


def text(description: str, **rules: Any) -> Schema:
    return {"type": "string", **rules, "description": description}


def instant(description: str) -> Schema:
    return text(description, format="date-time")


def choice(choices: tuple[str, ...], description: str, **rules: Any) -> Schema:
    return text(description, enum=list(choices), **rules)


def array(items: Schema, **rules: Any) -> Schema:
    return {"type": "array", "items": items, **rules}


def answer(optional: tuple[str, ...] = (), /, **properties: Schema) -> Schema:
    """An answer: all fields are there but the optional ones, and later versions may add some."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def taken(required: tuple[str, ...], **properties: Schema) -> Schema:
    """What is taken: nothing but these fields."""
    found: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**found, "required": list(required)} if required else found


NAME = text(
    "For people. Not only blanks, no control characters.",
    minLength=1,
    maxLength=fields.MAX_NAME,
    pattern=r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$",
)

RECIPIENT = text(
    "Any string without control characters. Only its keyed hash is kept.",
    minLength=1,
    maxLength=MAX_RECIPIENT,
    pattern=r"^[^\x00-\x1f\x7f-\x9f]+$",
)
