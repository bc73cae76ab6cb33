"""Who is signed in: a signed cookie that names an API key, and the key's own record."""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from hashlib import blake2b
from secrets import token_bytes
from struct import Struct, error

from starlette.responses import Response

from pixel_server.auth import api_keys
from pixel_server.auth.token_hash import token_hash
from pixel_server.secret import Secrets
from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.script import even_if_full

COOKIE = "px_session"
FORMAT = 1
LIVES = 12 * 3600
"""Seconds."""
_BODY = Struct(">B6s8sQ")
"""Format, id of the API key, random, when it expires (s)."""
_TAG = 16


@dataclass(frozen=True, slots=True)
class Session:
    """name: of the API key. csrf: what forms of this session carry."""

    key_id: str
    name: str
    scopes: frozenset[str]
    csrf: str

    @property
    def shares(self) -> list[str]:
        """Campaigns of which it sees what is shared."""
        return api_keys.shares(sorted(self.scopes))


def issue(secrets: Secrets, key_id: str, now: float) -> str:
    """The cookie's value. key_id: 12 hexadecimal digits."""
    body = _BODY.pack(FORMAT, bytes.fromhex(key_id), token_bytes(8), int(now) + LIVES)
    return _text(body + _tag(body, secrets.sessions[0]))


def key_of(secrets: Secrets, cookie: str, now: float) -> str | None:
    """The id of the API key that signed in; None: forged, cut, expired, or of another format."""
    try:
        value = urlsafe_b64decode(cookie.encode() + b"=" * (-len(cookie) % 4))
        body, tag = value[:-_TAG], value[-_TAG:]
        version, key, _, expires = _BODY.unpack(body)
    except (ValueError, error):
        return None
    good = [hmac.compare_digest(tag, _tag(body, secret)) for secret in secrets.sessions]
    if not any(good) or version != FORMAT or now >= expires or _text(value) != cookie:
        return None
    found: str = key.hex()
    return found


async def find(store: AsyncRedis, secrets: Secrets, cookie: str, now: float) -> Session | None:
    """The session of this cookie; None too where its API key is revoked, or who it was has signed out."""
    key = key_of(secrets, cookie, now)
    record = await api_keys.get(store, key) if key else None
    if record is None or await store.exists(keys.signed_out(_hash(cookie))):
        return None
    return Session(record.id, record.name, frozenset(record.scopes), csrf(secrets, cookie))


async def end(store: AsyncRedis, cookie: str) -> None:
    """A copy of the cookie signs nobody in any more."""
    await even_if_full(store, "SET", keys.signed_out(_hash(cookie)), b"1", "EX", LIVES)


def csrf(secrets: Secrets, cookie: str) -> str:
    """What the forms of a session carry: no other site can know it, and it is of this one alone."""
    made = blake2b(cookie.encode(), digest_size=16, key=secrets.sessions[0], person=b"px-csrf")
    return _text(made.digest())


def remember(response: Response, cookie: str, path: str, secure: bool) -> None:
    response.set_cookie(
        COOKIE, cookie, max_age=LIVES, path=path, secure=secure, httponly=True, samesite="lax"
    )


def forget(response: Response, path: str, secure: bool) -> None:
    response.delete_cookie(COOKIE, path=path, secure=secure, httponly=True, samesite="lax")


def _tag(body: bytes, secret: bytes) -> bytes:
    return blake2b(body, digest_size=_TAG, key=secret).digest()


def _hash(cookie: str) -> str:
    return token_hash(cookie, b"px-signed-out")


def _text(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode()
