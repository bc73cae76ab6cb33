"""Share links: who has one sees one campaign's shared figures without an API key. Kept as a hash, shown once.

A link is `BASE/s/TOKEN`. One that has expired stays listed until it is revoked, and opens nothing. All links
of a campaign go with it.
"""

from __future__ import annotations

import logging
import re
import secrets
from contextlib import suppress
from typing import Any

import msgspec
import redis

from pixel_server.auth.token_hash import token_hash
from pixel_server.campaigns.storage import UnknownCampaign
from pixel_server.store import audit_log, keys
from pixel_server.store.protocols import AsyncRedis
from pixel_server.times import iso

log = logging.getLogger("pixel_server.auth.share_links")

MOST = 100
"""Of one campaign."""
PATTERN = "[0-9a-f]{12}"
"""Of an id."""
BYTES = 24
"""Random ones of a token, of which the URL has 32 characters."""
LONGEST = 100
"""Characters of a token that is looked up."""
HOUR = 3600
_FULL = f"a campaign has {MOST} share links at most: revoke one first"


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """created, expires_at, last_used: seconds. expires_at: None: never. last_used: the hour in which it was.

    frames: origins whose pages may frame it. made_by: as in the audit log. The token is nowhere.
    """

    id: str
    campaign: str
    name: str
    created: int
    made_by: str
    expires_at: int | None = None
    frames: tuple[str, ...] = ()
    last_used: int | None = None


class Full(ValueError):
    """The campaign has as many share links as it may."""


class Unknown(LookupError):
    """The campaign has no such share link."""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Share).decode

_MAKE = """
-- KEYS: campaign, shares, share. ARGV: id, hash of the token, record, how many there may be.
-- Returns 1; 0: no campaign; -1: no room.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
if redis.call('SCARD', KEYS[2]) >= tonumber(ARGV[4]) then return -1 end
redis.call('HSET', KEYS[3], 'hash', ARGV[2], 'record', ARGV[3])
redis.call('SADD', KEYS[2], ARGV[1])
return 1
"""

_REVOKE = """
-- KEYS: shares, share. ARGV: id. Returns 1, or 0 if the campaign has none of this id.
if redis.call('SREM', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('DEL', KEYS[2])
return 1
"""

_USED = "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], 'used', ARGV[1]) end"


def _hash(token: str) -> str:
    return token_hash(token, b"px-share")


async def make(
    store: AsyncRedis,
    campaign: str,
    name: str,
    now: float,
    *,
    expires_at: int | None = None,
    frames: tuple[str, ...] = (),
    who: str = audit_log.COMMAND,
) -> tuple[Share, str]:
    """(the share, its token). who: for the audit log. Full. campaigns.Unknown: there is no such campaign."""
    token = secrets.token_urlsafe(BYTES)
    digest = _hash(token)
    share = Share(
        id=digest[:12],
        campaign=campaign,
        name=name,
        created=int(now),
        made_by=who,
        expires_at=expires_at,
        frames=frames,
    )
    if await store.scard(keys.shares(campaign)) >= MOST:
        raise Full(_FULL)
    await audit_log.note(store, who, "share.made", campaign=campaign, share=share.id)
    names = (keys.campaign(campaign), keys.shares(campaign), keys.share(share.id))
    done = await store.eval(_MAKE, 3, *names, share.id, digest, _encode(share), MOST)
    if done == 0:
        raise UnknownCampaign(campaign)
    if done < 0:
        raise Full(_FULL)
    return share, token


async def find(store: AsyncRedis, token: str, now: float) -> Share | None:
    """The share of this token; None: there is none, or it has expired. Notes its use, to the hour."""
    if len(token) > LONGEST:
        return None
    digest = _hash(token)
    kept = await store.hgetall(keys.share(digest[:12]))
    if kept.get(b"hash") != digest.encode():
        return None
    share = _share(kept)
    if share is None or is_over(share, now):
        return None
    hour = int(now) // HOUR * HOUR
    if share.last_used is None or share.last_used < hour:
        with suppress(redis.ResponseError):  # a full store can still be read
            await store.eval(_USED, 1, keys.share(share.id), hour)
    return share


def is_over(share: Share, now: float) -> bool:
    """Whether it has expired."""
    return share.expires_at is not None and share.expires_at <= now


async def listed(store: AsyncRedis, campaign: str) -> list[Share]:
    """All of a campaign's, oldest first, those that have expired too."""
    pipe = store.pipeline(transaction=False)
    for share in await store.smembers(keys.shares(campaign)):
        pipe.hgetall(keys.share(share.decode(errors="replace")))
    read = [_share(kept) for kept in await pipe.execute(raise_on_error=False) if kept]
    found = [share for share in read if share is not None]
    return sorted(found, key=lambda share: (share.created, share.id))


async def revoke(store: AsyncRedis, campaign: str, share: str, who: str = audit_log.COMMAND) -> None:
    """share: its id. who: for the audit log. Unknown: there is none."""
    if not re.fullmatch(PATTERN, share) or not await store.sismember(keys.shares(campaign), share):
        raise Unknown(share)
    await audit_log.note(store, who, "share.revoked", campaign=campaign, share=share)
    if not await store.eval(_REVOKE, 2, keys.shares(campaign), keys.share(share), share):
        raise Unknown(share)


def _share(kept: Any) -> Share | None:
    """Returns None for a share link whose record cannot be read, as a newer version's: it opens nothing."""
    try:
        used = kept.get(b"used")
        share = msgspec.structs.replace(_decode(kept[b"record"]), last_used=int(used) if used else None)
        times = (share.created, share.expires_at or 0, share.last_used or 0)
        if not all(0 <= at < 253_402_300_800 for at in times):
            raise ValueError("a time out of range")
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        log.error("a share link cannot be read and is left as it is: %s", type(error).__name__)
        return None
    return share


def url(base_url: str, token: str) -> str:
    """The link itself. base_url: without a slash at its end."""
    return f"{base_url}/s/{token}"


def to_json(share: Share) -> dict[str, Any]:
    """As the API shows it."""
    shown: dict[str, Any] = msgspec.to_builtins(share)
    for field in ("created", "expires_at", "last_used"):
        if shown[field] is not None:
            shown[field] = iso(shown[field])
    return shown
