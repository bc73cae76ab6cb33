"""Signs requests, by the Standard Webhooks specification (standardwebhooks.com, version 1)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from standardwebhooks import Webhook


def headers(webhook_id: str, now: float, body: str, secrets: Iterable[str]) -> dict[str, str]:
    """Returns the three headers of a request. now: time of this try, s.

    secrets: those that sign, newest first. The receiver accepts the request if one signature is right. So a
    secret can be replaced without a gap.
    """
    at = datetime.fromtimestamp(int(now), UTC)
    signatures = (Webhook(secret).sign(webhook_id, at, body) for secret in secrets)
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(now)),
        "webhook-signature": " ".join(signatures),
    }
