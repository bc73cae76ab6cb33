"""What all forms share: what is wrong beside each field, what was done, numbers as typed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api.context import Api
from pixel_server.dashboard import render
from pixel_server.problems import Problem

MOST_ERRORS = 20
"""Shown of a form."""


def whole(text: str) -> int | str | None:
    """A number as it was typed, `1200`; None for nothing. What is no number stays as it is, to be refused."""
    text = text.strip()
    if not text:
        return None
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 30 else text


def lines(text: str) -> list[str]:
    """What stands on each line, without those that are empty."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def errors(problem: Problem | None) -> dict[str, list[str]]:
    """What is wrong, by field. Of a row of a list, `row` counts from 0."""
    found: dict[str, list[str]] = {}
    for error in (problem.errors or [] if problem else [])[:MOST_ERRORS]:
        row = f"Row {error['row'] + 1} " if "row" in error else ""
        text = error["message"].replace("or null", "or empty").replace("or be null", "or be empty")
        found.setdefault(error["field"], []).append(row + text)
    return found


def page(
    api: Api,
    request: Request,
    template: str,
    fields: Mapping[str, str],
    context: Mapping[str, Any],
    problem: Problem | None = None,
) -> Response:
    """A form as it was filled in, with what is wrong, if anything is.

    A problem that is of no form (the campaign is gone, Redis is away) has a page of its own.
    """
    if problem and problem.status not in (409, 422):
        raise problem
    shown = {
        **context,
        "fields": fields,
        "errors": errors(problem),
        "refused": problem.detail if problem else "",
    }
    return render.page(api, request, template, shown, problem.status if problem else 200)


def done(api: Api, path: str, what: str, count: int | None = None) -> Response:
    """To a page that says what was done: see `render.DONE`. path: below the base."""
    return render.go(api, f"{path}?done={what}" + (f"&n={count}" if count is not None else ""))
