"""What a mail service tells of one mail to one recipient, and the reading of its JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import msgspec

from pixel_server.counters.delivery_record import Kind
from pixel_server.mail.links import check_recipient

CAMPAIGN_NAME, RECIPIENT_NAME = "pixel_campaign", "pixel_recipient"
"""Names of the metadata that a sender gives to a mail. They hold the campaign's id, and the recipient as the
sender calls it in links. Without `pixel_recipient` the recipient is the address."""
MAX_ERRORS = 100
"""Largest number of errors that an answer names."""

T = TypeVar("T")


class Delivery(NamedTuple):
    """One event of one recipient's mail.

    campaigns: the id of the campaign as metadata; or else the mail's tags, of which the first that is the id
    of a campaign counts. time: seconds since 1970 of the event, 0 if not known.
    """

    campaigns: tuple[str, ...]
    recipient: str
    kind: Kind
    time: float = 0.0


class EventError(NamedTuple):
    """An event that cannot be used. item: its position in the request, from 1."""

    item: int
    message: str


class Events(NamedTuple):
    """The events of one request. other: number of events that say nothing of delivery, such as clicks."""

    deliveries: list[Delivery]
    other: int = 0
    errors: Sequence[EventError] = ()


class BadPayload(ValueError):
    """The body of a request is not what the provider sends. The text says why."""


class BadSignature(Exception):
    """The provider did not sign this request. The text says why, and what to do."""


class Head(NamedTuple):
    """The headers of a request that providers use. authorization, signature, timestamp: "" if missing."""

    authorization: str = ""
    signature: str = ""
    timestamp: str = ""


def read_items(body: bytes, read: Callable[[Any], Iterable[Delivery]]) -> Events:
    """Returns the events of a JSON object, or of a list of objects. Raises BadPayload if it is neither.

    read: returns the deliveries of one object, none if it says nothing of delivery. Raises ValueError if the
    object cannot be used; the others are read all the same.
    """
    content = decode(body)
    items = content if isinstance(content, list) else [content]
    deliveries: list[Delivery] = []
    errors: list[EventError] = []
    other = 0
    for number, item in enumerate(items, 1):
        try:
            if not isinstance(item, dict):
                raise ValueError("is not a JSON object")
            found = list(read(item))
        except (ValueError, OverflowError) as error:
            errors.append(EventError(number, str(error)))
            continue
        deliveries += found
        other += not found
    return Events(deliveries, other, errors)


def decode(body: bytes | str) -> Any:
    """Returns the value of JSON. Raises BadPayload."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadPayload("the body is not JSON in UTF-8") from None


def convert(item: Any, shape: type[T]) -> T:
    """Returns an object as a struct. Raises ValueError that names the field which is missing or wrong."""
    return msgspec.convert(item, shape)


def delivery(
    kind: Kind, address: str, metadata: Any, tags: Iterable[Any] = (), time: float = 0.0
) -> Delivery:
    """Returns a delivery. metadata: the mail's metadata by name, or a value that is no object.

    Raises ValueError if the recipient is not usable.
    """
    named = metadata if isinstance(metadata, dict) else {}
    recipient = named.get(RECIPIENT_NAME) or address
    if not isinstance(recipient, str):
        raise ValueError(f"{RECIPIENT_NAME} must be text")
    try:
        check_recipient(recipient)
    except ValueError as error:
        raise ValueError(f"the recipient {error}") from None
    campaign = named.get(CAMPAIGN_NAME)
    if campaign:
        return Delivery((str(campaign),), recipient, kind, time)
    return Delivery(tuple(tag for tag in tags if isinstance(tag, str)), recipient, kind, time)


def parse_time(text: str) -> float:
    """Returns the seconds since 1970 of a time in ISO 8601, 0 for "". Raises ValueError."""
    if not text:
        return 0.0
    # Postmark writes seven digits of a second, datetime takes six.
    head, point, rest = text.partition(".")
    if point:
        digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
        text = f"{head}.{digits[:6].ljust(6, '0')}{rest[len(digits) :]}"
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("the time has no offset from UTC")
    return moment.timestamp()
