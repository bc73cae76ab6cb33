"""Errors that handlers of the API and of the pages may raise, and the problems that answer them."""

from __future__ import annotations

import redis
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from pixel_server.campaigns.campaign import UnreadableCampaign, report_unreadable
from pixel_server.campaigns.storage import UnknownCampaign
from pixel_server.counters.stored_format import NewerFormat
from pixel_server.logs import Log
from pixel_server.problems import Problem, redis_unavailable
from pixel_server.store.replication import NotReplicatedError

log = Log(__name__)

_VALUE_ERRORS = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
"""Errors that are raised if a stored value has a form that this version does not expect."""
EXPECTED_ERRORS = (Problem, UnknownCampaign, redis.RedisError, OSError, NewerFormat, *_VALUE_ERRORS)
"""Errors for which `problem_of` has an answer."""


def problem_of(error: BaseException, request: Request) -> Problem:
    """Returns the problem that answers one of EXPECTED_ERRORS, and logs what the operator must know."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, UnknownCampaign):
        return Problem(404, f"{error}; perhaps it was deleted just now")
    if isinstance(error, NewerFormat):
        return Problem(503, f"{error}; update this server")
    if isinstance(error, NotReplicatedError):
        return Problem(503, str(error), headers={"Retry-After": "2"})
    if isinstance(error, redis.exceptions.OutOfMemoryError):
        log.error(
            "redis-full",
            "Redis is full and refuses %(route)s: see /readyz and raise its maxmemory",
            route=_route(request),
        )
        return Problem(503, "Redis is full, so nothing new can be kept; ask the operator to make room")
    if isinstance(error, UnreadableCampaign):
        report_unreadable(error)
        return Problem(409, f"the record of campaign {error.campaign!r} cannot be read: update this server")
    if isinstance(error, _VALUE_ERRORS):
        log.error(
            "value-unreadable",
            "cannot answer %(route)s: this version cannot read a value in the store",
            route=_route(request),
            exc=error,
        )
        return Problem(503, "the store holds something that this version cannot read; see the log")
    if isinstance(error, redis.RedisError) and not isinstance(
        error, (redis.ConnectionError, redis.TimeoutError)
    ):
        # Redis answers, but refuses the command: it is read-only or failing over.
        log.error("redis-refuses", "Redis refuses %(route)s: %(error)s", route=_route(request), error=error)
    return redis_unavailable()


def router_error(request: Request, error: Exception) -> Response:
    """Returns the problem response for a 404 or 405 that the router raised."""
    assert isinstance(error, HTTPException)
    detail = "there is nothing at this address" if error.status_code == 404 else str(error.detail)
    return Problem(error.status_code, detail, headers=error.headers).response()


def _route(request: Request) -> str:
    """Returns the path of a request's route: `"/api/campaigns/{id}"`. The own path may hold a token."""
    path: str = getattr(request.scope.get("route"), "path", "a page")
    return path
