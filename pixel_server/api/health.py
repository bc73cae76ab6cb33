"""Health of this server: `/healthz` and `/readyz`."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, NamedTuple, Protocol

import redis
from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api import network_health, store_health
from pixel_server.api.routing import reply
from pixel_server.campaigns.cache import CampaignCache
from pixel_server.collect.losses import LossReport
from pixel_server.collect.spool.status import NEWER_TEXT
from pixel_server.recipients.withdrawn_set import WithdrawnSet
from pixel_server.settings import Settings
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.store_mark import StoreMark
from pixel_server.times import iso_ms

READY_TIMEOUT_SECONDS = 0.8
"""Seconds that `/readyz` waits for Redis, and for the spool's disk."""
MIN_HITS_FOR_PROXY_WARNING = 50
"""Smallest number of recent hits of this process that is enough to suspect a proxy."""
MIN_SHARE_FOR_PROXY_WARNING = 0.95
"""Smallest share of hits from one address, or from private addresses, at which a proxy is suspected."""


class RecorderHealth(Protocol):
    """The health of a recorder. failing_since: time (s) since which Redis stores no hits, or None."""

    @property
    def last_error(self) -> str: ...
    @property
    def pending_bytes(self) -> int: ...
    @property
    def counts(self) -> dict[str, int]: ...
    @property
    def failing_since(self) -> float | None: ...
    @property
    def can_store(self) -> bool: ...


class NoRecorder:
    """The recorder's health in a process that answers pages only."""

    failing_since: float | None = None
    last_error = ""
    pending_bytes = 0
    can_store = True

    def __init__(self) -> None:
        self.counts = {"stored": 0, "spooled": 0, "late": 0, "refused": 0, "gaps": 0, "removed": 0}


class ProcessState(NamedTuple):
    """The parts of a process that know of trouble with the store's data.

    mark: tells whether this is the store that the server used before. campaign_cache, withdrawn: know the
    records that this version cannot read. losses: returns the lost hits that the operator has not
    acknowledged.
    """

    mark: StoreMark
    campaign_cache: CampaignCache
    withdrawn: WithdrawnSet
    losses: Callable[[], LossReport]


class Health:
    """The endpoints `/healthz` and `/readyz`.

    spool_status: returns (segments, hits, bytes, time of the oldest hit in ms, files set aside, segments of a
    newer format), or raises OSError. spool_trouble: returns why the spool cannot store hits, or "".
    recent_addresses: returns the packed client addresses of the last hits of this process.
    """

    def __init__(
        self,
        store: AsyncRedis,
        settings: Settings,
        recorder: RecorderHealth,
        spool_status: Callable[[], tuple[int, int, int, int | None, int, int]],
        recent_addresses: Callable[[], list[bytes]],
        spool_trouble: Callable[[], str],
        clock: Callable[[], float] = time.time,
        process: ProcessState | None = None,
    ) -> None:
        self._store = store
        self._settings = settings
        self._recorder = recorder
        self._spool_status = spool_status
        self._recent_addresses = recent_addresses
        self._spool_trouble = spool_trouble
        self._clock = clock
        self._process = process

    async def healthz(self, request: Request) -> Response:
        """Answers 200: an answer shows that the process is alive.

        With `?stores`, for a load balancer, answers 503 while this process can store hits neither in Redis
        nor in the spool. Asks neither.
        """
        if "stores" in request.query_params and not self._recorder.can_store:
            return reply(
                {"status": "failing", "error": f"hits are not stored: {self._recorder.last_error}"}, 503
            )
        return reply({"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        """Answers 503 only if hits cannot be stored anywhere."""
        recorder = self._recorder
        since = recorder.failing_since
        health: dict[str, Any] = {
            "recorder": {
                "failing_since": None if since is None else iso_ms(int(since * 1000)),
                "pending_bytes": recorder.pending_bytes,
                **recorder.counts,
            }
        }
        (redis_error, warnings), health["spool"], health["network_list_days"] = await asyncio.gather(
            self._add_store_report(health),
            self._read_spool_report(),
            network_health.read(self._settings, self._clock()),
        )
        warnings += network_health.warnings(self._settings, health["network_list_days"])
        if self._process is not None:
            health |= _process_json(self._process)
            warnings += _process_warnings(self._process)
        warnings += _spool_warnings(health["spool"]) + _proxy_warnings(self._recent_addresses())
        can_store = recorder.can_store and (not redis_error or self._settings.spool_bytes > 0)
        if not can_store:
            warnings.append(f"hits are not stored: {recorder.last_error or redis_error}")
        elif redis_error or since is not None:
            warnings.append(
                f"Redis does not store, hits go to the spool: {recorder.last_error or redis_error}"
            )
        status = "failing" if not can_store else "degraded" if warnings else "ok"
        return reply({"status": status, "warnings": warnings, **health}, 200 if can_store else 503)

    async def _add_store_report(self, health: dict[str, Any]) -> tuple[str, list[str]]:
        """Adds the report on the store to `health`. Returns (the error of Redis or "", the warnings)."""
        settings = self._settings
        try:
            async with asyncio.timeout(READY_TIMEOUT_SECONDS):
                store = await store_health.read(
                    self._store, settings.shards, self._clock(), settings.memory_reserve
                )
            health |= store
            return "", [text for _, text in store_health.warnings(store)]
        except (redis.RedisError, OSError) as error:
            redis_error = f"{type(error).__name__}: {error}".removesuffix(": ")
            health["redis"] = {"answers": False, "error": redis_error}
            return redis_error, []
        except Exception as error:  # the store holds a value of another type
            health["redis"] = {"answers": True, "error": f"{type(error).__name__}: {error}"}
            return "", [f"the store holds what this version cannot read: {type(error).__name__}"]

    async def _read_spool_report(self) -> dict[str, Any]:
        """Returns the report on the spool. If the spool's disk hangs, the report says so."""
        try:
            async with asyncio.timeout(READY_TIMEOUT_SECONDS):
                return await asyncio.to_thread(self._spool_json)
        except TimeoutError:
            return {"trouble": "the disk of the spool does not answer"}

    def _spool_json(self) -> dict[str, Any]:
        trouble = self._spool_trouble() if self._settings.spool_bytes else ""
        try:
            segments, hits, size, oldest, aside, newer = self._spool_status()
        except OSError as error:
            return {"trouble": trouble or f"{error.filename}: {error.strerror}"}
        return {
            "segments": segments,
            "hits": hits,
            "bytes": size,
            "waiting_since": None if oldest is None else iso_ms(oldest),
            "set_aside": aside,
            "newer_format": newer,
            **({"trouble": trouble} if trouble else {}),
        }


def _process_json(process: ProcessState) -> dict[str, Any]:
    losses = process.losses()
    return {
        "store": {
            "is_known": not process.mark.trouble,
            "unreadable_campaigns": sorted(process.campaign_cache.unreadable)[:100],
            "unreadable_withdrawals": process.withdrawn.unreadable,
        },
        "losses": {
            "batches": losses.batches,
            "hits": losses.hits,
            "hits_are_exact": losses.is_exact,
            "since": None if losses.since is None else iso_ms(losses.since),
            "shards": {str(shard): batches for shard, batches in sorted(losses.shards.items())},
            "commits": losses.commits,
            "removed_hits": losses.removed_hits,
        },
    }


def _process_warnings(process: ProcessState) -> list[str]:
    warnings = [process.mark.trouble] if process.mark.trouble else []
    warnings += process.losses().describe()
    if unreadable := sorted(process.campaign_cache.unreadable):
        rest = f" and {len(unreadable) - 5} more" if len(unreadable) > 5 else ""
        campaigns = ", ".join(unreadable[:5]) + rest
        warnings.append(f"the records of campaigns {campaigns} cannot be read: update this server")
    if process.withdrawn.unreadable:
        warnings.append(
            f"{process.withdrawn.unreadable} withdrawals are of a newer version: update this server"
        )
    return warnings


def _spool_warnings(spool: dict[str, Any]) -> list[str]:
    """Returns the warnings about the spool. spool: from `Health._read_spool_report`."""
    warnings = []
    if trouble := spool.get("trouble"):
        warnings.append(f"{trouble}: while Redis is away, hits may be lost")
    if spool.get("set_aside"):
        warnings.append("the spool has set batches aside: see its folder `aside` and the log")
    if spool.get("newer_format"):
        warnings.append(f"files in the spool {NEWER_TEXT}")
    return warnings


def _proxy_warnings(addresses: list[bytes]) -> list[str]:
    """Returns a warning if the addresses of recent hits suggest a proxy that is not trusted."""
    if len(addresses) < MIN_HITS_FOR_PROXY_WARNING:
        return []
    most_frequent = Counter(addresses).most_common(1)[0][1]
    private = sum(1 for address in addresses if address and ip_address(address).is_private)
    if max(most_frequent, private) >= MIN_SHARE_FOR_PROXY_WARNING * len(addresses):
        return [
            "nearly all hits come from one address or from private ones: is there a proxy "
            "in front that PIXEL_TRUSTED_PROXIES does not name?"
        ]
    return []
