"""Schemas of objects and lists in the OpenAPI document, made from the schemas of their parts."""

from __future__ import annotations

from typing import Any

import msgspec

from pixel_server.api.openapi.values import Schema, text_or_null


def ref(name: str) -> Schema:
    """Returns a reference to one of the document's schemas."""
    return {"$ref": f"#/components/schemas/{name}"}


def array(items: Schema, **rules: Any) -> Schema:
    return {"type": "array", "items": items, **rules}


def mapping(values: Schema, description: str) -> Schema:
    """Returns the schema of an object with any keys and these values."""
    return {"type": "object", "additionalProperties": values, "description": description}


def answer(optional: tuple[str, ...] = (), /, **properties: Schema) -> Schema:
    """Returns the schema of an answer. optional: fields that may be missing.

    The schema allows other fields, because a later version may add fields to an answer.
    """
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def record(struct: type, /, *, without: tuple[str, ...] = (), **described: Schema | str) -> Schema:
    """Returns the schema of an answer with the fields of a struct.

    described: the description of each field, or the field's whole schema if the API shows the field in
    another form, such as a time. without: fields that the API does not show. Raises ValueError if a field is
    not described.
    """
    _, components = msgspec.json.schema_components((struct,))
    struct_fields: dict[str, Schema] = components[struct.__name__]["properties"]
    if struct_fields.keys() - without != described.keys():
        raise ValueError(f"the described fields are not the fields of {struct.__name__}")
    properties = {
        name: {"type": struct_fields[name]["type"], "description": field} if isinstance(field, str) else field
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
    """Returns the schema of a body. A body with other fields is refused."""
    schema: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**schema, "required": list(required)} if required else schema


CURSOR = text_or_null("Cursor of the next page, for `after`; null on the last page.")


def page(item: str) -> Schema:
    """Returns the schema of a page of a list. item: the name of a schema."""
    return answer(items=array(ref(item)), next=CURSOR)
