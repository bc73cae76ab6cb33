"""JSON bodies of requests: read strictly, checked field by field, with every bad field named."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from starlette.requests import Request

from pixel_server.api.media_types import refuse_codings
from pixel_server.api.request_stream import BodyError, read_body
from pixel_server.problems import Problem, bad_fields

MAX_BODY_BYTES = 2 << 20
MAX_UNKNOWN_FIELDS = 100
"""Largest number of unknown fields of an object that are named one by one."""
_MAX_DIGITS = 30
"""Largest number of digits of an integer. Python takes long to parse very long integers."""

Check = Callable[[Any], Any]
"""Checks the value of a field and returns it, perhaps converted. Raises ValueError if the value is bad."""


async def read_json(request: Request) -> Any:
    """Returns the parsed JSON of a request's body.

    Raises Problem 400 if the body is not JSON or is cut off, 408 if it comes too late, 413 if it is too
    large, and 415 if it has another content type or is compressed.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise Problem(415, "send JSON, with Content-Type: application/json")
    refuse_codings(request)
    try:
        body = await read_body(request, MAX_BODY_BYTES)
    except BodyError as error:
        raise Problem(error.status, f"the body {error}", headers=error.headers) from None
    try:
        return json.loads(
            body.decode(),
            object_pairs_hook=_object_without_duplicates,
            parse_constant=_refuse_constant,
            parse_int=_short_integer,
        )
    except UnicodeDecodeError:
        raise Problem(400, "the body is not UTF-8") from None
    except RecursionError:
        raise Problem(400, "the JSON is nested too deeply") from None
    except ValueError as error:
        raise Problem(400, f"the body cannot be used as JSON: {error}") from None


def check_fields(
    body: Any, checks: Mapping[str, Check], required: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """Returns the checked fields of an object. Raises Problem 422 that names each bad or missing field."""
    fields, errors = check_each_field(body, checks, required)
    if errors:
        raise bad_fields(errors)
    return fields


def check_each_field(
    body: Any, checks: Mapping[str, Check], required: frozenset[str] = frozenset()
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns (the good fields, the errors of the others). Raises Problem 422 if `body` is not an object."""
    if not isinstance(body, dict):
        raise Problem(422, "send a JSON object")
    if len(body) > len(checks) + MAX_UNKNOWN_FIELDS:
        raise Problem(422, f"an object has {len(body)} fields, but only {len(checks)} are known")
    fields: dict[str, Any] = {}
    errors = [{"field": name, "message": "is missing"} for name in sorted(required - body.keys())]
    for name, value in body.items():
        if name not in checks:
            errors.append({"field": name[:100], "message": "is not known"})
            continue
        try:
            fields[name] = checks[name](value)
        except ValueError as error:
            errors.append({"field": name, "message": str(error)})
    return fields, errors


def _object_without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return members


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


def _short_integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError("a number has too many digits")
    return int(digits)
