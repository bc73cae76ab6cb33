"""Answers requests with 503 while too many requests wait. The answers are built once, so they are cheap."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Scope

from pixel_server.api.context import Api
from pixel_server.api.report_slots import BusyAnswer
from pixel_server.dashboard import render
from pixel_server.problems import Problem

DETAIL = "too many pages are requested at once; try again"
RETRY_SECONDS = 5


def answers(api: Api) -> BusyAnswer:
    """Returns a function that picks the 503 answer: problem details for programs, a page for browsers."""
    retry = {"Retry-After": str(RETRY_SECONDS)}
    problem = Problem(503, DETAIL, headers={**retry, "Cache-Control": "no-store"}).response()
    empty_request = Request({"type": "http", "query_string": b"", "headers": [], "state": {}})
    page = render.error(api, empty_request, 503, "Too many pages are requested at once.", more=retry)
    prefix = render.prefix(api.settings)

    def answer(scope: Scope) -> ASGIApp:
        is_api = scope["path"].removeprefix(prefix).startswith("/api")
        accepts = next((value for name, value in scope["headers"] if name == b"accept"), b"")
        response: Response = problem if is_api or b"text/html" not in accepts else page
        return response

    return answer
