"""Events: what happened, as it is stored and as it is sent.

A stored event is msgpack of [format, id, type, time, campaign, recipient key, details]. It names a recipient
by the key alone; names are looked up when it is sent. An event of format 1:

    [1, "evt_5d41402abc4b2a76b9719d911017c592", "open.first", 1790000000000, "spring", b"8 bytes!",
     {"verdict": "person", "rule": "browser", "client": "Thunderbird", "country": "DE"}]
"""

from __future__ import annotations

import secrets as random
from hashlib import blake2b
from typing import Any, Literal, get_args

import msgspec

from pixel_server.counters.stored_format import refuse_newer
from pixel_server.secret import Secrets
from pixel_server.times import iso_ms

FORMAT = 1

Type = Literal["open.first", "open.each", "withdrawal", "campaign.milestone", "health"]
"""Types that an endpoint can want."""
TYPES: tuple[Type, ...] = get_args(Type)
FIRST_OPEN, EACH_OPEN, WITHDRAWAL, MILESTONE, HEALTH = TYPES
CORRECTION = "open.correction"
"""Type of a correction. An endpoint that wants one of OPENS gets it too."""
TEST = "test"
"""Type of the event that an operator sends to try an endpoint."""
OPENS: tuple[Type, ...] = (FIRST_OPEN, EACH_OPEN)
"""Types of the events that a correction takes back."""
PERSONAL: tuple[Type, ...] = (*OPENS, WITHDRAWAL)
"""Types of events on single recipients. An endpoint gets them only if it was made with the scope `people`."""
LIST = "list"
"""Type of a request that carries several events."""

_ID_BYTES = 16


class Event(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An event. type: one of TYPES, CORRECTION or TEST. time: ms since 1970. campaign: id, or "".

    recipient: recipient key, or b"". details: the type's own fields of `data`, which hold nothing that names
    a person.

    Append only: stored events are read by the position of each field. Add a field at the end, with a default.
    """

    format: int
    id: str
    type: str
    time: int
    campaign: str
    recipient: bytes
    details: dict[str, Any]


encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Event).decode
_encode_json = msgspec.json.Encoder().encode


def decode(value: bytes) -> Event:
    """Returns a stored event. Raises NewerFormat, or ValueError if the bytes cannot be read."""
    if len(value) > 1:
        refuse_newer(value, FORMAT, "event")
    try:
        return _decode(value)
    except msgspec.MsgspecError as error:
        raise ValueError(f"is not an event: {error}") from None


def make(
    event_id: str,
    event_type: str,
    time_ms: int,
    campaign: str = "",
    recipient: bytes = b"",
    **details: Any,
) -> Event:
    """Returns an event of the current format."""
    return Event(FORMAT, event_id, event_type, time_ms, campaign, recipient, details)


def new_id() -> str:
    """Returns a random id, for an event that nothing else identifies."""
    return f"evt_{random.token_hex(_ID_BYTES)}"


def id_of(secrets: Secrets, event_type: str, *parts: str | bytes | int) -> str:
    """Returns the id of the event that these parts identify. The same parts always give the same id.

    So an event that is made again, because the store lost the commit that made it, has its old id. The id is
    a keyed hash, and reveals nothing of the parts.
    """
    hashed = blake2b(digest_size=_ID_BYTES, key=secrets.events)
    for part in (event_type, *parts):
        word = part if isinstance(part, bytes) else str(part).encode()
        hashed.update(len(word).to_bytes(4) + word)
    return f"evt_{hashed.hexdigest()}"


def open_id(secrets: Secrets, campaign: str, recipient: bytes, first_second: int) -> str:
    """Returns the id of the event on a recipient's first open. first_second: its time, s since 1970."""
    return id_of(secrets, FIRST_OPEN, campaign, recipient, first_second)


def each_open_id(secrets: Secrets, campaign: str, recipient: bytes, time_ms: int, number: int = 0) -> str:
    """Returns the id of the event on one open. number: counts the recipient's opens of one millisecond."""
    return id_of(secrets, EACH_OPEN, campaign, recipient, time_ms, number)


def names_person(event: Event) -> bool:
    """Returns whether the event must go when its recipient withdraws.

    The notice of the withdrawal itself must not: without it, the endpoint could not do the same.
    """
    return bool(event.recipient) and event.type != WITHDRAWAL


def payload(event: Event, names: dict[str, str | None] | None = None) -> dict[str, Any]:
    """Returns the JSON object of an event: {type, timestamp, data}, by the Standard Webhooks specification.

    names: more fields of `data` that name the recipient, if the campaign keeps names.
    """
    data: dict[str, Any] = {}
    if event.campaign:
        data["campaign"] = event.campaign
    if event.recipient:
        data["key"] = event.recipient.hex()
    return {"type": event.type, "timestamp": iso_ms(event.time), "data": data | (names or {}) | event.details}


def body(payload_of_event: dict[str, Any]) -> str:
    """Returns the body of a request with one event."""
    return _encode_json(payload_of_event).decode()


def list_body(payloads: list[tuple[str, dict[str, Any]]], time_ms: int) -> str:
    """Returns the body of a request with several events. payloads: (id, payload) of each event.

    The items are payloads with their `id`. time_ms: time of the request.
    """
    items = [{"id": event_id, **shown} for event_id, shown in payloads]
    return _encode_json({"type": LIST, "timestamp": iso_ms(time_ms), "data": items}).decode()
