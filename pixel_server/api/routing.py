"""The HTTP API: what its calls work with, who may call them, and how errors are answered."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
import redis
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pixel_server.api import request_form
from pixel_server.api.recent_answers import Recent
from pixel_server.auth import api_keys, throttle
from pixel_server.auth.throttle import Throttle
from pixel_server.campaigns import storage
from pixel_server.campaigns.cache import CampaignCache
from pixel_server.campaigns.campaign import Campaign, UnreadableCampaign, report_unreadable
from pixel_server.consent import Consent
from pixel_server.counters.stored_format import NewerFormat
from pixel_server.figures.inventory_cache import KeptNow
from pixel_server.mail.links import Minter
from pixel_server.problems import Problem, away
from pixel_server.recipients.withdrawn_set import WithdrawnSet
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store.protocols import AsyncRedis

log = logging.getLogger("pixel_server.api")


@dataclass(frozen=True, slots=True)
class Api:
    """What the handlers work with. late_since: ms, since when a spool waits. clock: seconds."""

    store: AsyncRedis
    settings: Settings
    secrets: Secrets
    campaign_cache: CampaignCache
    consent: Consent
    withdrawn: WithdrawnSet
    kept: KeptNow
    late_since: Callable[[], int | None]
    clock: Callable[[], float]
    throttle: Throttle = field(default_factory=Throttle)
    recent: Recent = field(default_factory=Recent)

    def minter(self, base_url: str | None) -> Minter:
        """Problem 409: there is no address to make links from."""
        address = base_url or self.settings.base_url
        if address is None:
            raise Problem(409, "set PIXEL_BASE_URL, or the campaign's base_url: links need an address")
        return Minter(address, self.secrets)

    async def campaign(self, name: str) -> Campaign:
        """Problem 404: there is none."""
        try:
            return await storage.get(self.store, name)
        except storage.UnknownCampaign:
            raise Problem(404, f"there is no campaign {name[:64]!r}") from None


Handler = Callable[[Api, Request], Awaitable[Response]]


class Call(NamedTuple):
    """One entry of the API: method, path, the scope its key must have (None: open to all), handler.

    shared: a key of the scope `read:CAMPAIGN` will do for its own campaign; the handler then finds
    `request.state.shared` true, and shows less. query: the parameters it takes; another name is refused, for
    a mistyped `from` would give the figures of all time.
    """

    method: str
    path: str
    scope: str | None
    handler: Handler
    shared: bool = False
    query: tuple[str, ...] = ()


_json = msgspec.json.Encoder().encode


def reply(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON that no cache keeps."""
    return Response(
        _json(content), status, {"Cache-Control": "no-store", **(headers or {})}, "application/json"
    )


def routes(api: Api, calls: Iterable[Call]) -> list[Route]:
    """One Starlette route a path, so that a wrong method is 405 with what is allowed."""
    by_path: dict[str, dict[str, Call]] = {}
    for call in calls:
        by_path.setdefault(call.path, {})[call.method] = call
    return [
        Route(path, _endpoint(api, methods), methods=list(methods), name=f"api:{path}")
        for path, methods in by_path.items()
    ]


def _endpoint(api: Api, calls: dict[str, Call]) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        call = calls["GET" if request.method == "HEAD" else request.method]
        try:
            request_form.check_query(request)
            if call.scope is not None:
                refuse_emptied(api)
            if call.scope is not None:
                await _admit(api, request, call.scope, call.shared)
            if call.query:
                _refuse_unknown(request, call.query)
            return await call.handler(api, request)
        except FORESEEN as error:
            return problem_of(error, request).response()

    return endpoint


_ODD = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
"""What a value in the store may raise that this version does not expect."""
FORESEEN = (Problem, storage.UnknownCampaign, redis.RedisError, OSError, NewerFormat, *_ODD)
"""What a handler may raise: each has an answer."""


def problem_of(error: BaseException, request: Request) -> Problem:
    """What a foreseen error is answered with."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, storage.UnknownCampaign):
        return Problem(404, "this campaign was deleted just now")
    if isinstance(error, NewerFormat):
        return Problem(503, f"{error}; update this server")
    if isinstance(error, redis.exceptions.OutOfMemoryError):
        log.error(
            "report: Redis is full and refuses %s: see /readyz and raise its maxmemory", _logged(request)
        )
        return Problem(503, "Redis is full, so nothing new can be kept; ask the operator to make room")
    if isinstance(error, UnreadableCampaign):
        report_unreadable(error)
        return Problem(409, f"the record of campaign {error.campaign!r} cannot be read: update this server")
    if isinstance(error, _ODD):
        log.error(
            "report: %s cannot be answered: the store holds what this version cannot read", _logged(request)
        )
        log.error("report: where it failed", exc_info=error)
        return Problem(503, "the store holds something that this version cannot read; see the log")
    if isinstance(error, redis.RedisError) and not isinstance(
        error, (redis.ConnectionError, redis.TimeoutError)
    ):
        # Full, read-only or failing over: it answers, but not with what was asked.
        log.error("report: Redis refuses %s: %s", _logged(request), error)
    return away()


def refuse_emptied(api: Api) -> None:
    """Raises Problem 503 if the store is not the one this server used: its figures and keys are others."""
    if api.campaign_cache is not None and api.campaign_cache.mark.trouble:
        raise Problem(503, api.campaign_cache.mark.trouble, headers={"Retry-After": "10"})


def _logged(request: Request) -> str:
    """Its path, without the token of a link that opens something, and without a recipient's key."""
    path = request.url.path
    for name in ("token", "key"):
        if hidden := request.path_params.get(name):
            path = path.replace(hidden, "...")
    return path


async def _admit(api: Api, request: Request, scope: str, may_share: bool) -> None:
    kind, _, key = request.headers.get("authorization", "").partition(" ")
    challenge = {"WWW-Authenticate": "Bearer"}
    if kind.lower() != "bearer" or not key.strip():
        raise Problem(401, "send an API key: Authorization: Bearer KEY", headers=challenge)
    record = await api_keys.find(api.store, key.strip())
    if record is None:
        if await api.throttle.failed(request, api.clock()):
            raise Problem(401, "this API key is not known", headers=challenge)
        later = {**challenge, "Retry-After": str(throttle.RETRY_SECONDS)}
        raise Problem(429, "this API key is not known; too many wrong ones come at the moment", headers=later)
    request.state.who = f"key {record.id}"
    request.state.scopes = frozenset(record.scopes)
    request.state.shared = scope not in record.scopes
    if not request.state.shared:
        return
    own = api_keys.shared_campaigns(record.scopes)
    if not (may_share and request.path_params.get("id") in own):
        more = "; of its own campaigns it reads what is shared" if own else ""
        raise Problem(403, f"this API key has no scope {scope!r}{more}")


def _refuse_unknown(request: Request, known: tuple[str, ...]) -> None:
    names = [name for name, _ in request.query_params.multi_items()]
    errors = [
        {"field": name[:100], "message": "is there twice" if name in known else "is not known"}
        for name in dict.fromkeys(names)
        if name not in known or names.count(name) > 1
    ]
    if errors:
        raise Problem(422, "some parameters cannot be used", errors)


def not_found(request: Request, error: Exception) -> Response:
    """404 and 405 of the router, as problems."""
    assert isinstance(error, HTTPException)
    detail = "there is nothing at this address" if error.status_code == 404 else str(error.detail)
    return Problem(error.status_code, detail, headers=error.headers).response()
