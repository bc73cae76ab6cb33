"""Sources of events: a mail service that may post to `BASE/in/PROVIDER/SECRET`.

The store holds a hash of the secret; the secret itself is shown once. The key of a source is what its
provider signs with, or the password of basic auth, see `providers`. A provider shows some keys only once the
address is entered, so a key may be set later. A source without a key that it needs takes no events.
"""

from __future__ import annotations

import re
import secrets
from contextlib import suppress
from typing import Any

import msgspec
import redis

from pixel_server.auth.token_hash import token_hash
from pixel_server.deliveries.providers import PROVIDERS
from pixel_server.logs import Log
from pixel_server.store import audit_log, keys, replication
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.replication import NotReplicatedError
from pixel_server.store.script import ScriptCall, script_call
from pixel_server.times import MAX_SECONDS, iso

log = Log(__name__)

MAX_SOURCES = 100
"""Largest number of sources."""
ID_PATTERN = "[0-9a-f]{12}"
SECRET_BYTES = 24
"""Number of random bytes of a secret. A URL shows them as 32 characters."""
MAX_SECRET_CHARACTERS = 100
"""Largest number of characters of a secret that is looked up."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """The record of a source, without its secret. Times are seconds since 1970.

    key: as the provider's `stored_key` returns it, or None if it is not set. made_by: name of the creator in
    the audit log. last_used: time of the last request with events.
    """

    id: str
    provider: str
    name: str
    created: int
    made_by: str
    key: str | None = None
    last_used: int | None = None


class Used(msgspec.Struct, frozen=True):
    """Numbers of events of a source, ever. counted: events that were counted. ignored: the others."""

    counted: int = 0
    ignored: int = 0


class TooManySources(ValueError):
    """There are MAX_SOURCES sources."""

    def __init__(self) -> None:
        super().__init__(f"there are {MAX_SOURCES} sources at most: remove one first")


class UnknownSource(LookupError):
    """No source has this id."""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Source).decode

_ADD = """
-- KEYS: sources, source. ARGV: id, hash of the secret, record, MAX_SOURCES.
-- Returns 1, or 0 if there are too many sources.
if redis.call('SCARD', KEYS[1]) >= tonumber(ARGV[4]) then return 0 end
redis.call('HSET', KEYS[2], 'hash', ARGV[2], 'record', ARGV[3])
redis.call('SADD', KEYS[1], ARGV[1])
return 1
"""


def _add_call(source: Source, digest: str) -> ScriptCall:
    """Returns the call that stores a source. digest: hash of its secret."""
    return script_call(
        _ADD,
        keys=(keys.SOURCES, keys.source(source.id)),
        arguments=(source.id, digest, _encode(source), MAX_SOURCES),
    )


_CHANGE = """
-- KEYS: source. ARGV: record as read, new record. Returns 1, or 0 if the record has changed or is gone.
if redis.call('HGET', KEYS[1], 'record') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'record', ARGV[2])
return 1
"""

_NOTE_USE = """
-- KEYS: source. ARGV: time (s), number of counted events, number of ignored events.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'used', ARGV[1])
redis.call('HINCRBY', KEYS[1], 'counted', ARGV[2])
redis.call('HINCRBY', KEYS[1], 'ignored', ARGV[3])
return 1
"""


def _note_use_call(source_id: str, now: int, *, counted: int, ignored: int) -> ScriptCall:
    return script_call(_NOTE_USE, keys=(keys.source(source_id),), arguments=(now, counted, ignored))


def _hash(secret: str) -> str:
    return token_hash(secret, b"px-source")


async def add(
    store: AsyncRedis,
    provider: str,
    name: str,
    key: str | None,
    now: float,
    who: str = audit_log.COMMAND,
) -> tuple[Source, str]:
    """Adds a source. Returns its record and its secret.

    key: as the provider shows it, or None if it is not known yet. who: name for the audit log. Raises
    LookupError if there is no such provider, ValueError if the key is bad, and TooManySources.
    """
    stored_key = None if key is None else PROVIDERS[provider].stored_key(key)
    secret = secrets.token_urlsafe(SECRET_BYTES)
    digest = _hash(secret)
    source = Source(
        id=digest[:12], provider=provider, name=name, created=int(now), made_by=who, key=stored_key
    )
    await audit_log.note(store, who, "deliveries.source_added", source=source.id, provider=provider)
    if not await store.eval(*_add_call(source, digest)):
        raise TooManySources
    try:
        await replication.confirm(store)
    except NotReplicatedError:
        await _remove(store, source.id)  # the caller is not shown the secret
        raise
    return source, secret


async def find(store: AsyncRedis, provider: str, secret: str) -> Source | None:
    """Returns the source with a secret, or None if the provider has no such source."""
    if len(secret) > MAX_SECRET_CHARACTERS:
        return None
    digest = _hash(secret)
    fields = await store.hgetall(keys.source(digest[:12]))
    if fields.get(b"hash") != digest.encode():
        return None
    source = _decode_source(fields)
    return source if source is not None and source.provider == provider else None


async def note_use(store: AsyncRedis, source: Source, now: float, *, counted: int, ignored: int) -> None:
    """Adds to the numbers of a source. now: seconds."""
    with suppress(redis.ResponseError):  # a full store refuses this write; the events are counted
        await store.eval(*_note_use_call(source.id, int(now), counted=counted, ignored=ignored))


async def list_sources(store: AsyncRedis) -> list[tuple[Source, Used]]:
    """Returns all sources and their numbers, oldest first."""
    pipe = store.pipeline(transaction=False)
    for source_id in await store.smembers(keys.SOURCES):
        pipe.hgetall(keys.source(source_id.decode(errors="replace")))
    found = []
    for fields in await pipe.execute(raise_on_error=False):
        source = _decode_source(fields) if fields else None
        if source is not None:
            used = Used(int(fields.get(b"counted", 0)), int(fields.get(b"ignored", 0)))
            found.append((source, used))
    return sorted(found, key=lambda pair: (pair[0].created, pair[0].id))


async def set_key(store: AsyncRedis, source_id: str, key: str, who: str = audit_log.COMMAND) -> Source:
    """Sets the key of a source. who: name for the audit log.

    Raises UnknownSource, or ValueError if the key is bad.
    """
    while True:
        fields = await _fields(store, source_id)
        source = _decode_source(fields)
        if source is None:
            raise UnknownSource(source_id)
        stored_key = PROVIDERS[source.provider].stored_key(key)
        await audit_log.note(store, who, "deliveries.source_key_set", source=source_id)
        record = _encode(msgspec.structs.replace(source, key=stored_key, last_used=None))
        call = script_call(_CHANGE, keys=(keys.source(source_id),), arguments=(fields[b"record"], record))
        if await store.eval(*call):
            await replication.confirm(store)
            return msgspec.structs.replace(source, key=stored_key)


async def remove(store: AsyncRedis, source_id: str, who: str = audit_log.COMMAND) -> None:
    """Removes a source. who: name for the audit log. Raises UnknownSource."""
    await _fields(store, source_id)
    await audit_log.note(store, who, "deliveries.source_removed", source=source_id)
    if not await _remove(store, source_id):
        raise UnknownSource(source_id)
    await replication.confirm(store)


async def _remove(store: AsyncRedis, source_id: str) -> bool:
    pipe = store.pipeline()
    pipe.srem(keys.SOURCES, source_id)
    pipe.delete(keys.source(source_id))
    return bool((await pipe.execute())[1])


async def _fields(store: AsyncRedis, source_id: str) -> dict[bytes, bytes]:
    """Returns the stored fields of a source. Raises UnknownSource."""
    fields = await store.hgetall(keys.source(source_id)) if re.fullmatch(ID_PATTERN, source_id) else {}
    if not fields:
        raise UnknownSource(source_id)
    return fields


def _decode_source(fields: Any) -> Source | None:
    """Decodes the stored fields. Returns None if this version cannot read them; the source takes nothing."""
    try:
        used = fields.get(b"used")
        source = msgspec.structs.replace(_decode(fields[b"record"]), last_used=int(used) if used else None)
        if source.provider not in PROVIDERS:
            raise ValueError("a provider of a newer version")
        if not all(0 <= at <= MAX_SECONDS for at in (source.created, source.last_used or 0)):
            raise ValueError("a time out of range")
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        log.error(
            "source-unreadable",
            "a source of events takes nothing, because its record cannot be read (%(error)s): update this "
            "server",
            error=error,
        )
        return None
    return source


def url(base_url: str, source: Source, secret: str) -> str:
    """Returns the address to which the provider posts. base_url: without a slash at its end."""
    return f"{base_url}/in/{source.provider}/{secret}"


def to_json(source: Source, used: Used) -> dict[str, Any]:
    """Returns the record in the form of the API: without the key, and times in ISO 8601.

    needs_key: whether the source takes no events because its key is not set.
    """
    return {
        "id": source.id,
        "provider": source.provider,
        "name": source.name,
        "created": iso(source.created),
        "made_by": source.made_by,
        "has_key": source.key is not None,
        "needs_key": source.key is None and PROVIDERS[source.provider].is_key_needed,
        "last_used": None if source.last_used is None else iso(source.last_used),
        "counted": used.counted,
        "ignored": used.ignored,
    }
