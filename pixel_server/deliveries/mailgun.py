"""Mailgun's webhooks: one event a request, with a signature of its time and a token.

Sources: https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/webhook-payloads and
https://documentation.mailgun.com/docs/mailgun/user-manual/webhooks/securing-webhooks (November 2026). The
signature does not cover the event, so the secret in the URL must stay secret all the same. The campaign is
the variable `v:pixel_campaign`, or a tag.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from hashlib import sha256
from typing import Any

import msgspec

from pixel_server.counters.delivery_record import Kind
from pixel_server.deliveries.event import (
    BadPayload,
    BadSignature,
    Delivery,
    Events,
    convert,
    decode,
    delivery,
    read_items,
)

MAX_AGE_SECONDS = 86_400
"""Greatest age of a signature. Mailgun repeats a request for 8 hours."""
MAX_AHEAD_SECONDS = 300
"""Seconds by which Mailgun's clock may be ahead."""
_KINDS: dict[str, Kind] = {
    "delivered": "delivered",
    "complained": "complained",
    "unsubscribed": "unsubscribed",
}


class _Signature(msgspec.Struct):
    timestamp: str
    token: str
    signature: str


class _Signed(msgspec.Struct):
    signature: _Signature


class _Event(msgspec.Struct, rename={"variables": "user-variables"}):
    """severity: of a failure, `permanent` or `temporary`."""

    event: str
    recipient: str
    timestamp: float = 0.0
    severity: str = "permanent"
    tags: list[str] | None = None
    variables: Any = None


class _Payload(msgspec.Struct, rename={"event": "event-data"}):
    event: _Event


def check_key(text: str) -> str:
    """Returns the HTTP webhook signing key. Raises ValueError if it cannot be one."""
    if not (16 <= len(text) <= 200 and text.isascii() and text.isprintable()):
        raise ValueError("must be the HTTP webhook signing key that Mailgun shows")
    return text


def verify(body: bytes, key: str, now: float) -> None:
    """Raises BadSignature if the request was not signed with this key, or too long ago. now: seconds.

    Raises BadPayload if the body is not JSON.
    """
    try:
        signed = msgspec.convert(decode(body), _Signed).signature
        age = now - int(signed.timestamp)
        message = (signed.timestamp + signed.token).encode()
        expected = hmac.new(key.encode(), message, sha256).hexdigest()
        is_good = hmac.compare_digest(expected.encode(), signed.signature.encode())
    except (msgspec.ValidationError, ValueError) as error:
        if isinstance(error, BadPayload):
            raise
        raise BadSignature("Mailgun's signature is missing") from None
    if not is_good:
        raise BadSignature("Mailgun's signature is wrong: check the HTTP webhook signing key")
    if not -MAX_AHEAD_SECONDS <= age <= MAX_AGE_SECONDS:
        raise BadSignature("Mailgun's signature is too old; or the clock of this server is wrong")


def read(body: bytes) -> Events:
    """Returns the event of a request. Raises BadPayload."""
    return read_items(body, _read_event)


def _read_event(item: dict[str, Any]) -> Iterable[Delivery]:
    event = convert(item, _Payload).event
    kind = _KINDS.get(event.event)
    if event.event == "failed":
        kind = "bounced_soft" if event.severity == "temporary" else "bounced_hard"
    if kind is not None:
        yield delivery(kind, event.recipient, event.variables, event.tags or (), event.timestamp)
