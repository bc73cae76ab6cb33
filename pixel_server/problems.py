"""Errors as RFC 9457 problem details."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

TYPE = "application/problem+json"
MAX_ERRORS = 100
"""Largest number of errors in a response. `errors_left_out` in the response counts the errors beyond it."""
BAD_CURSOR = {"field": "after", "message": "must be a cursor from `next`"}
"""Error for a cursor that was not the `next` of an earlier page of a list."""


class Problem(Exception):
    """An error that becomes the response.

    status: HTTP status. detail: a sentence for people. errors: the errors of single fields, such as
    `{"field": "to", "message": "must be a date"}`; the first MAX_ERRORS are kept. more: further members
    of the response.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        errors: list[dict[str, Any]] | None = None,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors[:MAX_ERRORS] if errors else errors
        self.headers = headers
        self.more = dict(more or {})
        if errors and len(errors) > MAX_ERRORS:
            self.more["errors_left_out"] = len(errors) - MAX_ERRORS

    def response(self) -> Response:
        """Returns the JSON response."""
        body: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            **self.more,
        }
        if self.errors is not None:
            body["errors"] = self.errors
        # ASCII only: the rejected input may be text that cannot be encoded as UTF-8.
        return Response(json.dumps(body), self.status, dict(self.headers or {}), TYPE)


def bad_parameters(errors: list[dict[str, Any]]) -> Problem:
    """Returns the error for parameters of a query. errors: as in Problem."""
    return Problem(422, "some parameters cannot be used", errors)


def bad_parameter(name: str, message: str) -> Problem:
    """Returns the error for one parameter of a query."""
    return bad_parameters([{"field": name, "message": message}])


def bad_fields(errors: list[dict[str, Any]]) -> Problem:
    """Returns the error for fields of a body. errors: as in Problem."""
    return Problem(422, "some fields cannot be used", errors)


def redis_unavailable() -> Problem:
    """Returns the error for a Redis that does not answer: the figures exist, but cannot be read now."""
    return Problem(503, "Redis does not answer; try again", headers={"Retry-After": "2"})
