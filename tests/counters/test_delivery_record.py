"""The facts of a recipient's mails: the state that follows from them, and their stored bytes."""

from __future__ import annotations

import pytest

from pixel_server.counters import delivery_record
from pixel_server.counters.delivery_record import FACTS, KINDS
from pixel_server.counters.stored_format import NewerFormat


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ([], None),
        (["delivered"], "delivered"),
        (["bounced_soft"], "bounced_soft"),
        (["bounced_soft", "delivered"], "delivered"),
        (["delivered", "bounced_hard"], "bounced_hard"),
        (["bounced_soft", "bounced_hard"], "bounced_hard"),
        (["bounced_soft", "complained"], "delivered"),
        (["unsubscribed"], "delivered"),
        (list(KINDS), "bounced_hard"),
    ],
)
def test_delivery_record_state_follows_from_the_facts(kinds, expected):
    assert delivery_record.state(sum(FACTS[kind] for kind in kinds)) == expected


def test_delivery_record_stored_facts_keep_their_numbers():
    # Stored records hold these numbers.
    assert list(FACTS.items()) == [
        ("delivered", 1),
        ("bounced_hard", 2),
        ("bounced_soft", 4),
        ("complained", 8),
        ("unsubscribed", 16),
    ]


def test_delivery_record_unpack_reads_facts():
    assert delivery_record.unpack(b"\x01\x09") == 9
    assert delivery_record.names(9) == ["delivered", "complained"]
    assert delivery_record.unpack(None) == 0


@pytest.mark.parametrize("value", [b"\x02\x01", b"\x01", b"\x01\x01\x00", b""])
def test_delivery_record_newer_format_is_refused(value):
    with pytest.raises(NewerFormat):
        delivery_record.unpack(value)
