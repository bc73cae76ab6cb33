"""Links that sign in once: a random token, of which the store holds the hash, for ten minutes."""

from __future__ import annotations

import secrets

from pixel_server.auth import api_keys
from pixel_server.auth.token_hash import token_hash
from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.script import even_if_full

LIVES = 600
"""Seconds."""


class NoKey(LookupError):
    """There is no API key that a link could sign in with."""


async def make(store: AsyncRedis, key: str | None = None) -> str:
    """A token that signs in with this API key (its id); without one, with the oldest that may do all.

    NoKey: there is none.
    """
    fit = [
        record.id
        for record in await api_keys.listed(store)
        if (record.id == key if key else set(api_keys.SCOPES) <= set(record.scopes))
    ]
    if not fit:
        raise NoKey
    token = secrets.token_urlsafe(24)
    await even_if_full(store, "SET", keys.sign_in(_hash(token)), fit[0], "EX", LIVES)
    return token


async def take(store: AsyncRedis, token: str) -> str | None:
    """The id of the API key that this token signs in with, this once; None: it is used up, old or made up."""
    found: bytes | None = await store.getdel(keys.sign_in(_hash(token)))
    return found.decode() if found else None


def _hash(token: str) -> str:
    return token_hash(token, b"px-sign-in")
