"""The log of an endpoint's deliveries: one line for each try. It names no recipient."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis
from pixel_server.times import iso_ms

MAX_LINES = 1000
"""Largest number of lines that the log of an endpoint keeps."""
MAX_ANSWER_CHARACTERS = 200
"""Characters of an answer, or of an error, that a line keeps."""
_REMOVED = "(recipient)"


class Delivery(NamedTuple):
    """One try. at: ms since 1970. webhook_id: the request's `webhook-id`. type: that of its event, or `list`.

    events: number of events. attempt: counts from 1. status: that of the answer, None without an answer. ms:
    duration. answer: beginning of the answer, or why there was none. outcome: `delivered`, `retry` or
    `set aside`. was_sent: False if this server refused to send the request, for the reason in `answer`.
    """

    at: int
    webhook_id: str
    type: str
    events: int
    attempt: int
    status: int | None
    ms: int
    answer: str
    outcome: str
    was_sent: bool = True


def words(delivery: Delivery) -> list[str]:
    """Returns the fields of the stream entry of a delivery, each with its value."""
    return [
        *("id", delivery.webhook_id, "type", delivery.type, "events", str(delivery.events)),
        *("attempt", str(delivery.attempt), "status", str(delivery.status or ""), "ms", str(delivery.ms)),
        *("answer", delivery.answer, "outcome", delivery.outcome),
        *(() if delivery.was_sent else ("was_sent", "0")),
    ]


def shorten(answer: str, personal: Iterable[str] = ()) -> str:
    """Returns the beginning of an answer in one line.

    personal: texts that name recipients, such as keys. An endpoint that repeats them must not bring them into
    the log.
    """
    for text in sorted(filter(None, personal), key=len, reverse=True):
        answer = answer.replace(text, _REMOVED)
    shown = "".join(character if character.isprintable() else " " for character in answer)
    return " ".join(shown.split())[:MAX_ANSWER_CHARACTERS]


async def page(
    store: AsyncRedis, endpoint_id: str, before: str | None = None, limit: int = 100
) -> tuple[list[tuple[str, Delivery]], str | None]:
    """Returns (lines with their ids, newest first; cursor of the next page, None after the last page).

    before: a cursor, which is the id of the last line of the page before.
    """
    end = "+" if before is None else f"({before}"
    entries = await store.xrevrange(keys.hook_log(endpoint_id), end, "-", limit + 1)
    lines = [(entry.decode(), _decode(entry, fields)) for entry, fields in entries[:limit]]
    return lines, lines[-1][0] if len(entries) > limit else None


async def last_failures(store: AsyncRedis, endpoint_id: str, webhook_ids: Collection[str]) -> dict[str, str]:
    """Returns why the last try of each of these requests failed.

    Leaves out requests that the log does not name.
    """
    wanted, found = set(webhook_ids), dict[str, str]()
    if wanted:
        lines, _ = await page(store, endpoint_id, limit=MAX_LINES)
        for _, line in lines:
            if line.webhook_id in wanted:
                found.setdefault(line.webhook_id, failure(line))
    return found


def failure(line: Delivery) -> str:
    """Returns why a try failed: `"answered 500: try later"`, or why there was no answer.

    If nothing was sent, the text begins with `not sent, because `.
    """
    if not line.was_sent:
        return f"not sent, because {line.answer}"
    if line.status is None:
        return line.answer
    return f"answered {line.status}" + (f": {line.answer}" if line.answer else "")


def _decode(entry: bytes, fields: dict[bytes, bytes]) -> Delivery:
    texts = {name.decode(): value.decode(errors="replace") for name, value in fields.items()}
    status = texts.get("status", "")
    return Delivery(
        at=int(entry.partition(b"-")[0]),
        webhook_id=texts.get("id", ""),
        type=texts.get("type", ""),
        events=int(texts.get("events", "1")),
        attempt=int(texts.get("attempt", "1")),
        status=int(status) if status else None,
        ms=int(texts.get("ms", "0")),
        answer=texts.get("answer", ""),
        outcome=texts.get("outcome", ""),
        was_sent=texts.get("was_sent") != "0",
    )


def to_json(delivery: Delivery) -> dict[str, Any]:
    """Returns a line as the API shows it: its time in ISO 8601."""
    return {**delivery._asdict(), "at": iso_ms(delivery.at)}
