"""Mailjet's Event API: one event a request, or a list of events, without a signature.

Source: https://dev.mailjet.com/email/guides/webhooks/ (November 2026). The campaign is `pixel_campaign` in
the JSON of the event payload (`EventPayload`, in an event `Payload`), or the `CustomID`, or the custom
campaign.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from pixel_server.counters.delivery_record import Kind
from pixel_server.deliveries.event import BadPayload, Delivery, Events, convert, decode, delivery, read_items

_KINDS: dict[str, Kind] = {"sent": "delivered", "spam": "complained", "unsub": "unsubscribed"}


class _Event(
    msgspec.Struct, rename={"custom_id": "CustomID", "payload": "Payload", "campaign": "customcampaign"}
):
    """payload: the text that the sender gave to the mail."""

    event: str
    email: str = ""
    time: float = 0.0
    hard_bounce: bool = False
    custom_id: str | None = None
    payload: str | None = None
    campaign: str | None = None


def read(body: bytes) -> Events:
    """Returns the events of a request. Raises BadPayload."""
    return read_items(body, _read_event)


def _read_event(item: dict[str, Any]) -> Iterable[Delivery]:
    event = convert(item, _Event)
    kind = _KINDS.get(event.event)
    if event.event == "bounce":
        kind = "bounced_hard" if event.hard_bounce else "bounced_soft"
    if kind is not None:
        tags = [tag for tag in (event.custom_id, event.campaign) if tag]
        yield delivery(kind, event.email, _metadata(event.payload or ""), tags, event.time)


def _metadata(text: str) -> Any:
    try:
        return decode(text)
    except BadPayload:
        return None
