"""SendGrid's Event Webhook: a list of events, signed with ECDSA.

Sources: https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/event and
https://www.twilio.com/docs/sendgrid/for-developers/tracking-events/getting-started-event-webhook-security-features
(November 2026). The campaign is the custom argument `pixel_campaign`, or a category.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from pixel_server.counters.delivery_record import Kind
from pixel_server.deliveries.event import BadSignature, Delivery, Events, Head, convert, delivery, read_items

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

# `cryptography` is imported where it is needed: only servers with a source of SendGrid or SES pay for it.

SIGNATURE_HEADER = "x-twilio-email-event-webhook-signature"
TIMESTAMP_HEADER = "x-twilio-email-event-webhook-timestamp"
_KINDS: dict[str, Kind] = {
    "delivered": "delivered",
    "spamreport": "complained",
    "unsubscribe": "unsubscribed",
    "group_unsubscribe": "unsubscribed",
}


class _Event(msgspec.Struct):
    """type: of a bounce, "bounce" for a hard one and "blocked" for a soft one."""

    event: str
    email: str
    timestamp: float = 0.0
    type: str = "bounce"
    category: str | list[str] = ""


def check_key(text: str) -> str:
    """Returns a public key as SendGrid shows it. Raises ValueError if it is not one."""
    _public_key(text)
    return text


def _public_key(text: str) -> ec.EllipticCurvePublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_der_public_key  # noqa: PLC0415

    try:
        key = load_der_public_key(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ValueError("must be the verification key that SendGrid shows, in base64")
    return key


def verify(body: bytes, head: Head, key: str) -> None:
    """Raises BadSignature if the body was not signed by the private part of this key."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    try:
        signature = base64.b64decode(head.signature, validate=True)
        signed = head.timestamp.encode() + body
        _public_key(key).verify(signature, signed, ec.ECDSA(hashes.SHA256()))
    except (binascii.Error, ValueError, InvalidSignature):
        raise BadSignature(
            "SendGrid's signature is missing or wrong: turn on the signed event webhook, and check the key"
        ) from None


def read(body: bytes) -> Events:
    """Returns the events of a request. Raises BadPayload."""
    return read_items(body, _read_event)


def _read_event(item: dict[str, Any]) -> Iterable[Delivery]:
    event = convert(item, _Event)
    kind = _KINDS.get(event.event)
    if event.event == "bounce":
        kind = "bounced_soft" if event.type == "blocked" else "bounced_hard"
    if kind is None:
        return
    categories = [event.category] if isinstance(event.category, str) else event.category
    # Custom arguments are fields of the event itself.
    yield delivery(kind, event.email, item, categories, event.timestamp)
