"""Is this process alive, and is everything behind it well: /healthz and /readyz."""

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

from pixel_server.api.routing import reply
from pixel_server.campaigns import retention
from pixel_server.campaigns.cache import CampaignCache
from pixel_server.collect.losses import LossReport
from pixel_server.recipients.withdrawn_set import WithdrawnSet
from pixel_server.settings import Settings
from pixel_server.store import clock, keys, producer
from pixel_server.store.compatibility import durability
from pixel_server.store.memory_reserve import ADVICE, MemoryUse
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.store_mark import StoreMark
from pixel_server.times import iso_ms

ENOUGH = 50
"""Hits from which on it is worth saying that they all come from one address."""
SHARE = 0.95


class Recording(Protocol):
    """What health wants to know of the recorder."""

    failing_since: float | None
    last_error: str
    pending_bytes: int
    counts: dict[str, int]

    @property
    def can_store(self) -> bool: ...


class NotRecording:
    """The recorder of a process that answers pages only."""

    failing_since: float | None = None
    last_error = ""
    pending_bytes = 0
    can_store = True

    def __init__(self) -> None:
        self.counts = {"stored": 0, "spooled": 0, "late": 0, "refused": 0, "gaps": 0, "removed": 0}


class Known(NamedTuple):
    """What health wants to know of the rest of this process. losses: those not acknowledged."""

    mark: StoreMark
    campaign_cache: CampaignCache
    withdrawn: WithdrawnSet
    losses: Callable[[], LossReport]


class Health:
    """Both endpoints. recent: client addresses of the last hits of this process.

    spool: (segments, hits, bytes, ms since when the oldest waits, files set aside), or OSError. trouble: why
    it could take no hits, or "".
    """

    def __init__(
        self,
        store: AsyncRedis,
        settings: Settings,
        recording: Recording,
        spool: Callable[[], tuple[int, int, int, int | None, int]],
        recent: Callable[[], list[bytes]],
        trouble: Callable[[], str],
        clock: Callable[[], float] = time.time,
        known: Known | None = None,
    ) -> None:
        self._known = known
        self._store = store
        self._settings = settings
        self._recording = recording
        self._spool = spool
        self._recent = recent
        self._trouble = trouble
        self._clock = clock

    async def healthz(self, request: Request) -> Response:
        """200 while the process answers at all."""
        return reply({"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        """503 only if a hit could be stored nowhere."""
        recording = self._recording
        since = recording.failing_since
        report: dict[str, Any] = {
            "recorder": {
                "failing_since": None if since is None else iso_ms(int(since * 1000)),
                "pending_bytes": recording.pending_bytes,
                **recording.counts,
            }
        }
        try:
            found = await look(
                self._store, self._settings.shards, self._clock(), self._settings.memory_reserve
            )
            report |= found
            told = [text for _, text in warnings(found)]
            away = ""
        except (redis.RedisError, OSError) as error:
            away = f"{type(error).__name__}: {error}"
            report["redis"] = {"answers": False, "error": away}
            told = []
        except Exception as error:  # an odd value in the store
            report["redis"] = {"answers": True, "error": f"{type(error).__name__}: {error}"}
            told = [f"the store holds what this version cannot read: {type(error).__name__}"]
        if self._known is not None:
            report |= _of_process(self._known)
            told += _of_known(self._known)
        report["spool"] = await asyncio.to_thread(self._of_spool)
        storing = recording.can_store and (not away or self._settings.spool_bytes > 0)
        told += _own_warnings(report, self._recent())
        if not storing:
            told.append(f"hits are not stored: {recording.last_error or away}")
        elif away or since is not None:
            told.append(f"Redis does not store, hits go to the spool: {recording.last_error or away}")
        status = "ok" if storing and not told else "degraded" if storing else "failing"
        return reply({"status": status, "warnings": told, **report}, 200 if storing else 503)

    def _of_spool(self) -> dict[str, Any]:
        trouble = self._trouble() if self._settings.spool_bytes else ""
        try:
            segments, hits, size, oldest, aside = self._spool()
        except OSError as error:
            return {"trouble": trouble or f"{error.filename}: {error.strerror}"}
        return {
            "segments": segments,
            "hits": hits,
            "bytes": size,
            "waiting_since": None if oldest is None else iso_ms(oldest),
            "set_aside": aside,
            **({"trouble": trouble} if trouble else {}),
        }


async def look(store: AsyncRedis, shards: int, now: float, reserve: int = 0) -> dict[str, Any]:
    """What a store says of itself, and of the hits in it. now: Redis's time, s. reserve: see
    PIXEL_MEMORY_RESERVE."""
    pipe = store.pipeline(transaction=False)
    pipe.hgetall(keys.CLOCKS)
    pipe.hget(keys.SWEEP, "waits")
    pipe.zcount(keys.WORKERS, now - 10, now + keys.MAX_BEAT_SKEW_SECONDS)
    for shard in range(shards):
        pipe.xlen(keys.hits(shard))
        producer.queue_oldest_entry(pipe, shard)
        pipe.xlen(keys.dead(shard))
        pipe.hgetall(keys.drops(shard))
        pipe.get(keys.stop(shard))
    wrong, waits, workers, *answers = await pipe.execute()
    lengths, firsts, dead, drops, stops = (answers[i::5] for i in range(5))
    counted: Counter[str] = Counter()
    for found in drops:
        counted.update({reason.decode(): int(count) for reason, count in found.items() if count.isdigit()})
    waiting = [now - int(first.partition(b"-")[0]) / 1000 for first in firsts if first]
    kept = await durability(store)
    room = MemoryUse.parse(await store.info("memory"))
    copies = await replicas(store)
    return {
        "redis": {
            **copies,
            "answers": True,
            "durability": kept.text,
            "aof": kept.aof,
            "fsync": kept.fsync,
            "eviction": kept.eviction,
            "used_memory": room.used,
            "maxmemory": room.maximum,
            **({"full": room.describe()} if room.is_short(reserve) else {}),
        },
        "workers": workers,
        "wrong_clocks": dict(clock.parse_wrong_clocks(wrong, now)),
        "retention_waits": retention.unpack_waiting(waits),
        "oldest_uncounted_seconds": round(max(0.0, *waiting), 3) if waiting else None,
        "stream_entries": sum(lengths),
        "dead_letters": sum(dead),
        "drops": dict(counted),
        "stopped": {str(shard): why.decode() for shard, why in enumerate(stops) if why},
    }


async def replicas(store: AsyncRedis) -> dict[str, Any]:
    """Returns the replicas that are connected to this Redis, and what their promotion may lose."""
    try:
        found = await store.info("replication")
    except redis.ResponseError:
        return {"replication": "unknown: INFO may not be read"}
    names = sorted(
        name
        for name in found
        if name.startswith("slave") and name[5:].isdigit() and isinstance(found[name], dict)
    )
    listed = [
        {
            "address": f"{found[name].get('ip', '?')}:{found[name].get('port', '?')}",
            "state": str(found[name].get("state", "unknown")),
            "lag_seconds": found[name].get("lag"),
        }
        for name in names
    ]
    text = ASYNCHRONOUS if listed else "none: no replica is connected"
    return {"role": str(found.get("role", "unknown")), "replication": text, "replicas": listed}


ASYNCHRONOUS = (
    "asynchronous: a replica that is promoted may lack the last hits that were answered as recorded"
)


def _of_process(known: Known) -> dict[str, Any]:
    losses = known.losses()
    return {
        "store": {
            "is_known": not known.mark.trouble,
            "unreadable_campaigns": sorted(known.campaign_cache.unreadable)[:100],
            "unreadable_withdrawals": known.withdrawn.unreadable,
        },
        "losses": {
            "batches": losses.batches,
            "hits": losses.hits,
            "hits_are_exact": losses.is_exact,
            "since": None if losses.since is None else iso_ms(losses.since),
            "shards": {str(shard): batches for shard, batches in sorted(losses.shards.items())},
            "commits": losses.commits,
        },
    }


def _of_known(known: Known) -> list[str]:
    found = [known.mark.trouble] if known.mark.trouble else []
    losses = known.losses()
    if losses.batches or losses.commits:
        found.append(losses.describe())
    if broken := sorted(known.campaign_cache.unreadable):
        names = ", ".join(broken[:5]) + (f" and {len(broken) - 5} more" if len(broken) > 5 else "")
        found.append(
            f"the records of campaigns {names} cannot be read, and are left as they are: update this server"
        )
    if known.withdrawn.unreadable:
        found.append(f"{known.withdrawn.unreadable} withdrawals are of a newer version: update this server")
    return found


def warnings(report: dict[str, Any]) -> list[tuple[str, str]]:
    """What an operator should look after, of what a store says (`look`): (of what, the text)."""
    found = []
    if report["workers"] == 0:
        found.append(("workers", "no worker has been seen for 10 s: hits are stored but not counted"))
    age = report["oldest_uncounted_seconds"]
    if age is not None and age > 60:
        found.append(("workers", f"a hit has waited {age:.0f} s to be counted"))
    found += [("workers", f"shard {shard} stands still: {why}") for shard, why in report["stopped"].items()]
    found += [("clocks", clock.describe(*one)) for one in report["wrong_clocks"].items()]
    if report["retention_waits"]:
        found.append(("retention", retention.waiting_message(report["retention_waits"])))
    if report["dead_letters"]:
        text = f"{report['dead_letters']} dead letters: see `pixel-server dead-letters list`"
        found.append(("workers", text))
    eviction = report["redis"]["eviction"]
    if eviction not in ("noeviction", "unknown"):
        text = f"Redis throws counts away when it is full: set maxmemory-policy {eviction} to noeviction"
        found.append(("redis", text))
    if full := report["redis"].get("full"):
        found.append(("redis", f"{full}; {ADVICE}"))
    if report["redis"]["aof"] == "no":
        found.append(("redis", "Redis keeps no append-only file: what it is given can be lost"))
    return found


def _own_warnings(report: dict[str, Any], recent: list[bytes]) -> list[str]:
    """Those of this process."""
    found = []
    if trouble := report["spool"].get("trouble"):
        found.append(f"{trouble}: while Redis is away, hits may be lost")
    if report["spool"].get("set_aside"):
        found.append("the spool has set batches aside: see its folder `aside` and the log")
    if removed := report["recorder"]["removed"]:
        found.append(f"{removed} hits were lost: files were removed from the spool before Redis had them")
    return found + _proxy_warning(recent)


def _proxy_warning(recent: list[bytes]) -> list[str]:
    if len(recent) < ENOUGH:
        return []
    times = Counter(recent).most_common(1)[0][1]
    private = sum(1 for one in recent if one and ip_address(one).is_private)
    if times >= SHARE * len(recent) or private >= SHARE * len(recent):
        return [
            "nearly all hits come from one address or from private ones: is there a proxy "
            "in front that PIXEL_TRUSTED_PROXIES does not name?"
        ]
    return []
