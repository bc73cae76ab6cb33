"""The cookie of a web campaign with identity `cookie`: who came, how often, and where the hits go.

One for each campaign, signed, so that the server need keep nothing: what it does not hold as it was signed
here is no cookie, and who sends it is new. 40 characters: base64url of format (1 byte), id (8), shard (1),
first seen and last hit (s, 4 each), number of visits (2), and a tag of 10 bytes over them and the campaign.
"""

from __future__ import annotations

import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from hmac import compare_digest
from struct import Struct
from typing import NamedTuple

from pixel_server.times import DAY

FORMAT = 1
LIFETIME = 395 * DAY
"""Seconds from the first visit: 13 months, as the CNIL allows (guidelines on cookies, 2020-09-17, 51)."""
PAUSE = 30 * 60
"""Seconds without a hit that end a visit."""
FRESH = 60
"""Seconds by which the last hit may be newer than the cookie says, until it is set again."""
SKEW = 300
"""Seconds by which the clock of another web process may be ahead."""
MOST_VISITS = 0xFFFF

_BODY = Struct(">B8sBIIH")
_TAG = 10
_LENGTH = (_BODY.size + _TAG) * 4 // 3
_TRIED = 4
"""Cookies of one name that are tried: a browser sends one for each path and partition."""
_NEAR = (None, b"same-origin", b"same-site", b"none")


class Cookie(NamedTuple):
    """What a cookie holds. first, last: seconds."""

    id: bytes
    shard: int
    first: int
    last: int
    visits: int


def new(shard: int, now: int) -> Cookie:
    return Cookie(os.urandom(8), shard, now, now, 1)


def again(held: Cookie, now: int) -> Cookie:
    """The same one, with a hit now."""
    visits = min(held.visits + (now - held.last > PAUSE), MOST_VISITS)
    return held._replace(last=max(now, held.last), visits=visits)


def is_due(before: Cookie, after: Cookie) -> bool:
    """Whether the cookie is to be set again."""
    return after.visits != before.visits or after.last - before.last > FRESH


def read(cookies: bytes | None, campaign: str, keys: Sequence[bytes], now: int, shards: int) -> Cookie | None:
    """What the cookie of this campaign holds, if it is good. cookies: the header `Cookie`, as sent."""
    for value in _values(cookies, b"px_" + campaign.encode()) if cookies else ():
        held = _verified(value, campaign, keys)
        if (
            held is not None
            and held.shard < shards
            and now - LIFETIME <= held.first <= held.last <= now + SKEW
        ):
            return held
    return None


def header(
    held: Cookie, campaign: str, key: bytes, path: str, now: int, site: bytes | None
) -> tuple[bytes, bytes]:
    """`Set-Cookie`. path: of the pages' pixels. site: `Sec-Fetch-Site`; browsers keep what comes from another
    site for that one alone (CHIPS, `Partitioned`)."""
    where = "SameSite=Lax" if site in _NEAR else "SameSite=None; Partitioned"
    age = min(held.first + LIFETIME - now, LIFETIME)
    value = sign(held, campaign, key).decode()
    line = f"px_{campaign}={value}; Path={path}; Max-Age={age}; HttpOnly; Secure; {where}"
    return b"set-cookie", line.encode()


def sign(held: Cookie, campaign: str, key: bytes) -> bytes:
    body = _BODY.pack(FORMAT, *held)
    return urlsafe_b64encode(body + _tag(body, campaign, key))


def _verified(value: bytes, campaign: str, keys: Sequence[bytes]) -> Cookie | None:
    try:
        data = urlsafe_b64decode(value)
    except ValueError:
        return None
    if urlsafe_b64encode(data) != value:
        return None
    body, tag = data[: _BODY.size], data[_BODY.size :]
    good = False
    for key in keys:
        good |= compare_digest(_tag(body, campaign, key), tag)
    form, *fields = _BODY.unpack(body)
    return Cookie(*fields) if good and form == FORMAT else None


def _tag(body: bytes, campaign: str, key: bytes) -> bytes:
    return blake2b(body + campaign.encode(), digest_size=_TAG, key=key).digest()


def _values(cookies: bytes, name: bytes) -> Iterator[bytes]:
    """The first few values of the right length."""
    left = _TRIED
    for pair in cookies.replace(b",", b";").split(b";"):
        found, _, value = pair.strip().partition(b"=")
        if found == name and len(value) == _LENGTH:
            yield value
            left -= 1
            if not left:
                return
