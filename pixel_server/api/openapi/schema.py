"""Words that the schemas of the OpenAPI document are made of."""

from __future__ import annotations

from typing import Any

import msgspec

from pixel_server.api import fields
from pixel_server.campaigns import origins
from pixel_server.mail.links import MAX_RECIPIENT_CHARACTERS

Schema = dict[str, Any]


def ref(name: str) -> Schema:
    """Returns a reference to one of the document's schemas."""
    return {"$ref": f"#/components/schemas/{name}"}


def or_null(schema: Schema, description: str) -> Schema:
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


def array(items: Schema, **rules: Any) -> Schema:
    return {"type": "array", "items": items, **rules}


def mapping(values: Schema, description: str) -> Schema:
    """Returns the schema of an object with any keys and these values."""
    return {"type": "object", "additionalProperties": values, "description": description}


def answer(optional: tuple[str, ...] = (), /, **properties: Schema) -> Schema:
    """Returns the schema of an answer. It always has the fields that are not optional, and may get more."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def record(struct: type, /, *, without: tuple[str, ...] = (), **described: Schema | str) -> Schema:
    """Returns the schema of an answer with the fields of a struct.

    described: for each field its description; or its whole schema, if the API shows it in another way, as a
    time. without: fields that the API does not show. Raises ValueError if a field is not described.
    """
    _, components = msgspec.json.schema_components((struct,))
    known: dict[str, Schema] = components[struct.__name__]["properties"]
    if known.keys() - without != described.keys():
        raise ValueError(f"fields of {struct.__name__} that are not described, or the other way round")
    properties = {
        name: {"type": known[name]["type"], "description": field} if isinstance(field, str) else field
        for name, field in described.items()
    }
    return answer(**properties)


def with_field(schema: Schema, name: str, field: Schema) -> Schema:
    """Returns the schema of an answer with one more field."""
    return {
        **schema,
        "properties": {**schema["properties"], name: field},
        "required": [*schema["required"], name],
    }


def body(required: tuple[str, ...], **properties: Schema) -> Schema:
    """Returns the schema of a body, which cannot have other fields."""
    schema: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**schema, "required": list(required)} if required else schema


def page(item: str) -> Schema:
    """Returns the schema of a page of a list. item: the name of a schema."""
    following = text_or_null("Cursor of the next page, for `after`; null on the last page.")
    return answer(items=array(ref(item)), next=following)


_ONE_LINE = r"[^\x00-\x1f\x7f-\x9f]"
NAME = text(
    "A text for people, not only blanks, without control characters.",
    minLength=1,
    maxLength=fields.MAX_NAME_CHARACTERS,
    pattern=rf"^{_ONE_LINE}*[^\s\x00-\x1f\x7f-\x9f]{_ONE_LINE}*$",
)
RECIPIENT = text(
    "Any text without control characters. Only its keyed hash is stored.",
    minLength=1,
    maxLength=MAX_RECIPIENT_CHARACTERS,
    pattern=rf"^{_ONE_LINE}+$",
)
ORIGINS = array({"type": "string", "pattern": origins.PATTERN}, maxItems=fields.MAX_ORIGINS)
