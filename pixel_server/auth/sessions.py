"""Sessions of the dashboard.

A session is a signed cookie with the id of the API key with which the user signed in. A user whom a proxy
signed in needs no cookie: the proxy names the user in each request.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from dataclasses import dataclass
from hashlib import blake2b
from secrets import token_bytes
from struct import Struct

from starlette.responses import Response

from pixel_server import signed_cookie
from pixel_server.auth import api_keys
from pixel_server.auth.proxy_users import ProxyUser
from pixel_server.auth.token_hash import token_hash
from pixel_server.scopes import shared_campaigns
from pixel_server.secret import Secrets
from pixel_server.store import audit_log, keys
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
    """A session.

    key_id: id of its API key, None if a proxy signed the user in. name, scopes: those of the key or the user.
    csrf: token that the forms of the session carry, so that no other site can send them. who: name for the
    audit log.
    """

    key_id: str | None
    name: str
    scopes: frozenset[str]
    csrf: str
    who: str

    @property
    def shared_campaigns(self) -> list[str]:
        """Returns the ids in scopes for one campaign: `spring` for the scope `read:spring`."""
        return shared_campaigns(sorted(self.scopes))


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
    token = _csrf(secrets, cookie, b"px-csrf")
    return Session(record.id, record.name, frozenset(record.scopes), token, f"key {record.id}")


def session_of_user(secrets: Secrets, user: ProxyUser) -> Session:
    """Returns the session of a user whom a proxy signed in. It is the same in all requests."""
    token = _csrf(secrets, user.name, b"px-csrf-user")
    return Session(None, user.name, user.scopes, token, user.name + audit_log.BY_PROXY)


async def end(store: AsyncRedis, cookie: str) -> None:
    """Ends the session of a cookie: no copy of the cookie is accepted from now on."""
    await even_if_full(store, "SET", keys.signed_out(_hash(cookie)), b"1", "EX", LIFETIME_SECONDS)


def _csrf(secrets: Secrets, holder: str, person: bytes) -> str:
    """Returns the token of a cookie, or of a user. person: which of both, so that their tokens differ."""
    digest = blake2b(holder.encode(), digest_size=16, key=secrets.sessions[0], person=person)
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
