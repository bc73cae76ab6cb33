"""Decides who may read `/metrics`: this machine, the networks of PIXEL_METRICS_FROM, and some API keys."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from ipaddress import ip_network

import redis
from starlette.exceptions import HTTPException
from starlette.requests import Request

from pixel_server.addresses import is_in_networks, pack
from pixel_server.api.context import Api
from pixel_server.auth import api_keys
from pixel_server.auth.token_hash import token_hash
from pixel_server.collect.client_address import ClientAddress
from pixel_server.problems import Problem
from pixel_server.scopes import METRICS_SCOPE

KEY_KEPT_SECONDS = 3600.0
"""Seconds since its last good use for which a key is accepted while Redis does not answer: then the metrics
are needed most."""
_LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
_is_local_host = re.compile(rb"(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])(?::\d+)?").fullmatch


class MetricsAccess:
    """Knows who may read `/metrics`."""

    def __init__(self, api: Api, client_address: ClientAddress) -> None:
        self._api = api
        self._client_address = client_address
        self._good_keys: dict[str, float] = {}
        """Monotonic time (s) of the last good use of a key, by the key's hash."""

    async def check(self, request: Request) -> None:
        """Raises HTTPException 404 if a stranger asks, and Problem 403 if the key lacks the scope.

        Raises redis.RedisError or OSError if Redis is needed to know a key and does not answer.
        """
        peer = request.client.host if request.client else None
        if not self.is_allowed_address(peer, request.scope["http_version"], dict(request.headers.raw)):
            await self._check_key(request)

    def is_allowed_address(self, peer: str | None, version: str, headers: Mapping[bytes, bytes]) -> bool:
        """Returns whether the client needs no key.

        A request that came through a proxy is not from loopback. Only a trusted proxy's word on the client's
        address counts. peer: the connection's address. version: of HTTP.
        """
        own_address, networks = pack(peer) if peer else b"", self._api.settings.metrics_from
        if self._client_address.is_forwarded(headers):
            address = self._client_address.resolve(peer, headers)
            return address != own_address and is_in_networks(address, networks)
        if is_in_networks(own_address, networks):
            return True
        # nginx by default adds no header of a proxy, but speaks HTTP 1.0. A proxy that is set up to speak 1.1
        # passes the public name on.
        is_direct = version != "1.0" and _is_local_host(headers.get(b"host", b"")) is not None
        return is_direct and is_in_networks(own_address, _LOOPBACK)

    async def _check_key(self, request: Request) -> None:
        kind, _, key = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not key.strip():
            raise HTTPException(404)
        digest = token_hash(key.strip(), b"px-metrics-key")
        try:
            record = await api_keys.find_by_key(self._api.store, key.strip())
        except (redis.RedisError, OSError):
            if time.monotonic() - self._good_keys.get(digest, float("-inf")) < KEY_KEPT_SECONDS:
                return
            raise
        self._good_keys.pop(digest, None)
        if record is None:
            await self._api.throttle.delay_failure(request, self._api.clock())
            raise HTTPException(404)
        if METRICS_SCOPE not in record.scopes:
            raise Problem(403, f"this API key has no scope {METRICS_SCOPE!r}")
        self._good_keys[digest] = time.monotonic()
