"""Sign-in links: each works once, within ten minutes. The store holds a hash of the link's random token."""

from __future__ import annotations

import secrets

from pixel_server.auth import api_keys
from pixel_server.auth.token_hash import token_hash
from pixel_server.scopes import SCOPES
from pixel_server.store import audit_log, keys
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.script import even_if_full

LIFETIME_SECONDS = 600


class NoApiKey(LookupError):
    """No API key has the given id, or no API key has all scopes."""


async def make(store: AsyncRedis, key_id: str | None = None, *, who: str | None = None) -> str:
    """Returns the token of a new link.

    key_id: id of the API key that the link signs in with, or None for the oldest key with all scopes. who:
    name for the audit log, or None to write no line. Raises NoApiKey.
    """
    ids = [
        record.id
        for record in await api_keys.list_keys(store)
        if (record.id == key_id if key_id else set(SCOPES) <= set(record.scopes))
    ]
    if not ids:
        raise NoApiKey
    if who is not None:
        await audit_log.note(store, who, "sign_in_link.made", key=ids[0])
    token = secrets.token_urlsafe(24)
    await even_if_full(store, "SET", keys.sign_in(_hash(token)), ids[0], "EX", LIFETIME_SECONDS)
    return token


async def redeem(store: AsyncRedis, token: str) -> str | None:
    """Uses up the token of a link. Returns the id of the API key that the link signs in with.

    Returns None if the token was used before, has expired or is unknown.
    """
    key_id: bytes | None = await store.getdel(keys.sign_in(_hash(token)))
    return key_id.decode() if key_id else None


def _hash(token: str) -> str:
    return token_hash(token, b"px-sign-in")
