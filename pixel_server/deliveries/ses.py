"""Events of Amazon SES, in the messages of an SNS topic (see `sns`).

Sources: https://docs.aws.amazon.com/ses/latest/dg/event-publishing-retrieving-sns-contents.html and
https://docs.aws.amazon.com/ses/latest/dg/notification-contents.html (November 2026). Event publishing says
`eventType`, the notifications of an identity say `notificationType`. The campaign is the message tag
`pixel_campaign`, or the header `X-Pixel-Campaign` if SES passes on the original headers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from pixel_server.counters.delivery_record import Kind
from pixel_server.deliveries.event import (
    CAMPAIGN_NAME,
    RECIPIENT_NAME,
    BadPayload,
    Delivery,
    Events,
    convert,
    delivery,
    parse_time,
    read_items,
)

HEADERS = {"x-pixel-campaign": CAMPAIGN_NAME, "x-pixel-recipient": RECIPIENT_NAME}
"""Names of metadata by header, in lower case."""


class _Header(msgspec.Struct):
    name: str
    value: str


class _Mail(msgspec.Struct):
    destination: list[str] = []
    tags: dict[str, list[str]] | None = None
    headers: list[_Header] | None = None


class _Recipient(msgspec.Struct, rename={"address": "emailAddress"}):
    address: str


class _Delivery(msgspec.Struct):
    recipients: list[str]
    timestamp: str = ""


class _Bounce(msgspec.Struct, rename={"type": "bounceType", "recipients": "bouncedRecipients"}):
    type: str
    recipients: list[_Recipient]
    timestamp: str = ""


class _Complaint(
    msgspec.Struct, rename={"recipients": "complainedRecipients", "subtype": "complaintSubType"}
):
    recipients: list[_Recipient]
    subtype: str | None = None
    timestamp: str = ""


class _Preferences(msgspec.Struct, rename={"is_out_of_all": "unsubscribeAll"}):
    is_out_of_all: bool = False


class _Subscription(msgspec.Struct, rename={"preferences": "newTopicPreferences"}):
    preferences: _Preferences
    timestamp: str = ""


class _Event(msgspec.Struct, rename={"event_type": "eventType", "notification_type": "notificationType"}):
    """Each part is there for one type of event only."""

    mail: _Mail | None = None
    event_type: str = ""
    notification_type: str = ""
    delivery: _Delivery | None = None
    bounce: _Bounce | None = None
    complaint: _Complaint | None = None
    subscription: _Subscription | None = None


def read(message: str) -> Events:
    """Returns the events of the text of an SNS message. A text that is not JSON is an event of another kind.

    SES sends such a text to a new topic.
    """
    try:
        return read_items(message.encode(), _read_event)
    except BadPayload:
        return Events([], 1)


def _read_event(item: dict[str, Any]) -> Iterable[Delivery]:
    event = convert(item, _Event)
    if event.mail is None:
        return []
    kind, recipients, time = _outcome(event, event.mail)
    if kind is None:
        return []
    metadata = _metadata(event.mail)
    if len(event.mail.destination) > 1:  # one name cannot stand for several recipients
        metadata.pop(RECIPIENT_NAME, None)
    return [delivery(kind, address, metadata, (), parse_time(time)) for address in recipients]


def _outcome(event: _Event, mail: _Mail) -> tuple[Kind | None, list[str], str]:
    """Returns (kind, or None if the event says nothing of delivery; addresses; time)."""
    type_of_event = event.event_type or event.notification_type
    if type_of_event == "Delivery" and event.delivery:
        return "delivered", event.delivery.recipients, event.delivery.timestamp
    if type_of_event == "Bounce" and (bounce := event.bounce):
        kind: Kind = "bounced_hard" if bounce.type == "Permanent" else "bounced_soft"
        return kind, [recipient.address for recipient in bounce.recipients], bounce.timestamp
    if type_of_event == "Complaint" and (complaint := event.complaint):
        # A mail that SES did not send, because of an earlier complaint, is no new complaint.
        kind_or_none: Kind | None = None if complaint.subtype == "OnAccountSuppressionList" else "complained"
        return kind_or_none, [recipient.address for recipient in complaint.recipients], complaint.timestamp
    if type_of_event == "Subscription" and (subscription := event.subscription):
        is_out = subscription.preferences.is_out_of_all
        return "unsubscribed" if is_out else None, mail.destination, subscription.timestamp
    return None, [], ""


def _metadata(mail: _Mail) -> dict[str, str]:
    metadata = {
        HEADERS[header.name.lower()]: header.value
        for header in mail.headers or ()
        if header.name.lower() in HEADERS
    }
    return metadata | {name: values[0] for name, values in (mail.tags or {}).items() if values}
