"""Reading of events in NDJSON: pieces of any size, and bad lines by their numbers."""

from __future__ import annotations

import asyncio
import json

import pytest

from pixel_server.deliveries import lines
from pixel_server.deliveries.event import Delivery


def read(pieces, campaign="mail", is_complete=True):
    """Returns (the reader, the events that it read)."""
    events = []

    async def take(batch):
        events.extend(batch)

    async def run():
        reader = lines.Reader(campaign, take)
        for piece in pieces:
            await reader.add(piece)
        await reader.end(is_complete=is_complete)
        return reader

    return asyncio.run(run()), events


def line(recipient, event="delivered", **more):
    return json.dumps({"recipient": recipient, "event": event, **more}).encode() + b"\n"


def test_lines_pieces_of_any_size_give_the_same_events():
    content = line("ada") + b"\r\n" + line("bob", "bounced_hard", time="2026-11-24T09:00:00Z", smtp=550)
    content = content.rstrip(b"\n")
    expected = [
        Delivery(("mail",), "ada", "delivered"),
        Delivery(("mail",), "bob", "bounced_hard", 1795510800.0),
    ]
    for size in (1, 7, 1000):
        reader, events = read([content[i : i + size] for i in range(0, len(content), size)])
        assert (events, reader.lines, reader.bad) == (expected, 2, 0)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (b"not json\n", "JSON is malformed"),
        (b"[1]\n", "Expected `object`, got `array`"),
        (b"\xff\n", "JSON is malformed"),
        (b"[" * 5000 + b"\n", "Expected `object`, got `array`"),
        (b'{"x":' * 5000 + b"\n", "is not a JSON object in UTF-8"),
        (line("ada", "opened"), "event must be one of: delivered, bounced_hard, bounced_soft, complained"),
        (line(""), "recipient must not be empty"),
        (line("a\nb"), "recipient must not contain control characters"),
        (line(7), "Expected `str`, got `int` - at `$.recipient`"),
        (b'{"event": "delivered"}\n', "Object missing required field `recipient`"),
        (line("ada", time="yesterday"), "time must be a time with an offset"),
        (line("ada", time="2026-11-24T09:00:00"), "time must be a time with an offset"),
        (line("ada", campaign="other"), "campaign is not mail"),
        (b"x" * (lines.MAX_LINE_BYTES + 1) + b"\n", "has more than 64 kB"),
    ],
)
def test_lines_bad_line_is_named_and_others_are_read(bad, message):
    reader, events = read([line("ada") + bad + line("bob")])
    assert [event.recipient for event in events] == ["ada", "bob"]
    assert (reader.lines, reader.bad, reader.errors[0]["line"]) == (3, 1, 2)
    assert message in reader.errors[0]["message"]


def test_lines_endless_line_takes_no_memory():
    piece = b"x" * 50_000
    reader, events = read([line("ada"), *[piece] * 100, b"\n", line("bob")])
    assert [event.recipient for event in events] == ["ada", "bob"]
    assert [error["message"] for error in reader.errors] == ["has more than 64 kB"]


def test_lines_cut_off_leaves_out_the_last_line():
    reader, events = read([line("ada"), line("bob")[:-1]], is_complete=False)
    assert [event.recipient for event in events] == ["ada"]
    assert reader.lines == 1


def test_lines_without_campaign_each_line_names_its_own():
    reader, events = read([line("ada", campaign="spring"), line("bob")], campaign=None)
    assert events == [Delivery(("spring",), "ada", "delivered")]
    assert reader.errors[0]["message"] == "has no campaign"
