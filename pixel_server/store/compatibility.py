"""Decides whether a store may be used by this server, and makes a new store its own."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass

import redis

from pixel_server.secret import Secrets, SecretsError
from pixel_server.settings import Settings
from pixel_server.store import keys, store_mark
from pixel_server.store.client import StoreAwayError, StoreEmptiedError, StoreError, connect, shown
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.store_mark import StoreMark

log = logging.getLogger("pixel_server.store.compatibility")

FORMAT = "1"
OLDEST = (7, 0)
_TAKES_NONE = (
    *(redis.exceptions.OutOfMemoryError, redis.exceptions.ReadOnlyError, redis.exceptions.TryAgainError),
    *(redis.exceptions.MasterDownError, redis.exceptions.ClusterDownError),
)
_TAKES_NONE_WORDS = ("MISCONF", "NOREPLICAS")
"""Of errors that pass by themselves: it is full, a replica, or its disk is."""


@dataclass(frozen=True, slots=True)
class Durability:
    """What a crash of Redis may cost, or a full one. aof: yes, no or unknown. fsync: always, everysec, no or
    unknown. eviction: its maxmemory-policy or unknown."""

    aof: str
    fsync: str
    eviction: str

    @property
    def text(self) -> str:
        if self.aof == "unknown":
            return "unknown: CONFIG may not be read"
        if self.aof != "yes":
            return "none: no append-only file, a crash of Redis loses what is not in its last snapshot"
        if self.fsync == "always":
            return "every hit: synced to disk before it is answered"
        if self.fsync == "everysec":
            return "one second: a crash of its machine may lose the last second"
        return "by the operating system: a crash of its machine may lose half a minute"


async def check(
    store: AsyncRedis, url: str, shards: int, secrets: Secrets | None, mark: StoreMark | None = None
) -> None:
    """Makes a new store ours, and refuses one that does not fit. secrets: None: whose it is, is left open.

    One that is ours already is only read, so a full or read-only one can be looked at. mark: of the store
    that this process knows; None leaves that open. StoreAwayError: it does not answer, or takes no writes
    now. StoreEmptiedError: it is not the store of this mark. StoreError: too old, evicts keys, another
    number of shards, a newer format, or another's secrets.
    """
    try:
        await _fits(store)
        if secrets is not None:
            await _is_ours(store, shards, secrets, mark)
    except StoreEmptiedError as error:
        raise StoreEmptiedError(f"Redis at {shown(url)}: {error}") from None
    except StoreError as error:
        raise type(error)(f"Redis at {shown(url)} {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreAwayError(f"Redis at {shown(url)} holds what cannot be read ({error!r:.100})") from None
    except redis.AuthenticationError as error:
        raise StoreError(f"Redis at {shown(url)} refuses the password: {error}") from None
    except (redis.ConnectionError, redis.TimeoutError, redis.exceptions.BusyLoadingError, OSError) as error:
        raise StoreAwayError(f"Redis at {shown(url)} does not answer: {error}") from None
    except redis.RedisError as error:
        if isinstance(error, _TAKES_NONE) or str(error).startswith(_TAKES_NONE_WORDS):
            raise StoreAwayError(f"Redis at {shown(url)} takes no writes: {error}") from None
        raise StoreError(f"Redis at {shown(url)} cannot be used: {error}") from None


def secrets_for(settings: Settings, url: str) -> Secrets:
    """Those of a server that starts; made in its data directory if the store is nobody's yet.

    The store is asked only where there are none: one that hangs must not keep a web process from starting.
    SecretsError: there are none, and the store belongs to some; or they cannot be read.
    """
    given = settings.data, settings.signing, settings.recipient_secret
    with contextlib.suppress(SecretsError):
        return Secrets.load(*given)
    try:
        with connect(url) as client:
            is_owned = client.hexists(keys.STORE, "recipient")
    except (redis.RedisError, OSError):
        is_owned = False  # `check` says what is wrong with it
    return Secrets.load(*given) if is_owned else Secrets.load_or_create(*given)


async def _fits(store: AsyncRedis) -> None:
    info = await store.info()
    version = str(info.get("redis_version", "0"))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < OLDEST:
        raise StoreError(f"is version {version}; 7.0 or newer is needed (or Valkey)")
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise StoreError(f"evicts keys when full (maxmemory-policy {policy}); set it to noeviction")


async def _is_ours(store: AsyncRedis, shards: int, secrets: Secrets, mark: StoreMark | None) -> None:
    recipient, signers = secrets.fingerprints()
    kept = await _marks(store)
    if mark is not None:
        mark.take([kept.get(name, "").encode() for name in ("mark", "formerly")])
    wanted = {"format": FORMAT, "shards": str(shards), "recipient": recipient}
    if not wanted.keys() <= kept.keys():
        for field, value in wanted.items():
            await store.hsetnx(keys.STORE, field, value)
        kept = await _marks(store)
    if int(kept["format"]) > int(FORMAT):
        raise StoreError(f"was written by a newer version (format {kept['format']}, this one reads {FORMAT})")
    if kept["shards"] != str(shards):
        raise StoreError(f"holds {kept['shards']} shards, not {shards}: set PIXEL_SHARDS={kept['shards']}")
    if kept["recipient"] != recipient:
        raise StoreError(
            "belongs to another recipient secret: restore secrets.json, or PIXEL_RECIPIENT_SECRET"
        )
    known = {name.decode() for name in await store.smembers(keys.SIGNERS)}
    if known and not known & set(signers):
        raise StoreError("knows none of these signing keys: keep an old one in PIXEL_SECRET, after the new")
    if not known.issuperset(signers):
        await store.sadd(keys.SIGNERS, *signers)
    if mark is not None:
        try:
            held = kept.get("mark", "")
            mark.learn(await store_mark.begin(store, shards, held, bool(held) and "marked" in kept))
        except redis.ResponseError as error:  # an old store that is full or read-only is marked later
            log.warning("the store gets no mark, so it is not noticed if it is emptied: %s", error)
        mark.checked = True


async def _marks(store: AsyncRedis) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in (await store.hgetall(keys.STORE)).items()}


async def durability(store: AsyncRedis) -> Durability:
    """How the store keeps what it was given; `unknown` where CONFIG may not be read."""
    try:
        found = await store.config_get("appendonly", "appendfsync", "maxmemory-policy")
    except redis.ResponseError:
        return Durability("unknown", "unknown", "unknown")
    config = {_text(name): _text(value) for name, value in found.items()}
    asked = ("appendonly", "appendfsync", "maxmemory-policy")
    return Durability(*(config.get(name, "unknown") for name in asked))


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
