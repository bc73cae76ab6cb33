"""Routes of the API: its calls, the API keys and query parameters that they accept, and their answers."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pixel_server.api import request_form
from pixel_server.api.context import Api
from pixel_server.api.errors import EXPECTED_ERRORS, problem_of
from pixel_server.api.openapi.values import Schema
from pixel_server.api.request_stream import read_rest
from pixel_server.auth import api_keys, throttle
from pixel_server.problems import Problem, bad_parameters
from pixel_server.scopes import shared_campaigns


class Parameter(NamedTuple):
    """A parameter of a query. schema: its schema in the OpenAPI document."""

    name: str
    schema: Schema
    is_required: bool = False


Handler = Callable[[Api, Request], Awaitable[Response]]


class Call(NamedTuple):
    """One call of the API. scope: the scope that the API key needs, or None if the call needs no key.

    allows_shared_key: whether a shared key (a key with only `read:CAMPAIGN`) may make the call for its own
    campaign. If such a key makes the call, `request.state.has_shared_key` is true, and the handler shows
    less. query: the parameters that the call takes. Other parameters are refused, because a call with a
    mistyped `from` would return the figures of all time.
    """

    method: str
    path: str
    scope: str | None
    handler: Handler
    allows_shared_key: bool = False
    query: tuple[Parameter, ...] = ()


_json = msgspec.json.Encoder().encode


def reply(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Returns an answer in JSON that no cache keeps."""
    return Response(
        _json(content), status, {"Cache-Control": "no-store", **(headers or {})}, "application/json"
    )


class Routed(Protocol):
    """A call of the API or a page, to be routed by its method and path."""

    @property
    def method(self) -> str: ...

    @property
    def path(self) -> str: ...


RoutedType = TypeVar("RoutedType", bound=Routed)


def routes_by_path(
    kind: str, items: Iterable[RoutedType], answer: Callable[[RoutedType, Request], Awaitable[Response]]
) -> list[Route]:
    """Returns one route per path, so that a wrong method is answered with 405 and the allowed methods.

    kind: prefix of the routes' names. answer: answers a request for one of the items. A request with HEAD is
    answered by the item for GET.
    """
    by_path: dict[str, dict[str, RoutedType]] = {}
    for item in items:
        by_path.setdefault(item.path, {})[item.method] = item

    def endpoint(by_method: dict[str, RoutedType]) -> Callable[[Request], Awaitable[Response]]:
        async def answer_method(request: Request) -> Response:
            item = by_method["GET" if request.method == "HEAD" else request.method]
            response = await answer(item, request)
            await read_rest(request)
            return response

        return answer_method

    return [
        Route(path, endpoint(by_method), methods=list(by_method), name=f"{kind}:{path}")
        for path, by_method in by_path.items()
    ]


def routes(api: Api, calls: Iterable[Call]) -> list[Route]:
    """Returns the routes of the API."""

    async def answer(call: Call, request: Request) -> Response:
        started_at = time.monotonic()
        try:
            request_form.check_query(request)
            if call.scope is not None:
                refuse_other_store(api)
                await _check_key(api, request, call.scope, call.allows_shared_key)
            if call.query:
                _check_parameters(request, call.query)
            return await call.handler(api, request)
        except EXPECTED_ERRORS as error:
            return problem_of(error, request).response()
        finally:
            api.route_times.note(call.method, call.path, time.monotonic() - started_at)

    return routes_by_path("api", calls, answer)


def refuse_other_store(api: Api) -> None:
    """Raises Problem 503 if the store is not the one that this server used before."""
    if api.campaign_cache is not None and api.campaign_cache.mark.trouble:
        raise Problem(503, api.campaign_cache.mark.trouble, headers={"Retry-After": "10"})


async def _check_key(api: Api, request: Request, scope: str, allows_shared_key: bool) -> None:
    """Sets `who`, `scopes` and `has_shared_key` of the request's state from its API key.

    Raises Problem 401 if the key is missing or unknown, 429 if the key is unknown and too many wrong keys
    come, and 403 if the key lacks the scope.
    """
    kind, _, key = request.headers.get("authorization", "").partition(" ")
    challenge = {"WWW-Authenticate": "Bearer"}
    if kind.lower() != "bearer" or not key.strip():
        raise Problem(401, "send an API key: Authorization: Bearer KEY", headers=challenge)
    record = await api_keys.find_by_key(api.store, key.strip())
    if record is None:
        if await api.throttle.delay_failure(request, api.clock()):
            raise Problem(401, "this API key is not known", headers=challenge)
        headers = {**challenge, "Retry-After": str(throttle.RETRY_SECONDS)}
        raise Problem(
            429, "this API key is not known, and too many wrong keys come at the moment", headers=headers
        )
    request.state.who = f"key {record.id}"
    request.state.scopes = frozenset(record.scopes)
    request.state.has_shared_key = scope not in record.scopes
    if not request.state.has_shared_key:
        return
    own_campaigns = shared_campaigns(record.scopes)
    if not (allows_shared_key and request.path_params.get("id") in own_campaigns):
        more = "; it reads only the shared figures of its own campaigns" if own_campaigns else ""
        raise Problem(403, f"this API key has no scope {scope!r}{more}")


def _check_parameters(request: Request, parameters: tuple[Parameter, ...]) -> None:
    """Raises Problem 422 if a query parameter is unknown or is sent twice."""
    known_names = {parameter.name for parameter in parameters}
    sent_names = [name for name, _ in request.query_params.multi_items()]
    errors = [
        {"field": name[:100], "message": "is given twice" if name in known_names else "is not known"}
        for name in dict.fromkeys(sent_names)
        if name not in known_names or sent_names.count(name) > 1
    ]
    if errors:
        raise bad_parameters(errors)
