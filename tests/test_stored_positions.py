"""The values that are stored by position, with their positions written out by hand.

A failure here means that stored data would be read wrongly. Do not change a number below: append instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from pixel_server import hit, tokens
from pixel_server.collect import visitor_cookie
from pixel_server.collect.batch import Batch
from pixel_server.collect.spool import format as spool_format
from pixel_server.counters import (
    burst_window,
    histogram,
    labels,
    open_breakdown,
    recipient_record,
    series,
    visit_sample,
    visits,
    web_breakdown,
)
from pixel_server.counters.burst_window import Trace
from pixel_server.counters.recipient_record import RecipientRecord
from pixel_server.counters.visit_sample import SampledVisit
from pixel_server.counters.visits import RecentView, Visit
from pixel_server.hit import Hit
from pixel_server.recipients import lists
from pixel_server.verdicts import CLASSES

packed = msgspec.msgpack.encode


def test_series_positions_of_counts_are_fixed():
    assert series.POSITIONS == {
        "hits": 0,
        "opens": 1,
        "unique_opens": 2,
        "views": 3,
        "opens_anonymous": 4,
        "hits_gpc": 5,
        "unique_opens_person": 6,
        "hits_person": 7,
        "hits_proxy": 8,
        "hits_prefetch": 9,
        "hits_scanner": 10,
        "hits_own": 11,
        "hits_unknown": 12,
        "views_bot": 13,
        "views_no_visitor": 14,
        "views_no_visit": 15,
        "visits": 16,
        "bounces": 17,
        "visits_new": 18,
        "visits_returning": 19,
    }
    assert {name: series.COUNTS[position] for name, position in series.POSITIONS.items()} == {
        name: name for name in series.POSITIONS
    }


def test_series_constants_are_the_positions_of_their_names():
    assert (series.HITS, series.OPENS, series.UNIQUE_OPENS, series.VIEWS) == (0, 1, 2, 3)
    assert (series.OPENS_ANONYMOUS, series.HITS_GPC, series.UNIQUE_OPENS_PERSON) == (4, 5, 6)
    assert (series.VIEWS_BOT, series.VIEWS_NO_VISITOR, series.VIEWS_NO_VISIT) == (13, 14, 15)
    assert (series.VISITS, series.BOUNCES, series.VISITS_NEW, series.VISITS_RETURNING) == (16, 17, 18, 19)


def test_series_position_of_each_verdict_class_is_fixed():
    wanted = {"person": 7, "proxy": 8, "prefetch": 9, "scanner": 10, "own": 11, "unknown": 12}
    assert wanted == series.HITS_BY_CLASS
    assert set(CLASSES) == set(series.HITS_BY_CLASS)


def test_series_stored_day_is_read_by_position():
    cell = list(range(100, 120))
    assert series.pack({3: cell}) == packed([1, {3: cell}])
    assert series.unpack(packed([1, {3: cell}])) == {3: cell}


@dataclass
class Layout:
    """A stored value. packed: what `encode` writes and `decode` reads. fields: the fields by their names."""

    name: str
    packed: Any
    value: Any
    fields: dict[str, Any]
    encode: Any
    decode: Any


HIT = [
    *(1_790_000_000_123, "spring", "o", "GET", 3, 1_790_000_000, b"8 bytes!", b"visitor!", b"\x7f\0\0\1"),
    *("agent", "referrer", "language", "gpc", "dnt", "purpose", "page", "page referrer"),
    *(b"the view", 1500, 2, True),
]
HIT_FIELDS = {
    "time": 1_790_000_000_123,
    "campaign": "spring",
    "kind": "o",
    "method": "GET",
    "flags": 3,
    "token_time": 1_790_000_000,
    "recipient": b"8 bytes!",
    "visitor": b"visitor!",
    "address": b"\x7f\0\0\1",
    "agent": "agent",
    "referrer": "referrer",
    "language": "language",
    "gpc": "gpc",
    "dnt": "dnt",
    "purpose": "purpose",
    "page": "page",
    "page_referrer": "page referrer",
    "view": b"the view",
    "spent_ms": 1500,
    "visits": 2,
    "is_new": True,
}

VISIT = [
    *(1000, 2000, b"visitor!", "/in", "/out", 1900, ["host", "source", "medium", "campaign"]),
    *({"20260921": 4}, 4, 57, [[b"the view", 1100, 31, True]], [b"alias"], True, ["term", "content"]),
    b"a number",
]
VISIT_FIELDS = {
    "start": 1000,
    "last": 2000,
    "visitor": b"visitor!",
    "entry": "/in",
    "exit": "/out",
    "exit_at": 1900,
    "source": ("host", "source", "medium", "campaign"),
    "days": {"20260921": 4},
    "views": 4,
    "length_bin": 57,
    "recent_views": [RecentView(view=b"the view", at=1100, time_bin=31, is_reported=True)],
    "aliases": [b"alias"],
    "is_new_or_returning_counted": True,
    "more_source": ("term", "content"),
    "number": b"a number",
}

SAMPLED = [
    *(1_988_888, 95, {"/in": 1, "/out": 2}, 1, ["DE", "Firefox", "Linux", "desktop", "de"]),
    ["host", "source"],
]
SAMPLED_FIELDS = {
    "bucket": 1_988_888,
    "seconds": 95,
    "pages": {"/in": 1, "/out": 2},
    "exit": 1,
    "traits": web_breakdown.VisitorTraits("DE", "Firefox", "Linux", "desktop", "de"),
    "source": ("host", "source"),
}

TRACE = [59_123, 0x01020304, 1, "rule", True, 9, ["cFirefox", "nDE"], 7_160_000_001, 0x05060708]
TRACE_FIELDS = {
    "at": 59_123,
    "address": 0x01020304,
    "kind": 1,
    "rule": "rule",
    "is_open": True,
    "delay": 9,
    "labels": ("cFirefox", "nDE"),
    "link": 7_160_000_001,
    "source": 0x05060708,
}

# [format, flags + 16 * delay, first, last - first, opens, opens of a person, first of a person - first,
# opens by prefetch, by a scanner, last - last of a person]
PERSON = [3, 5 + 16 * 21, 1_790_000_000, 900, 10, 4, 30, 3, 2, 60]
PERSON_FIELDS = {
    "first": 1_790_000_000,
    "last": 1_790_000_900,
    "opens": 10,
    "flags": 5,
    "person": 4,
    "first_person": 1_790_000_030,
    "prefetch": 3,
    "scanner": 2,
    "delay": 21,
    "last_person": 1_790_000_840,
}

LAYOUTS = [
    Layout("hit", HIT, Hit(**HIT_FIELDS), HIT_FIELDS, hit.encode, hit._decode_hit),
    Layout(
        "visit", [1, VISIT], Visit(**VISIT_FIELDS), VISIT_FIELDS, visits.pack, lambda v: visits._decode(v)[1]
    ),
    Layout(
        "trace", TRACE, Trace(**TRACE_FIELDS), TRACE_FIELDS, packed, msgspec.msgpack.Decoder(Trace).decode
    ),
    Layout(
        "visit of a sample",
        [1, SAMPLED],
        SampledVisit(**SAMPLED_FIELDS),
        SAMPLED_FIELDS,
        visit_sample.pack,
        visit_sample.unpack,
    ),
    Layout(
        "recipient",
        PERSON,
        RecipientRecord(**PERSON_FIELDS),
        PERSON_FIELDS,
        recipient_record.pack,
        recipient_record.unpack,
    ),
    Layout(
        "name",
        [1, "anna@example.org", "Anna"],
        lists.ListEntry(recipient="anna@example.org", name="Anna"),
        {"recipient": "anna@example.org", "name": "Anna"},
        lists.pack,
        lists.unpack,
    ),
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_positional_value_each_field_keeps_its_position(layout: Layout):
    assert msgspec.msgpack.decode(layout.encode(layout.value)) == layout.packed
    read = layout.decode(packed(layout.packed))
    assert {name: getattr(read, name) for name in layout.fields} == layout.fields


@pytest.mark.parametrize("layout", LAYOUTS[:4], ids=lambda layout: layout.name)
def test_positional_struct_every_field_is_pinned(layout: Layout):
    assert tuple(layout.fields) == type(layout.value).__struct_fields__


def test_visits_alias_and_trace_list_stand_behind_the_format():
    assert visits.pack(b"visitor!spring") == packed([1, b"visitor!spring"])
    command = next(burst_window.store_commands(0, {b"name": {7: [Trace(**TRACE_FIELDS)]}}, [(7, b"name")]))
    assert command[2:] == (b"name", packed([1, [TRACE]]))


def test_breakdown_stored_month_is_format_then_labels_by_day():
    assert open_breakdown.pack({7: {"cFirefox": 2}}) == packed([1, {7: {"cFirefox": 2}}])
    letters = (labels.CLIENT, labels.DEVICE, labels.COUNTRY, labels.DELAY)
    assert letters == ("c", "d", "n", "t")
    assert (labels.PAGE, labels.VISIT) == ("p", "v")


def test_breakdown_bins_of_times_are_fixed():
    assert [histogram.delay_bin(seconds) for seconds in (-1, 0, 1, 60, 3600, 86_400)] == [
        0,
        1,
        9,
        48,
        95,
        132,
    ]
    assert [histogram.span_bin(ms) for ms in (0, 100, 1000, 60_000, 3_600_000)] == [1, 1, 27, 74, 122]


def test_web_breakdown_stored_day_is_format_then_views_and_visits_by_name():
    assert web_breakdown.pack({"/a": [5, 2]}) == packed([1, {"/a": [5, 2]}])
    assert web_breakdown.unpack(packed([1, {"/a": [5, 2]}])) == {"/a": [5, 2]}


def test_web_breakdown_names_of_stored_fields_are_fixed():
    assert (
        *("page", "country", "browser", "system", "device", "language"),
        *(
            "entry_page",
            "referrer",
            "utm_source",
            "utm_medium",
            "utm_campaign",
            "utm_term",
            "utm_content",
            "exit_page",
        ),
    ) == web_breakdown.DIMENSIONS
    assert web_breakdown.Source._fields == (
        *("referrer", "utm_source", "utm_medium", "utm_campaign"),
        *("utm_term", "utm_content"),
    )


def test_people_flags_and_day_of_mode_last_are_fixed():
    assert (
        recipient_record.TOP,
        recipient_record.BOTTOM,
        recipient_record.HIDES_READING,
        recipient_record.SEEN,
    ) == (1, 2, 4, 8)
    assert recipient_record.pack_day(20_717) == packed([1, 20_717])


def test_traces_kinds_are_fixed():
    assert (burst_window.SCANNER, burst_window.PERSON, burst_window.UNKNOWN, burst_window.APART) == (
        0,
        1,
        2,
        3,
    )


def test_hit_kinds_are_fixed():
    assert (hit.EMAIL, hit.WEB) == ("o", "p")


def test_tokens_flags_are_fixed():
    modes = {"OFF": 0, "COUNT": 1, "LAST": 2, "PSEUDONYMOUS": 3, "IDENTIFIED": 4}
    assert {mode.name: mode.value for mode in tokens.Mode} == modes
    assert {part.name: part.value for part in tokens.Part} == {"SINGLE": 0, "TOP": 1, "BOTTOM": 2}
    assert (tokens.SENDING, tokens.TEST) == (0x20, 0x40)
    signed = tokens.Token("spring", 1, b"8 bytes!", tokens.Mode.LAST, tokens.Part.BOTTOM, True, True)
    assert signed.flags == 0b0_1_1_10_010


def test_spool_heads_are_fixed():
    shapes = (spool_format.HEAD.format, spool_format.RECORD.format, spool_format.PAYLOAD.format)
    assert shapes == (">8sIQI", ">4sIII", ">BHIQB")
    batch = Batch(
        shard=3, producer="abc", sequence=7, data=hit.encode_batch([hit.encode(Hit(1, "a", "o", "GET"))])
    )
    assert spool_format.pack_payload(batch)[:16] == bytes.fromhex("01 0003 00000001 0000000000000007 03")
    assert spool_format.unpack_payload(spool_format.pack_payload(batch)) == batch


def test_cookie_body_is_fixed():
    held = visitor_cookie.Cookie(id=b"8 bytes!", shard=3, first=1, last=2, visits=4)
    wanted = b"\x01" + b"8 bytes!" + bytes.fromhex("03 00000001 00000002 0004")
    assert visitor_cookie._BODY.pack(1, *held) == wanted
