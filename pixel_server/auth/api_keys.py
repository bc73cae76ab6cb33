"""API keys. The store holds a hash of each key; the key itself is shown once, when it is created."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import msgspec
import redis

from pixel_server.auth.token_hash import token_hash
from pixel_server.logs import Log
from pixel_server.scopes import SCOPES, shared_campaigns
from pixel_server.store import audit_log, keys, replication
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.replication import NotReplicatedError
from pixel_server.store.script import ScriptCall, script_call
from pixel_server.times import MAX_SECONDS, iso

log = Log(__name__)

ENVIRONMENT_KEY_NAME = "PIXEL_API_KEY"
"""Name of the setting PIXEL_API_KEY, and the name under which the key of this setting is stored."""
_USE_INTERVAL_SECONDS = 60
"""Smallest number of seconds between two updates of `last_used`."""


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """The record of an API key, without the key itself. created, last_used: seconds."""

    id: str
    name: str
    scopes: list[str]
    created: int
    last_used: int | None = None


class UnknownApiKey(LookupError):
    """No API key has this id."""


def _hash(key: str) -> str:
    return token_hash(key, b"px-api-key")


def refuse_reserved(name: str) -> None:
    """Raises ValueError if a name is reserved. Its text is the end of a sentence about the name."""
    if name == ENVIRONMENT_KEY_NAME:
        raise ValueError("is reserved for the key that the environment sets")


async def create(
    store: AsyncRedis, name: str, scopes: list[str], key: str | None = None, *, who: str = audit_log.COMMAND
) -> tuple[ApiKey, str]:
    """Creates an API key. Returns its record and the key.

    key: the operator's own key, or None for a random key. who: name for the audit log. Raises ValueError if
    the name is reserved for the key that the environment sets.
    """
    if key is None:
        refuse_reserved(name)
    key = key or f"pk_{secrets.token_urlsafe(24)}"
    digest = _hash(key)
    record = ApiKey(id=digest[:12], name=name, scopes=scopes, created=int(time.time()))
    fields = {"hash": digest, "name": name, "scopes": " ".join(scopes), "created": str(record.created)}
    await audit_log.note(store, who, "key.made", key=record.id, scopes=",".join(scopes))
    pipe = store.pipeline()
    pipe.hset(keys.api_key(record.id), mapping=fields)
    pipe.sadd(keys.API_KEYS, record.id)
    await pipe.execute()
    try:
        await replication.confirm(store)
    except NotReplicatedError:
        await _remove(store, record.id)  # the caller is not shown the key
        raise
    return record, key


async def missing_campaigns(store: AsyncRedis, scopes: Iterable[str]) -> list[str]:
    """Returns the campaign ids in the scopes for which no campaign exists."""
    ids = shared_campaigns(scopes)
    pipe = store.pipeline(transaction=False)
    for campaign in ids:
        pipe.exists(keys.campaign(campaign))
    return [campaign for campaign, exists in zip(ids, await pipe.execute(), strict=True) if not exists]


async def find_by_key(store: AsyncRedis, key: str) -> ApiKey | None:
    """Returns the record of a key, or None if the key is unknown.

    Updates `last_used`, at most once a minute.
    """
    digest = _hash(key)
    fields = await store.hgetall(keys.api_key(digest[:12]))
    if fields.get(b"hash") != digest.encode():
        return None
    record = _record(digest[:12], fields)
    if record is None:
        return None
    await _note_use(store, record)
    return record


async def find_by_id(store: AsyncRedis, key_id: str) -> ApiKey | None:
    """Returns the record of the key with this id, or None if no key has it. Updates `last_used`."""
    fields = await store.hgetall(keys.api_key(key_id))
    if not fields:
        return None
    record = _record(key_id, fields)
    if record is None:
        return None
    await _note_use(store, record)
    return record


async def _note_use(store: AsyncRedis, record: ApiKey) -> None:
    now = int(time.time())
    if record.last_used is None or now - record.last_used >= _USE_INTERVAL_SECONDS:
        with suppress(redis.ResponseError):  # a full store refuses this write, but the key must still work
            await store.eval(*_note_use_call(record.id, now))


_NOTE_USE = "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], 'last_used', ARGV[1]) end"


def _note_use_call(key_id: str, now: int) -> ScriptCall:
    """Returns the call that stores the time (s) at which a key was used."""
    return script_call(_NOTE_USE, keys=(keys.api_key(key_id),), arguments=(now,))


async def list_keys(store: AsyncRedis) -> list[ApiKey]:
    """Returns all API keys, oldest first."""
    ids = sorted(member.decode(errors="replace") for member in await store.smembers(keys.API_KEYS))
    pipe = store.pipeline(transaction=False)
    for key_id in ids:
        pipe.hgetall(keys.api_key(key_id))
    replies = await pipe.execute(raise_on_error=False)
    decoded = [_record(key_id, fields) for key_id, fields in zip(ids, replies, strict=True) if fields]
    records = [record for record in decoded if record is not None]
    return sorted(records, key=lambda record: (record.created, record.id))


async def revoke(store: AsyncRedis, key_id: str, who: str = audit_log.COMMAND) -> None:
    """Revokes the key with an id. who: name for the audit log. Raises UnknownApiKey."""
    if not await store.exists(keys.api_key(key_id)):
        raise UnknownApiKey(key_id)
    await audit_log.note(store, who, "key.revoked", key=key_id)
    if not await _remove(store, key_id):
        raise UnknownApiKey(key_id)
    await replication.confirm(store)


async def _remove(store: AsyncRedis, key_id: str) -> bool:
    """Removes the key with an id. Returns whether there was such a key."""
    pipe = store.pipeline()
    pipe.srem(keys.API_KEYS, key_id)
    pipe.delete(keys.api_key(key_id))
    return bool((await pipe.execute())[0])


async def store_environment_key(store: AsyncRedis, key: str | None) -> None:
    """Creates the key that PIXEL_API_KEY sets, and revokes the key of an earlier value of PIXEL_API_KEY."""
    key_id = _hash(key)[:12] if key else None
    records = await list_keys(store)
    for record in records:
        if record.name == ENVIRONMENT_KEY_NAME and (record.id != key_id or record.scopes != list(SCOPES)):
            with suppress(UnknownApiKey):  # another process was first
                await revoke(store, record.id, ENVIRONMENT_KEY_NAME)
            records = [other for other in records if other is not record]
    if key and key_id not in {record.id for record in records}:
        await create(store, ENVIRONMENT_KEY_NAME, list(SCOPES), key, who=ENVIRONMENT_KEY_NAME)


def _record(key_id: str, fields: Any) -> ApiKey | None:
    """Decodes the stored fields of a key.

    Returns None if this version cannot read the fields. The key is then refused.
    """
    try:
        last_used = fields.get(b"last_used")
        return ApiKey(
            id=key_id,
            name=fields[b"name"].decode(),
            scopes=fields[b"scopes"].decode().split(),
            created=_seconds(fields[b"created"]),
            last_used=_seconds(last_used) if last_used else None,
        )
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        log.error(
            "api-key-unreadable",
            "the API key with the id %(id)s is refused, because its record cannot be read (%(error)s): "
            "update this server",
            id=key_id,
            error=error,
        )
        return None


def _seconds(value: bytes) -> int:
    """Returns a stored time in seconds. Raises ValueError if the time is not in the years 1970 to 9999."""
    if not 0 <= (at := int(value)) <= MAX_SECONDS:
        raise ValueError("a time out of range")
    return at


def to_json(record: ApiKey) -> dict[str, Any]:
    """Returns the record in the form of the API: its times are in ISO 8601."""
    shown: dict[str, Any] = msgspec.to_builtins(record)
    for name in ("created", "last_used"):
        if shown[name] is not None:
            shown[name] = iso(shown[name])
    return shown
