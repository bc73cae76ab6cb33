"""Operations of the OpenAPI document: the declaration of a call, and the texts on it."""

from __future__ import annotations

from typing import Any, NamedTuple

from pixel_server.api.openapi.schema import ref
from pixel_server.api.openapi.values import Schema
from pixel_server.api.routing import Call

KEY_STATUSES, BODY_STATUSES = (400, 401, 403, 429, 503), (400, 408, 413, 415, 422)
"""Statuses of errors: of every call that needs an API key, and of every call that takes JSON."""

MAY_SHARE = "A shared key (with only the scope `read:CAMPAIGN`) may make this call for its own campaign"


class Operation(NamedTuple):
    """The parts of an operation that do not follow from the declaration of its call.

    response: the response to a successful call, or None for 204 without a body. status: status of a
    successful call. body: name of the schema of a JSON body, or the `content` of another body. problems:
    statuses of errors that do not follow from the declaration.
    """

    summary: str
    response: Schema | None = None
    description: str = ""
    status: int = 200
    body: str | Schema = ""
    problems: tuple[int, ...] = ()


def describe(call: Call, operation: Operation) -> Schema:
    """Returns the operation of a call as the document shows it."""
    statuses = set(operation.problems)
    statuses.add(400)  # too many parameters
    shown: Schema = {"operationId": call.handler.__name__, "summary": operation.summary}
    if operation.description:
        shown["description"] = operation.description
    if call.scope:
        shown["security"] = [{"bearer": [call.scope]}]
        statuses.update(KEY_STATUSES)
    if call.query:
        shown["parameters"] = [query(*parameter) for parameter in call.query]
        statuses.add(422)
    if "{" in call.path:
        statuses.add(404)
    if call.path.startswith("/api/campaigns/{id}"):
        statuses.add(409)  # a newer version wrote the campaign's record
    if operation.body:
        is_json = isinstance(operation.body, str)
        shown["requestBody"] = {
            "required": True,
            "content": content(ref(operation.body)) if isinstance(operation.body, str) else operation.body,
        }
        statuses.update(BODY_STATUSES if is_json else ())
    success = operation.response or {"description": "It is removed."}
    shown["responses"] = {
        str(operation.status if operation.response else 204): success,
        **{str(status): {"$ref": f"#/components/responses/{status}"} for status in sorted(statuses)},
    }
    return shown


def content(schema: Schema, media: str = "application/json") -> dict[str, Any]:
    return {media: {"schema": schema}}


def header(schema: Schema, description: str, required: bool = True) -> Schema:
    return {"description": description, "schema": schema, "required": required}


def path(name: str, description: str, schema: Schema) -> Schema:
    """Returns a parameter of a path."""
    return {"name": name, "in": "path", "required": True, "description": description, "schema": schema}


def query(name: str, schema: Schema, required: bool = False) -> Schema:
    """Returns a parameter of a query."""
    return {"name": name, "in": "query", "schema": schema, "required": required}


def ok(description: str, schema: Schema, **more: Any) -> Schema:
    """Returns a success response in JSON."""
    return {"description": description, "content": content(schema), **more}
