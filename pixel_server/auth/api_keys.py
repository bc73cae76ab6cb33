"""API keys: kept as a hash, found by it, shown once."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import msgspec
import redis

from pixel_server.auth.token_hash import token_hash
from pixel_server.slug import is_slug
from pixel_server.store import audit_log, keys
from pixel_server.store.protocols import AsyncRedis
from pixel_server.times import iso

log = logging.getLogger("pixel_server.auth.api_keys")

SCOPES = ("read", "write", "people")
"""`people`: single recipients and withdrawals; neither of the others contains it."""
OF_CAMPAIGN = "read:"
"""Before a campaign's id: a scope that shows what may be shared of this campaign, and no more."""
MOST_SCOPES = 100
"""Of one key."""
ENVIRONMENT = "PIXEL_API_KEY"


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """created, last_used: seconds. The key itself is nowhere."""

    id: str
    name: str
    scopes: list[str]
    created: int
    last_used: int | None = None


def shares(scopes: Iterable[str]) -> list[str]:
    """The ids of those whose shared figures these scopes show."""
    return [scope.removeprefix(OF_CAMPAIGN) for scope in scopes if scope.startswith(OF_CAMPAIGN)]


def is_scope(text: str) -> bool:
    """Whether it is spelt as a scope; whether there is such a campaign is not looked up."""
    return text in SCOPES or all(map(is_slug, shares([text]) or [""]))


class Unknown(LookupError):
    """No such key."""


def _hash(key: str) -> str:
    return token_hash(key, b"px-api-key")


async def create(
    store: AsyncRedis, name: str, scopes: list[str], key: str | None = None, *, who: str = audit_log.COMMAND
) -> tuple[ApiKey, str]:
    """(the record, the key). key: one of the operator's own; else one is made. who: for the audit log.

    ValueError: the name is kept for the key that the environment sets.
    """
    if key is None and name == ENVIRONMENT:
        raise ValueError("is kept for the key that the environment sets")
    key = key or f"pk_{secrets.token_urlsafe(24)}"
    digest = _hash(key)
    record = ApiKey(id=digest[:12], name=name, scopes=scopes, created=int(time.time()))
    fields = {"hash": digest, "name": name, "scopes": " ".join(scopes), "created": str(record.created)}
    await audit_log.note(store, who, "key.made", key=record.id, scopes=",".join(scopes))
    pipe = store.pipeline()
    pipe.hset(keys.api_key(record.id), mapping=fields)
    pipe.sadd(keys.API_KEYS, record.id)
    await pipe.execute()
    return record, key


async def missing(store: AsyncRedis, scopes: Iterable[str]) -> list[str]:
    """Campaigns that these scopes name and that there are not: ids are never given twice, so it is a slip."""
    ids = shares(scopes)
    pipe = store.pipeline(transaction=False)
    for campaign in ids:
        pipe.exists(keys.campaign(campaign))
    return [campaign for campaign, found in zip(ids, await pipe.execute(), strict=True) if not found]


async def find(store: AsyncRedis, key: str) -> ApiKey | None:
    """The record of this key. Notes its use, to the minute."""
    digest = _hash(key)
    kept = await store.hgetall(keys.api_key(digest[:12]))
    if kept.get(b"hash") != digest.encode():
        return None
    record = _record(digest[:12], kept)
    if record is None:
        return None
    await _note_use(store, record)
    return record


async def get(store: AsyncRedis, key: str) -> ApiKey | None:
    """The record with this id, if it is not revoked. Notes its use, to the minute."""
    kept = await store.hgetall(keys.api_key(key))
    if not kept:
        return None
    record = _record(key, kept)
    if record is None:
        return None
    await _note_use(store, record)
    return record


async def _note_use(store: AsyncRedis, record: ApiKey) -> None:
    now = int(time.time())
    if record.last_used is None or now - record.last_used >= 60:
        with suppress(redis.ResponseError):  # a full store can still be read
            await store.eval(_USED, 1, keys.api_key(record.id), now)


_USED = "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], 'last_used', ARGV[1]) end"


async def listed(store: AsyncRedis) -> list[ApiKey]:
    """All of them, oldest first."""
    ids = sorted(member.decode(errors="replace") for member in await store.smembers(keys.API_KEYS))
    pipe = store.pipeline(transaction=False)
    for key in ids:
        pipe.hgetall(keys.api_key(key))
    found = await pipe.execute(raise_on_error=False)
    read = [_record(key, kept) for key, kept in zip(ids, found, strict=True) if kept]
    records = [record for record in read if record is not None]
    return sorted(records, key=lambda record: (record.created, record.id))


async def revoke(store: AsyncRedis, key: str, who: str = audit_log.COMMAND) -> None:
    """key: its id. who: for the audit log. Unknown: there is none."""
    if not await store.exists(keys.api_key(key)):
        raise Unknown(key)
    await audit_log.note(store, who, "key.revoked", key=key)
    pipe = store.pipeline()
    pipe.srem(keys.API_KEYS, key)
    pipe.delete(keys.api_key(key))
    if not (await pipe.execute())[0]:
        raise Unknown(key)


async def use_environment(store: AsyncRedis, key: str | None) -> None:
    """Takes PIXEL_API_KEY as the operator set it; one that it was before no longer works."""
    wanted = _hash(key)[:12] if key else None
    known = await listed(store)
    for record in known:
        if record.name == ENVIRONMENT and (record.id != wanted or record.scopes != list(SCOPES)):
            with suppress(Unknown):  # another process was first
                await revoke(store, record.id, ENVIRONMENT)
            known = [other for other in known if other is not record]
    if key and wanted not in {record.id for record in known}:
        await create(store, ENVIRONMENT, list(SCOPES), key, who=ENVIRONMENT)


def _record(key: str, kept: Any) -> ApiKey | None:
    """Returns None for a key whose record cannot be read, as one of a newer version: it opens nothing."""
    try:
        used = kept.get(b"last_used")
        return ApiKey(
            id=key,
            name=kept[b"name"].decode(),
            scopes=kept[b"scopes"].decode().split(),
            created=_shown(kept[b"created"]),
            last_used=_shown(used) if used else None,
        )
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        log.error("the API key %s cannot be read and is left as it is: %s", key, type(error).__name__)
        return None


def _shown(value: bytes) -> int:
    """Returns a time in seconds that a date can show. Raises ValueError for another."""
    if not 0 <= (at := int(value)) < 253_402_300_800:
        raise ValueError("a time out of range")
    return at


def to_json(record: ApiKey) -> dict[str, Any]:
    """As the API shows it."""
    shown: dict[str, Any] = msgspec.to_builtins(record)
    for field in ("created", "last_used"):
        if shown[field] is not None:
            shown[field] = iso(shown[field])
    return shown
