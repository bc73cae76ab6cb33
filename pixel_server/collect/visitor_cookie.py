"""The visitor cookie of a web campaign with identity `cookie`: visitor, number of visits, and shard.

Each campaign has its own cookie. The cookie is signed, so the server stores nothing about it. A request
without a cookie that this server signed comes from a new visitor. The value has 40 characters: base64url of
format (1 byte), id (8), shard (1), first and last hit (4 each, s), number of visits (2), and a tag of 10
bytes over these fields and the campaign.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from struct import Struct
from typing import NamedTuple

from pixel_server import signed_cookie
from pixel_server.times import DAY

FORMAT = 1
LIFETIME_SECONDS = 395 * DAY
"""Seconds from the first visit until the cookie expires: 13 months, as the CNIL allows (guidelines on
cookies, 2020-09-17, 51)."""
VISIT_PAUSE_SECONDS = 30 * 60
"""Seconds without a hit that end a visit."""
RENEW_SECONDS = 60
"""Seconds from the last hit that the cookie holds to a new hit, above which the cookie is set again."""
MAX_SKEW_SECONDS = 300
"""Seconds that the clock of another web process may be ahead."""
MAX_VISITS = 0xFFFF

_BODY = Struct(">B8sBIIH")
_TAG_BYTES = 10
_LENGTH = (_BODY.size + _TAG_BYTES) * 4 // 3
_MAX_TRIES = 4
"""Number of cookies of one name that are tried. A browser sends a cookie for each path and partition."""
_SAME_SITE = (None, b"same-origin", b"same-site", b"none")
"""Values of `Sec-Fetch-Site` for which the page belongs to the same site as the pixel."""


class Cookie(NamedTuple):
    """The fields of a cookie. first, last: times of the first and the last hit (s)."""

    id: bytes
    shard: int
    first: int
    last: int
    visits: int


def new(shard: int, now: int) -> Cookie:
    """Returns the cookie of a new visitor, with a random id."""
    return Cookie(os.urandom(8), shard, now, now, 1)


def with_hit(cookie: Cookie, now: int) -> Cookie:
    """Returns the same visitor's cookie after a hit at `now`."""
    visits = min(cookie.visits + (now - cookie.last > VISIT_PAUSE_SECONDS), MAX_VISITS)
    return cookie._replace(last=max(now, cookie.last), visits=visits)


def is_renewal_due(sent: Cookie, cookie: Cookie) -> bool:
    """Returns whether the cookie must be set again. sent: as sent. cookie: with the new hit."""
    return cookie.visits != sent.visits or cookie.last - sent.last > RENEW_SECONDS


def read_cookie(
    header: bytes | None, campaign: str, keys: Sequence[bytes], now: int, shards: int
) -> Cookie | None:
    """Returns the valid cookie of this campaign, None if there is no valid cookie.

    header: the value of the header `Cookie`, as the browser sent it.
    """
    for value in _values(header, b"px_" + campaign.encode()) if header else ():
        cookie = _verify(value, campaign, keys)
        if (
            cookie is not None
            and cookie.shard < shards
            and now - LIFETIME_SECONDS <= cookie.first <= cookie.last <= now + MAX_SKEW_SECONDS
        ):
            return cookie
    return None


def set_cookie_header(
    cookie: Cookie, campaign: str, key: bytes, path: str, now: int, site: bytes | None
) -> tuple[bytes, bytes]:
    """Returns the name and value of the header `Set-Cookie`.

    path: the common path of web pixels, for example `/p/`. site: the header `Sec-Fetch-Site`. A page of
    another site gets a partitioned cookie, which the browser sends from that site only (CHIPS,
    `Partitioned`).
    """
    scope = "SameSite=Lax" if site in _SAME_SITE else "SameSite=None; Partitioned"
    age = min(cookie.first + LIFETIME_SECONDS - now, LIFETIME_SECONDS)
    value = sign(cookie, campaign, key).decode()
    line = f"px_{campaign}={value}; Path={path}; Max-Age={age}; HttpOnly; Secure; {scope}"
    return b"set-cookie", line.encode()


def sign(cookie: Cookie, campaign: str, key: bytes) -> bytes:
    """Returns the signed value of a cookie."""
    return signed_cookie.sign(_BODY.pack(FORMAT, *cookie), key, _TAG_BYTES, campaign.encode())


def _verify(value: bytes, campaign: str, keys: Sequence[bytes]) -> Cookie | None:
    body = signed_cookie.verify(value, keys, _TAG_BYTES, campaign.encode())
    if body is None:
        return None
    version, *fields = _BODY.unpack(body)
    return Cookie(*fields) if version == FORMAT else None


def _values(header: bytes, name: bytes) -> Iterator[bytes]:
    """Yields the first few values of this name that have the right length."""
    tries_left = _MAX_TRIES
    for pair in header.replace(b",", b";").split(b";"):
        pair_name, _, value = pair.strip().partition(b"=")
        if pair_name == name and len(value) == _LENGTH:
            yield value
            tries_left -= 1
            if not tries_left:
                return
