"""Errors, as RFC 9457 problem details."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

TYPE = "application/problem+json"


MOST_ERRORS = 100
"""Errors that one answer names; `errors_left_out` then says how many more there are."""


class Problem(Exception):
    """An answer other than what was asked for. errors: what is wrong, field by field, of which the first
    MOST_ERRORS are kept. more: members."""

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
        self.errors = errors[:MOST_ERRORS] if errors else errors
        self.headers = headers
        self.more = dict(more or {})
        if errors and len(errors) > MOST_ERRORS:
            self.more["errors_left_out"] = len(errors) - MOST_ERRORS

    def response(self) -> Response:
        body: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            **self.more,
        }
        if self.errors is not None:
            body["errors"] = self.errors
        # ASCII only: what is wrong with the input may be that it cannot be UTF-8.
        return Response(json.dumps(body), self.status, dict(self.headers or {}), TYPE)


def away() -> Problem:
    """Redis does not answer: the figures are somewhere, but not to be had now."""
    return Problem(503, "Redis does not answer; try again", headers={"Retry-After": "2"})
