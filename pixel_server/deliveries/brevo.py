"""Brevo's webhooks: one event a request, or a list of events, without a signature.

Sources: https://developers.brevo.com/docs/transactional-webhooks and
https://developers.brevo.com/docs/marketing-webhooks (November 2026). The campaign is `pixel_campaign` in the
header `X-Mailin-custom`, or a tag.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from pixel_server.counters.delivery_record import Kind
from pixel_server.deliveries.event import BadPayload, Delivery, Events, convert, decode, delivery, read_items

_KINDS: dict[str, Kind] = {
    "delivered": "delivered",
    "hard_bounce": "bounced_hard",
    "invalid_email": "bounced_hard",
    "soft_bounce": "bounced_soft",
    "spam": "complained",
    "complaint": "complained",
    "unsubscribe": "unsubscribed",
    "unsubscribed": "unsubscribed",
}


class _Event(msgspec.Struct, rename={"custom": "X-Mailin-custom"}):
    """tag: a tag, or a list of tags as JSON."""

    event: str
    email: str = ""
    ts_event: float | None = None
    tags: list[str] | None = None
    tag: str | None = None
    custom: str | None = None


def read(body: bytes) -> Events:
    """Returns the events of a request. Raises BadPayload."""
    return read_items(body, _read_event)


def _read_event(item: dict[str, Any]) -> Iterable[Delivery]:
    event = convert(item, _Event)
    kind = _KINDS.get(event.event)
    if kind is not None:
        tags = event.tags or _tags(event.tag or "")
        yield delivery(kind, event.email, _metadata(event.custom or ""), tags, event.ts_event or 0.0)


def _tags(text: str) -> list[Any]:
    """Returns the tags: `["spring"]` of `"spring"` and of `'["spring"]'`."""
    try:
        tags = decode(text)
    except BadPayload:
        return [text]
    return tags if isinstance(tags, list) else [text]


def _metadata(text: str) -> dict[str, Any]:
    """Returns the metadata of the header: a JSON object, or `name:value|name:value`."""
    try:
        metadata = decode(text)
    except BadPayload:
        pairs = (part.partition(":") for part in text.split("|"))
        return {name.strip(): value.strip() for name, _, value in pairs}
    return metadata if isinstance(metadata, dict) else {}
