"""Checks that every answer of the API in the tests fits the OpenAPI document.

A pytest plugin, which tests/conftest.py loads. It checks the answers that a test client receives, and those
of `Stack.call`. An answer must have a status, a media type, headers and a body that the document describes. A
field that the document does not describe is an error too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import jsonschema_rs
import pytest
from starlette.testclient import TestClient

from pixel_server.api.openapi.document import document
from pixel_server.api.routes import CALLS
from pixel_server.problems import TYPE
from tests.stack import Stack

DOCUMENT = document(None, CALLS)
_COMPONENTS = "#/components/"


class Unfit(AssertionError):
    """An answer that the document does not describe."""


@cache
def _templates() -> list[tuple[re.Pattern[str], str]]:
    """Returns a pattern of each path, and the path. A path that may be taken for another comes first."""
    paths = sorted(DOCUMENT["paths"], key=lambda path: ("{" in path, path.endswith("}"), path))
    return [
        (re.compile("(?:/.*)?" + re.sub(r"\\\{[a-z]+\\\}", "[^/]+", re.escape(path))), path) for path in paths
    ]


@cache
def _path_of(path: str) -> str | None:
    """Returns the path of the document that a request's path belongs to, or None."""
    return next((template for pattern, template in _templates() if pattern.fullmatch(path)), None)


def _resolve(part: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in part:
        kind, name = part["$ref"].removeprefix(_COMPONENTS).split("/")
        part = DOCUMENT["components"][kind][name]
    return part


def closed(schema: Any) -> Any:
    """Returns a schema that refuses fields which it does not describe."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    parts = {name: closed(part) for name, part in schema.items()}
    if isinstance(parts.get("properties"), dict) and parts.get("type") in ("object", ["object", "null"]):
        parts.setdefault("additionalProperties", False)
    return parts


@cache
def _components() -> dict[str, Any]:
    return {"schemas": closed(DOCUMENT["components"]["schemas"])}


@cache
def _validator(template: str, method: str, status: str, media: str) -> Any:
    """Returns the validator of a body. It is compiled once per process."""
    schema = _response(template, method, status)["content"][media]["schema"]
    return jsonschema_rs.validator_for({**closed(schema), "components": _components()}, validate_formats=True)


@cache
def _response(template: str, method: str, status: str) -> dict[str, Any]:
    """Returns the response of an operation. Raises Unfit if the document lacks it."""
    operations = DOCUMENT["paths"][template]
    if method not in operations:
        if template.startswith(("/o/", "/p/")):  # answers any method with the image, see docs/api.md
            return {"content": {"image/gif": {}}}
        if status == "405":
            return {"content": {TYPE: {}}}
        raise Unfit(f"the document has no {method}")
    responses = operations[method]["responses"]
    if status not in responses:
        raise Unfit(f"the document has only the statuses {', '.join(responses)}")
    return _resolve(responses[status])


def check_answer(method: str, path: str, status: int, headers: Mapping[str, str] | None, body: Any) -> None:
    """Raises Unfit if the document does not describe an answer.

    headers: None if they are not known; body is then the content of the JSON, else the bytes.
    """
    template = _path_of(path.partition("?")[0])
    if template is None:
        return
    method = method.lower()
    if method == "head" and "head" not in DOCUMENT["paths"][template]:
        method, body = "get", b""
    try:
        response = _response(template, method, str(status))
        if headers is not None:
            _check_headers(response, headers)
        media, content = _media(response, headers, body)
        if content is not None and "schema" in response["content"][media]:
            _validator(template, method, str(status), media).validate(content)
    except (Unfit, jsonschema_rs.ValidationError) as error:
        raise Unfit(f"{method.upper()} {path} was answered {status}: {error}\n{str(body)[:2000]}") from None


def _check_headers(response: dict[str, Any], headers: Mapping[str, str]) -> None:
    for name, header in response.get("headers", {}).items():
        if name not in headers:
            if header["required"]:
                raise Unfit(f"the header {name} is missing")
        elif (header["schema"].get("type") == "integer" and not headers[name].isdigit()) or headers[
            name
        ] != header["schema"].get("const", headers[name]):
            raise Unfit(f"the header {name} is {headers[name]}")


def _media(response: dict[str, Any], headers: Mapping[str, str] | None, body: Any) -> tuple[str, Any]:
    """Returns (media type, content) of an answer. The content is None if it is not to be validated."""
    described = response.get("content", {})
    if headers is None:
        media = next((media for media in described if media.endswith("json")), "")
        return media, body if media else None
    if not body:
        return "", None
    media = headers.get("content-type", "").partition(";")[0]
    if media not in described:
        raise Unfit(f"the document has only the types {', '.join(described)}, and not {media}")
    if media.endswith("+json") or media == "application/json":
        return media, json.loads(body)
    return media, body.decode() if media.startswith(("text/", "application/x-ndjson")) else None


@pytest.fixture(autouse=True, scope="session")
def _check_every_answer() -> Any:
    send, call = TestClient.send, Stack.call

    def send_and_check(self: TestClient, request: Any, **options: Any) -> Any:
        answer = send(self, request, **options)
        if not options.get("stream"):
            sent = answer.request
            path = sent.url.raw_path.decode()
            check_answer(sent.method, path, answer.status_code, answer.headers, answer.content)
        return answer

    def call_and_check(self: Stack, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        status, content = call(self, method, path, body)
        check_answer(method, path, status, None, content)
        return status, content

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TestClient, "send", send_and_check)
        patch.setattr(Stack, "call", call_and_check)
        yield
