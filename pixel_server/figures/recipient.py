"""All data that is stored of one recipient in all campaigns, except data that is kept for minutes only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pixel_server.campaigns import storage
from pixel_server.counters import delivery_record, histogram, recipient_record
from pixel_server.recipients import consents, lists
from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.shards import shard_of
from pixel_server.times import iso_day, iso_ms

_BATCH = 1000
"""Number of campaigns read in one round trip."""
_KINDS = (keys.people, keys.listed, keys.names, keys.deliveries, keys.consents)
"""Kinds of keys that hold data of a recipient in one campaign, in the order of `_campaign_json`."""


async def read(store: AsyncRedis, shards: int, recipient: bytes) -> dict[str, Any]:
    """Returns the data of a recipient key, by campaign in the order of the ids, and the day of the last open.

    Leaves out dead letters, and hits that wait to be counted. `waiting` is true if a hit that waits could be
    a hit of this recipient. Also leaves out the traces of the last hits (`burst_window`), which are kept only
    briefly.
    """
    shard, bucket = shard_of(recipient, shards), recipient_record.people_bucket(recipient)
    campaigns = []
    campaign_ids = await storage.ids_of_kind(store, "email")
    for i in range(0, len(campaign_ids), _BATCH):
        part = campaign_ids[i : i + _BATCH]
        pipe = store.pipeline(transaction=False)
        for campaign_id in part:
            for key in _KINDS:
                pipe.hget(key(shard, campaign_id, bucket), recipient)
        answers = await pipe.execute()
        for campaign_id, values in zip(part, _rows(answers), strict=True):
            if any(value is not None for value in values):
                campaigns.append({"campaign": campaign_id, **_campaign_json(*values)})
    last_day = await store.hget(keys.last(shard, bucket), recipient)
    return {
        "key": recipient.hex(),
        "campaigns": campaigns,
        "last_open_day": None if last_day is None else iso_day(recipient_record.unpack_day(last_day)),
        # Hits of the recipient's shard wait, and some may be the recipient's.
        "waiting": await store.xlen(keys.hits(shard)) > 0,
    }


def _rows(answers: Sequence[bytes | None]) -> Iterator[Sequence[bytes | None]]:
    """Yields the answers of each campaign, one for each of _KINDS."""
    for i in range(0, len(answers), len(_KINDS)):
        yield answers[i : i + len(_KINDS)]


def _campaign_json(
    packed_record: bytes | None,
    listed: bytes | None,
    packed_entry: bytes | None,
    packed_facts: bytes | None,
    packed_consent: bytes | None,
) -> dict[str, Any]:
    record = recipient_record.unpack(packed_record)
    entry = lists.unpack(packed_entry) if packed_entry is not None else None
    return {
        "listed": listed is not None,
        "last_mail_day": iso_day(day) if listed and (day := lists.mail_day(listed)) is not None else None,
        "recipient": entry.recipient if entry else None,
        "name": entry.name if entry else None,
        "deliveries": delivery_record.names(delivery_record.unpack(packed_facts)),
        "consent_ref": None if packed_consent is None else str(consents.unpack(packed_consent)),
        "opens": record.opens,
        "first_open": iso_ms(record.first * 1000) if record.opens else None,
        "last_open": iso_ms(record.last * 1000) if record.opens else None,
        "opens_person": record.person,
        "opens_prefetch": record.prefetch,
        "opens_scanner": record.scanner,
        "first_open_person": iso_ms(record.first_person * 1000) if record.person else None,
        "last_open_person": iso_ms(record.last_person * 1000) if record.person else None,
        "time_to_open": round(histogram.delay_seconds(record.delay), 1) if record.delay else None,
        "hidden": bool(record.flags & recipient_record.HIDES_READING),
        "top": bool(record.flags & recipient_record.TOP),
        "bottom": bool(record.flags & recipient_record.BOTTOM),
    }
