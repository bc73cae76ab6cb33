"""The answer to a request that comes while too many are waiting: made once, for it must cost little."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Scope

from pixel_server.api.context import Api
from pixel_server.api.report_slots import BusyAnswer
from pixel_server.dashboard import render
from pixel_server.problems import Problem

DETAIL = "too many pages are asked for at once; try again"
RETRY_SECONDS = 5


def answers(api: Api) -> BusyAnswer:
    """Gives problem details to the API and to programs, a page to a browser; 503 with Retry-After both."""
    again = {"Retry-After": str(RETRY_SECONDS)}
    problem = Problem(503, DETAIL, headers={**again, "Cache-Control": "no-store"}).response()
    nothing_asked = Request({"type": "http", "query_string": b"", "headers": [], "state": {}})
    page = render.error(api, nothing_asked, 503, "Too many pages are asked for at once.", more=again)
    prefix = render.prefix(api.settings)

    def answer(scope: Scope) -> ASGIApp:
        is_api = scope["path"].removeprefix(prefix).startswith("/api")
        accepts = next((value for name, value in scope["headers"] if name == b"accept"), b"")
        found: Response = problem if is_api or b"text/html" not in accepts else page
        return found

    return answer
