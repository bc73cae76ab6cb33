"""Removes events that must not be sent any more: of recipients who withdrew, and of deleted campaigns."""

from __future__ import annotations

from collections.abc import Sequence

from pixel_server.secret import Secrets
from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.shards import shard_of
from pixel_server.webhooks import outbox, queue


async def purge_recipients(
    store: AsyncRedis, secrets: Secrets, recipients: Sequence[bytes], shards: int
) -> int:
    """Removes all events on these recipients, from outboxes and queues, and returns their number.

    Leaves the notices of their withdrawals, without which no endpoint could do the same. Call it after the
    withdrawal is stored: from then on no script queues or sends such an event.
    """
    endpoints = await _endpoint_ids(store)
    if not endpoints:
        return 0
    marks = {secrets.withdrawal_mark(recipient) for recipient in recipients}
    removed = await outbox.purge(store, {shard_of(recipient, shards) for recipient in recipients}, marks)
    return removed + await queue.purge(store, endpoints, marks)


async def purge_campaign(store: AsyncRedis, campaign: str) -> int:
    """Removes all events of a campaign from the queues, and returns their number.

    Call it when the campaign has its tombstone: events that are still in an outbox are then not sent.
    """
    return await queue.purge(store, await _endpoint_ids(store), (), campaign)


async def _endpoint_ids(store: AsyncRedis) -> list[str]:
    """Returns the ids of all endpoints, also of endpoints that this version cannot read."""
    return [field.decode() for field in await store.execute_command("HKEYS", keys.WEBHOOKS)]
