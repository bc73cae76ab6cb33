"""Consents: the reference of the consent of a recipient, stored with the list of a campaign.

A campaign of the preset `consented` tells a recipient apart only from the time of a stored consent on. Other
campaigns may store references too, without an effect on what is counted. A reference that comes later
replaces the earlier one. Erasure, retention and deletion remove it as they remove the list.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping

import msgspec

from pixel_server.campaigns import storage
from pixel_server.campaigns.campaign import Campaign
from pixel_server.consent_ref import ConsentRef
from pixel_server.counters.recipient_record import people_bucket
from pixel_server.counters.stored_format import refuse_newer
from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis, Pipeline
from pixel_server.store.readers import Reader
from pixel_server.store.shards import shard_of

FORMAT = 1

_STEP = 512
"""Number of keys named by one command."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, str, int]).decode

ConsentTimes = Mapping[str, Mapping[bytes, int]]
"""By the id of each campaign of the preset `consented`: times of consent (s) by recipient key."""


def pack(consent: ConsentRef) -> bytes:
    """Returns the stored bytes of a reference: msgpack of [format, version, time in seconds]."""
    return _encode((FORMAT, consent.version, consent.time))


def unpack(value: bytes) -> ConsentRef:
    """Returns the reference in stored bytes. Raises NewerFormat if a newer version wrote them."""
    refuse_newer(value, FORMAT, "consent")
    _, version, time = _decode(value)
    return ConsentRef(version, time)


def needs_consent(campaign: Campaign) -> bool:
    """Returns whether the campaign tells only recipients apart whose consent is stored."""
    return campaign.preset == "consented"


async def read(
    store: AsyncRedis, campaign: str, recipients: Iterable[bytes], shards: int
) -> dict[bytes, ConsentRef]:
    """Returns the stored references of these recipient keys. shards: number of shards."""
    recipient_keys = list(recipients)
    pipe = store.pipeline(transaction=False)
    for key in recipient_keys:
        pipe.hget(keys.consents(shard_of(key, shards), campaign, people_bucket(key)), key)
    values = await pipe.execute() if recipient_keys else []
    return {
        key: unpack(value) for key, value in zip(recipient_keys, values, strict=True) if value is not None
    }


def read_times(
    pipe: Pipeline, shard: int, recipients: Mapping[str, Iterable[bytes]]
) -> Reader[dict[str, dict[bytes, int]]]:
    """Returns the times of consent (s) by recipient key, for each of these campaigns.

    recipients: keys of recipients of the shard, by campaign. Raises NewerFormat if a newer version wrote one
    of the references.
    """
    pairs = [(campaign, key) for campaign, recipient_keys in recipients.items() for key in recipient_keys]
    times: dict[str, dict[bytes, int]] = {campaign: {} for campaign in recipients}
    for campaign, key in pairs:
        pipe.hget(keys.consents(shard, campaign, people_bucket(key)), key)
    values = (yield) if pairs else []
    for (campaign, key), value in zip(pairs, values, strict=True):
        if value is not None:
            times[campaign][key] = unpack(value).time
    return times


async def read_all(store: AsyncRedis, shards: int) -> AsyncIterator[list[tuple[str, bytes, ConsentRef]]]:
    """Yields all stored references in parts, as (campaign, recipient key, reference)."""
    for campaign in await storage.ids_of_kind(store, "email"):
        for shard in range(shards):
            for first in range(0, keys.PEOPLE_BUCKETS, _STEP):
                names = [keys.consents(shard, campaign, bucket) for bucket in range(first, first + _STEP)]
                if not await store.exists(*names):
                    continue
                pipe = store.pipeline(transaction=False)
                for name in names:
                    pipe.hgetall(name)
                hashes = await pipe.execute()
                yield [(campaign, key, unpack(value)) for part in hashes for key, value in part.items()]
