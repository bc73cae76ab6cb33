"""Notices of withdrawals, which the script that stores a withdrawal puts into `keys.NOTICES`."""

from __future__ import annotations

from pixel_server.secret import Secrets
from pixel_server.webhooks import event

WITHDRAWN, ERASED, ALLOWED = "withdrawn", "erased", "allowed"
"""Values of `state` in the event: must not be recorded, was erased too, may be recorded again."""


def withdrawal(secrets: Secrets, recipient: bytes, state: str, now: float) -> bytes:
    """Returns the stored event that tells of a withdrawal or its end. now: s."""
    at_ms = int(now * 1000)
    event_id = event.id_of(secrets, event.WITHDRAWAL, recipient, state, at_ms)
    return event.encode(event.make(event_id, event.WITHDRAWAL, at_ms, "", recipient, state=state))
