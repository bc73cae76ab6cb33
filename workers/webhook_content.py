"""The content of a request: the events of a unit, as they may be sent now.

A queue names recipients by their keys alone. The names that a campaign keeps are read at the instant of
sending. So a name is stored in one place only, and what was removed or lowered since is not sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pixel_server.campaigns import campaign as campaigns
from pixel_server.campaigns.campaign import UnreadableCampaign
from pixel_server.consent import Consent
from pixel_server.counters import recipient_record
from pixel_server.recipients import lists
from pixel_server.settings import Settings
from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.shards import shard_of
from pixel_server.tokens import Mode
from pixel_server.webhooks import event
from pixel_server.webhooks.event import Event

Names = dict[str, str | None]
"""The fields `recipient` and `name` of an event's data."""


@dataclass(slots=True)
class Content:
    """payloads: (id, payload) of each event that may be sent. left_out: ids of the others.

    personal: texts in the payloads that name recipients.
    """

    payloads: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    personal: list[str] = field(default_factory=list)

    def body(self, is_list: bool, now_ms: int) -> str:
        """Returns the body of the request. is_list: whether the endpoint gets lists. now_ms: its time."""
        return event.list_body(self.payloads, now_ms) if is_list else event.body(self.payloads[0][1])


async def make(store: AsyncRedis, settings: Settings, events: Sequence[Event]) -> Content:
    """Returns the content of a request with these events.

    Leaves out events of campaigns that are gone, and events on recipients of campaigns that do not tell their
    recipients apart any more.
    """
    modes = await _modes(store, settings, {queued.campaign for queued in events} - {""})
    with_names = [
        queued
        for queued in events
        if queued.campaign and queued.recipient and modes.get(queued.campaign) == Mode.IDENTIFIED
    ]
    names = await _names(store, settings.shards, with_names)
    content = Content()
    for queued in events:
        mode = modes.get(queued.campaign)
        is_hidden = bool(queued.recipient) and (mode is None or mode < Mode.PSEUDONYMOUS)
        if queued.campaign and (mode is None or is_hidden):
            content.left_out.append(queued.id)
            continue
        own_names = names.get(queued.id, {})
        content.payloads.append((queued.id, event.payload(queued, own_names)))
        content.personal += [queued.recipient.hex(), *filter(None, own_names.values())]
    return content


async def _modes(store: AsyncRedis, settings: Settings, ids: Iterable[str]) -> dict[str, Mode]:
    """Returns the mode of each campaign that exists. An unreadable record stands for mode `count`."""
    chosen, consent = list(ids), Consent(settings)
    pipe = store.pipeline(transaction=False)
    for campaign in chosen:
        pipe.hget(keys.campaign(campaign), "record")
    records = await pipe.execute() if chosen else []
    modes = {}
    for campaign, record in zip(chosen, records, strict=True):
        if record is not None:
            try:
                modes[campaign] = consent.rule(campaigns.decode(record, campaign).mode, None).mode
            except UnreadableCampaign:
                modes[campaign] = Mode.COUNT
    return modes


async def _names(store: AsyncRedis, shards: int, events: Sequence[Event]) -> dict[str, Names]:
    """Returns the names of the recipients of these events, by the event's id, where there are any."""
    pipe = store.pipeline(transaction=False)
    for queued in events:
        bucket = recipient_record.people_bucket(queued.recipient)
        key = keys.names(shard_of(queued.recipient, shards), queued.campaign, bucket)
        pipe.hget(key, queued.recipient)
    found = {}
    for queued, packed in zip(events, await pipe.execute() if events else [], strict=True):
        if packed is not None:
            try:
                entry = lists.unpack(packed)
            except ValueError:  # a newer version wrote the name
                continue
            found[queued.id] = {"recipient": entry.recipient, "name": entry.name}
    return found
