"""Sessions of the dashboard: a signed cookie with the id of the API key with which the user signed in."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from dataclasses import dataclass
from hashlib import blake2b
from secrets import token_bytes
from struct import Struct

from starlette.responses import Response

from pixel_server import signed_cookie
from pixel_server.auth import api_keys
from pixel_server.auth.token_hash import token_hash
from pixel_server.secret import Secrets
from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.script import even_if_full

COOKIE = "px_session"
FORMAT = 1
"""Version of the layout of a cookie's body."""
LIFETIME_SECONDS = 12 * 3600
_BODY = Struct(">B6s8sQ")
"""Format, id of the API key, random bytes, time of expiry (s)."""
_TAG_BYTES = 16


@dataclass(frozen=True, slots=True)
class Session:
    """A session. key_id, name, scopes: those of its API key. csrf: see the function `csrf`."""

    key_id: str
    name: str
    scopes: frozenset[str]
    csrf: str

    @property
    def shared_campaigns(self) -> list[str]:
        """Returns the ids in scopes for one campaign: `spring` for the scope `read:spring`."""
        return api_keys.shared_campaigns(sorted(self.scopes))


def issue_cookie(secrets: Secrets, key_id: str, now: float) -> str:
    """Returns the value of a new session's cookie. key_id: 12 hexadecimal digits."""
    body = _BODY.pack(FORMAT, bytes.fromhex(key_id), token_bytes(8), int(now) + LIFETIME_SECONDS)
    return signed_cookie.sign(body, secrets.sessions[0], _TAG_BYTES).decode()


def api_key_id(secrets: Secrets, cookie: str, now: float) -> str | None:
    """Returns the id of the API key with which the user of this cookie signed in.

    Returns None if the cookie is forged, cut off, expired or of another format.
    """
    body = signed_cookie.verify(cookie.encode(errors="replace"), secrets.sessions, _TAG_BYTES)
    if body is None or len(body) != _BODY.size:
        return None
    version, packed_id, _, expires = _BODY.unpack(body)
    if version != FORMAT or now >= expires:
        return None
    key_id: str = packed_id.hex()
    return key_id


async def find_session(store: AsyncRedis, secrets: Secrets, cookie: str, now: float) -> Session | None:
    """Returns the session of a cookie.

    Returns None if the cookie is not valid, its API key is revoked, or its user has signed out.
    """
    key_id = api_key_id(secrets, cookie, now)
    record = await api_keys.find_by_id(store, key_id) if key_id else None
    if record is None or await store.exists(keys.signed_out(_hash(cookie))):
        return None
    return Session(record.id, record.name, frozenset(record.scopes), csrf(secrets, cookie))


async def end(store: AsyncRedis, cookie: str) -> None:
    """Ends the session of a cookie: no copy of the cookie is accepted from now on."""
    await even_if_full(store, "SET", keys.signed_out(_hash(cookie)), b"1", "EX", LIFETIME_SECONDS)


def csrf(secrets: Secrets, cookie: str) -> str:
    """Returns the token that the forms of a session carry, so that no other site can send them."""
    digest = blake2b(cookie.encode(), digest_size=16, key=secrets.sessions[0], person=b"px-csrf")
    return urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()


def set_cookie(response: Response, cookie: str, path: str, secure: bool) -> None:
    """Adds the session's cookie to a response.

    path: browsers send the cookie only with requests for this path and the paths below it. secure: whether
    browsers send the cookie over HTTPS only.
    """
    response.set_cookie(
        COOKIE, cookie, max_age=LIFETIME_SECONDS, path=path, secure=secure, httponly=True, samesite="lax"
    )


def delete_cookie(response: Response, path: str, secure: bool) -> None:
    """Adds the header that deletes the session's cookie. path, secure: the values with which it was set."""
    response.delete_cookie(COOKIE, path=path, secure=secure, httponly=True, samesite="lax")


def _hash(cookie: str) -> str:
    return token_hash(cookie, b"px-signed-out")
