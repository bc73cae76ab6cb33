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

FORMAT = 1
LIFETIME = 395 * 86_400
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


class Seen(NamedTuple):
    """What a cookie holds. first, last: seconds."""

    id: bytes
    shard: int
    first: int
    last: int
    visits: int


def new(shard: int, now: int) -> Seen:
    return Seen(os.urandom(8), shard, now, now, 1)


def again(seen: Seen, now: int) -> Seen:
    """The same one, with a hit now."""
    visits = min(seen.visits + (now - seen.last > PAUSE), MOST_VISITS)
    return seen._replace(last=max(now, seen.last), visits=visits)


def is_due(before: Seen, after: Seen) -> bool:
    """Whether the cookie is to be set again."""
    return after.visits != before.visits or after.last - before.last > FRESH


def read(cookies: bytes | None, campaign: str, keys: Sequence[bytes], now: int, shards: int) -> Seen | None:
    """What the cookie of this campaign holds, if it is good. cookies: the header `Cookie`, as sent."""
    for value in _values(cookies, b"px_" + campaign.encode()) if cookies else ():
        seen = _verified(value, campaign, keys)
        if (
            seen is not None
            and seen.shard < shards
            and now - LIFETIME <= seen.first <= seen.last <= now + SKEW
        ):
            return seen
    return None


def header(
    seen: Seen, campaign: str, key: bytes, path: str, now: int, site: bytes | None
) -> tuple[bytes, bytes]:
    """`Set-Cookie`. path: of the pages' pixels. site: `Sec-Fetch-Site`; browsers keep what comes from another
    site for that one alone (CHIPS, `Partitioned`)."""
    where = "SameSite=Lax" if site in _NEAR else "SameSite=None; Partitioned"
    age = min(seen.first + LIFETIME - now, LIFETIME)
    value = sign(seen, campaign, key).decode()
    line = f"px_{campaign}={value}; Path={path}; Max-Age={age}; HttpOnly; Secure; {where}"
    return b"set-cookie", line.encode()


def sign(seen: Seen, campaign: str, key: bytes) -> bytes:
    body = _BODY.pack(FORMAT, *seen)
    return urlsafe_b64encode(body + _tag(body, campaign, key))


def _verified(value: bytes, campaign: str, keys: Sequence[bytes]) -> Seen | None:
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
    return Seen(*fields) if good and form == FORMAT else None


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
