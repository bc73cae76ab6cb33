"""Postmark's webhooks: one event a request, without a signature.

Source: https://postmarkapp.com/developer/webhooks/webhooks-overview and
https://postmarkapp.com/developer/api/bounce-api#bounce-types (November 2026). The campaign is the metadata
`pixel_campaign`, or the tag.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from pixel_server.counters.delivery_record import Kind
from pixel_server.deliveries.event import Delivery, Events, convert, delivery, parse_time, read_items

_BOUNCES: dict[str, Kind | None] = {
    **dict.fromkeys(("HardBounce", "BadEmailAddress", "ManuallyDeactivated"), "bounced_hard"),
    "SpamComplaint": "complained",
    "Unsubscribe": "unsubscribed",
    # Answers of machines and people to a mail that arrived, and bounces of mail to Postmark itself.
    **dict.fromkeys(
        ("AutoResponder", "AddressChange", "Subscribe", "ChallengeVerification", "OpenRelayTest"), None
    ),
    **dict.fromkeys(("InboundError", "TemplateRenderingFailed", "SMTPApiError"), None),
}
"""Kinds of events by type of bounce, None if it says nothing of delivery. Other types are soft bounces."""


class _Event(
    msgspec.Struct,
    rename={
        **{"record_type": "RecordType", "recipient": "Recipient", "email": "Email", "type": "Type"},
        **{"tag": "Tag", "metadata": "Metadata", "delivered_at": "DeliveredAt", "bounced_at": "BouncedAt"},
        **{"changed_at": "ChangedAt", "suppress": "SuppressSending", "reason": "SuppressionReason"},
    },
):
    """recipient: of a delivery and of a change of a subscription. email: of a bounce and of a complaint."""

    record_type: str
    recipient: str = ""
    email: str = ""
    type: str = ""
    tag: str | None = None
    metadata: Any = None
    delivered_at: str = ""
    bounced_at: str = ""
    changed_at: str = ""
    suppress: bool = False
    reason: str | None = None


def read(body: bytes) -> Events:
    """Returns the event of a request. Raises BadPayload."""
    return read_items(body, _read_event)


def _read_event(item: dict[str, Any]) -> Iterable[Delivery]:
    event = convert(item, _Event)
    kind = _kind(event)
    if kind is not None:
        time = parse_time(event.delivered_at or event.bounced_at or event.changed_at)
        yield delivery(kind, event.recipient or event.email, event.metadata, (event.tag,), time)


def _kind(event: _Event) -> Kind | None:
    if event.record_type == "Delivery":
        return "delivered"
    if event.record_type == "Bounce":
        return _BOUNCES.get(event.type, "bounced_soft")
    if event.record_type == "SpamComplaint":
        return "complained"
    # Hard bounces and complaints end a subscription too, but have an event of their own.
    is_unsubscribed = event.suppress and event.reason in ("ManualSuppression", None)
    return "unsubscribed" if event.record_type == "SubscriptionChange" and is_unsubscribed else None
