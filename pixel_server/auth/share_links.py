"""Share links: a link shows the shared figures of a campaign without an API key.

A link is `BASE/s/TOKEN`. The store holds a hash of the token; the token itself is shown once. An expired link
opens nothing, but stays listed until it is revoked. The links of a campaign are deleted with the campaign.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import msgspec
import redis

from pixel_server.auth.token_hash import token_hash
from pixel_server.campaigns.storage import UnknownCampaign
from pixel_server.logs import Log
from pixel_server.store import audit_log, keys
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.script import ScriptCall, script_call
from pixel_server.times import MAX_SECONDS, iso

log = Log(__name__)

MAX_SHARES = 100
"""Largest number of share links of a campaign."""
ID_PATTERN = "[0-9a-f]{12}"
TOKEN_BYTES = 24
"""Number of random bytes of a token. A URL shows them as 32 characters."""
MAX_TOKEN_CHARACTERS = 100
"""Largest number of characters of a token that is looked up."""
_HOUR_SECONDS = 3600


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """The record of a share link, without its token. Times are seconds since 1970.

    expires_at: None if the link never expires. last_used: start of the hour of the last use. frames: origins
    whose pages may show the link's page in a frame. made_by: name of the creator in the audit log.
    """

    id: str
    campaign: str
    name: str
    created: int
    made_by: str
    expires_at: int | None = None
    frames: tuple[str, ...] = ()
    last_used: int | None = None


class TooManyShares(ValueError):
    """The campaign has MAX_SHARES share links."""

    def __init__(self) -> None:
        super().__init__(f"a campaign has {MAX_SHARES} share links at most: revoke one first")


class UnknownShare(LookupError):
    """The campaign has no share link with this id."""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Share).decode

_CREATE = """
-- KEYS: campaign, shares, share. ARGV: id, hash of the token, record, MAX_SHARES.
-- Returns 1; 0 if the campaign does not exist; -1 if the campaign has too many share links.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
if redis.call('SCARD', KEYS[2]) >= tonumber(ARGV[4]) then return -1 end
redis.call('HSET', KEYS[3], 'hash', ARGV[2], 'record', ARGV[3])
redis.call('SADD', KEYS[2], ARGV[1])
return 1
"""


def _create_call(share: Share, digest: str) -> ScriptCall:
    """Returns the call that stores a share link. digest: hash of its token."""
    return script_call(
        _CREATE,
        keys=(keys.campaign(share.campaign), keys.shares(share.campaign), keys.share(share.id)),
        arguments=(share.id, digest, _encode(share), MAX_SHARES),
    )


_REVOKE = """
-- KEYS: shares, share. ARGV: id. Returns 1, or 0 if the campaign has no share link with this id.
if redis.call('SREM', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('DEL', KEYS[2])
return 1
"""


def _revoke_call(campaign: str, share_id: str) -> ScriptCall:
    return script_call(_REVOKE, keys=(keys.shares(campaign), keys.share(share_id)), arguments=(share_id,))


_NOTE_USE = "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], 'used', ARGV[1]) end"


def _note_use_call(share_id: str, hour: int) -> ScriptCall:
    """Returns the call that stores the hour of use of a share link. hour: its start, seconds since 1970."""
    return script_call(_NOTE_USE, keys=(keys.share(share_id),), arguments=(hour,))


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
    """Creates a share link. Returns its record and its token.

    who: name for the audit log. Raises TooManyShares or UnknownCampaign.
    """
    token = secrets.token_urlsafe(TOKEN_BYTES)
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
    if await store.scard(keys.shares(campaign)) >= MAX_SHARES:
        raise TooManyShares
    await audit_log.note(store, who, "share.made", campaign=campaign, share=share.id)
    status = await store.eval(*_create_call(share, digest))
    if status == 0:
        raise UnknownCampaign(campaign)
    if status < 0:
        raise TooManyShares
    return share, token


async def find(store: AsyncRedis, token: str, now: float) -> Share | None:
    """Returns the share link with a token, or None if the link is unknown or expired.

    Updates `last_used`, at most once an hour.
    """
    if len(token) > MAX_TOKEN_CHARACTERS:
        return None
    digest = _hash(token)
    fields = await store.hgetall(keys.share(digest[:12]))
    if fields.get(b"hash") != digest.encode():
        return None
    share = _decode_share(fields)
    if share is None or has_expired(share, now):
        return None
    hour = int(now) // _HOUR_SECONDS * _HOUR_SECONDS
    if share.last_used is None or share.last_used < hour:
        with suppress(redis.ResponseError):  # a full store refuses this write, but the link must open
            await store.eval(*_note_use_call(share.id, hour))
    return share


def has_expired(share: Share, now: float) -> bool:
    return share.expires_at is not None and share.expires_at <= now


async def list_shares(store: AsyncRedis, campaign: str) -> list[Share]:
    """Returns the share links of a campaign, oldest first, including expired links."""
    pipe = store.pipeline(transaction=False)
    for share_id in await store.smembers(keys.shares(campaign)):
        pipe.hgetall(keys.share(share_id.decode(errors="replace")))
    decoded = [_decode_share(fields) for fields in await pipe.execute(raise_on_error=False) if fields]
    shares = [share for share in decoded if share is not None]
    return sorted(shares, key=lambda share: (share.created, share.id))


async def find_names(store: AsyncRedis, share_ids: Iterable[str]) -> dict[str, str]:
    """Returns the names of the share links with these ids, without links that were revoked."""
    pipe = store.pipeline(transaction=False)
    for share_id in share_ids:
        pipe.hgetall(keys.share(share_id))
    decoded = [_decode_share(fields) for fields in await pipe.execute(raise_on_error=False) if fields]
    return {share.id: share.name for share in decoded if share is not None}


async def revoke(store: AsyncRedis, campaign: str, share_id: str, who: str = audit_log.COMMAND) -> None:
    """Revokes a share link. who: name for the audit log. Raises UnknownShare."""
    if not re.fullmatch(ID_PATTERN, share_id) or not await store.sismember(keys.shares(campaign), share_id):
        raise UnknownShare(share_id)
    await audit_log.note(store, who, "share.revoked", campaign=campaign, share=share_id)
    if not await store.eval(*_revoke_call(campaign, share_id)):
        raise UnknownShare(share_id)


def _decode_share(fields: Any) -> Share | None:
    """Decodes the stored fields of a share link.

    Returns None if this version cannot read the fields. The link then opens nothing.
    """
    try:
        last_used = fields.get(b"used")
        share = msgspec.structs.replace(
            _decode(fields[b"record"]), last_used=int(last_used) if last_used else None
        )
        times = (share.created, share.expires_at or 0, share.last_used or 0)
        if not all(0 <= at <= MAX_SECONDS for at in times):
            raise ValueError("a time out of range")
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        log.error(
            "share-link-unreadable",
            "a share link opens nothing, because its record cannot be read (%(error)s): update this server",
            error=error,
        )
        return None
    return share


def url(base_url: str, token: str) -> str:
    """Returns the URL of a share link. base_url: without a slash at its end."""
    return f"{base_url}/s/{token}"


def to_json(share: Share) -> dict[str, Any]:
    """Returns the record in the form of the API: its times are in ISO 8601."""
    shown: dict[str, Any] = msgspec.to_builtins(share)
    for name in ("created", "expires_at", "last_used"):
        if shown[name] is not None:
            shown[name] = iso(shown[name])
    return shown
