"""Parts of all forms: parsing fields, error messages beside fields, the redirect after success."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api.context import Api
from pixel_server.dashboard import render
from pixel_server.problems import Problem, bad_fields, bad_parameters

MAX_ERRORS = 20
"""Largest number of error messages that a form shows."""


def parse_whole(text: str) -> int | str | None:
    """Returns a whole number: 1200 for `"1200"`. Returns None if the text is empty.

    Returns other text as it is, so that the API refuses it.
    """
    text = text.strip()
    if not text:
        return None
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 30 else text


def lines(text: str) -> list[str]:
    """Returns the lines that are not empty, without white space at both ends."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def errors(problem: Problem | None) -> dict[str, list[str]]:
    """Returns the error messages of each field.

    An error in an entry of a list has `row`, the position of the entry, counted from 0.
    """
    by_field: dict[str, list[str]] = {}
    for error in (problem.errors or [] if problem else [])[:MAX_ERRORS]:
        row = f"Row {error['row'] + 1} " if "row" in error else ""
        text = error["message"].replace("or null", "or empty").replace("or be null", "or be empty")
        by_field.setdefault(error["field"], []).append(row + text)
    return by_field


def with_message(problem: Problem, field: str, message: str) -> Problem:
    """Returns a problem whose error in a field, if it has one, has another message."""
    errors = [
        {**error, "message": message} if error["field"] == field else error for error in problem.errors or []
    ]
    return Problem(problem.status, problem.detail, errors)


def page(
    api: Api,
    request: Request,
    template: str,
    fields: Mapping[str, str],
    context: Mapping[str, Any],
    problem: Problem | None = None,
) -> Response:
    """Returns the page of a form with its fields and, if the form was refused, with error messages.

    problem: the reason of the refusal. The problem is raised again if the user cannot solve it in the form,
    because the campaign was deleted or Redis does not answer.
    """
    if problem and problem.status not in (409, 422):
        raise problem
    template_context = {
        **context,
        "fields": fields,
        "errors": errors(problem),
        "refused": _summary(problem) if problem else "",
    }
    return render.page(api, request, template, template_context, problem.status if problem else 200)


def _summary(problem: Problem) -> str:
    """Returns the text above a refused form. The messages of single fields stand at the fields."""
    is_general = problem.detail in (bad_fields([]).detail, bad_parameters([]).detail)
    if not (is_general and problem.errors):
        return problem.detail
    return (
        "correct this field"
        if len({error["field"] for error in problem.errors}) == 1
        else "correct these fields"
    )


def done(api: Api, path: str, message: str, count: int | None = None) -> Response:
    """Redirects to a page that shows a success message. message: a name in `render.DONE_MESSAGES`.

    count: the number that the message shows.
    """
    return render.redirect(api, f"{path}?done={message}" + (f"&n={count}" if count is not None else ""))
