"""Single recipients, over the API: found, shown, erased; withdrawals listed, added and removed in bulk."""

from __future__ import annotations

from typing import Any

from pixel_server.api import links, request_body
from pixel_server.campaigns import storage
from pixel_server.counters import histogram, recipient_record
from pixel_server.problems import Problem
from pixel_server.recipients import lists, withdrawals
from pixel_server.recipients.withdrawals import Periods
from pixel_server.secret import Secrets
from pixel_server.store import keys, shards
from pixel_server.store.protocols import AsyncRedis
from pixel_server.times import iso_day, iso_ms
from pixel_server.tokens import BadToken, read

KEY = 16
"""Hex digits of a recipient key."""
CURSOR = "^[1-9][0-9]{0,14}-[0-9]{1,15}$"
"""Of the audit log: the id of one of its lines."""


def named(content: Any, secrets: Secrets) -> bytes:
    """The recipient key of `{recipient}` or `{token}`. Problem 422: neither, or one that names nobody."""
    fields = request_body.check(content, {"recipient": links.recipient, "token": _text})
    if len(fields) != 1:
        raise Problem(422, "send either `recipient` or `token`")
    if "recipient" in fields:
        return secrets.recipient_key(fields["recipient"])
    try:
        _, _, recipient, _ = read(fields["token"].encode("utf-8", "replace"), secrets.signing)
    except BadToken:
        errors = [{"field": "token", "message": "is not of this server"}]
        raise Problem(422, "some fields cannot be used", errors) from None
    if not recipient:
        raise Problem(422, "this token names nobody")
    return recipient


def key(text: str) -> bytes:
    """A recipient key as it stands in a path. Problem 404: it is none."""
    try:
        if len(text) == KEY and text == text.lower():
            return bytes.fromhex(text)
    except ValueError:
        pass
    raise Problem(404, "a recipient's key has 16 hex digits")


async def show(store: AsyncRedis, secrets: Secrets, count: int, recipient: bytes) -> dict[str, Any]:
    """What is kept of one recipient for long, in the order of campaigns' ids. count: of shards.

    Not shown: hits that wait or were set aside (`waiting` says that there may be some), and the traces of
    the last minutes, which say no more than these, but for a hash of the address.
    """
    shard, bucket = shards.of_key(recipient, count), recipient_record.people_bucket(recipient)
    held = []
    names = await storage.ids_of_kind(store, "email")
    for i in range(0, len(names), 1000):
        part = names[i : i + 1000]
        pipe = store.pipeline(transaction=False)
        for name in part:
            for key in (keys.people, keys.listed, keys.names):
                pipe.hget(key(shard, name, bucket), recipient)
        found = await pipe.execute()
        for name, *values in zip(part, found[::3], found[1::3], found[2::3], strict=True):
            if any(value is not None for value in values):
                held.append({"campaign": name, **_record(*values)})
    day = await store.hget(keys.last(shard, bucket), recipient)
    when = await withdrawals.get_periods(store, secrets, recipient)
    return {
        "key": recipient.hex(),
        "campaigns": held,
        "last_open_day": None if day is None else iso_day(recipient_record.unpack_day(day)),
        "withdrawals": periods(when),
        # Hits of this recipient's shard; some may be of this recipient.
        "waiting": await store.xlen(keys.hits(shard)) > 0,
    }


def periods(found: Periods) -> list[dict[str, str | None]]:
    """As the API shows them. An erasure has no start: hits of any time are dropped."""
    return [
        {"from": iso_ms(start) if start else None, "until": None if end is None else iso_ms(end)}
        for start, end in found
    ]


def recipients(content: Any, secrets: Secrets) -> list[bytes]:
    """The recipient keys of `{recipients: [...]}`. Problem 422: each bad row, by its number."""
    rows = request_body.check(content, {"recipients": links.listed}, frozenset({"recipients"}))["recipients"]
    found, errors = [], []
    for number, row in enumerate(rows):
        try:
            found.append(secrets.recipient_key(links.recipient(row)))
        except ValueError as error:
            errors.append({"row": number, "field": "recipient", "message": str(error)})
    if errors:
        raise Problem(422, f"{len(errors)} rows cannot be used; nothing was changed", errors)
    return found


def _record(opened: bytes | None, listed: bytes | None, named: bytes | None) -> dict[str, Any]:
    person = recipient_record.unpack(opened)
    row = lists.unpack(named) if named is not None else None
    return {
        "listed": listed is not None,
        "last_mail_day": iso_day(day) if listed and (day := lists.mail_day(listed)) is not None else None,
        "recipient": row.recipient if row else None,
        "name": row.name if row else None,
        "opens": person.opens,
        "first_open": iso_ms(person.first * 1000) if person.opens else None,
        "last_open": iso_ms(person.last * 1000) if person.opens else None,
        "opens_person": person.person,
        "opens_prefetch": person.prefetch,
        "opens_scanner": person.scanner,
        "first_open_person": iso_ms(person.first_person * 1000) if person.person else None,
        "last_open_person": iso_ms(person.last_person * 1000) if person.person else None,
        "time_to_open": round(histogram.delay_seconds(person.delay), 1) if person.delay else None,
        "hidden": bool(person.flags & recipient_record.HIDDEN),
        "top": bool(person.flags & recipient_record.TOP),
        "bottom": bool(person.flags & recipient_record.BOTTOM),
    }


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be text")
    return value
