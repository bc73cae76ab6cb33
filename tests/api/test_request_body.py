"""Bodies of requests: which are read, and how bad fields are named."""

from __future__ import annotations

import json

import pytest

from pixel_server.api import request_body
from tests.api.answers import JSON, bad_fields, names_of, new, problem


@pytest.mark.parametrize(
    ("status", "sent"),
    [
        (400, b""),
        (400, b"{"),
        (400, b'{"id": "c"} {}'),
        (400, b"[" * 200_000),
        (400, b'{"a":' * 200_000),
        (400, b'{"id": "\xff"}'),
        (400, b'\xef\xbb\xbf{"id": "c"}'),
        (400, new().encode("utf-16")),
        (400, b'{"id": "c", "name": "C", "kind": "email", "\\u0069d": "d"}'),
        (400, b'{"id": "c", "sent": {"a": 1, "a": 1}}'),
        (400, new(sent=float("nan"))),
        (400, new(sent=float("inf"))),
        (400, new(sent=10**40)),
        (400, '{"sent": ' + "9" * 100_000 + "}"),
        (413, b" " * (request_body.MAX_BODY_BYTES + 1)),
        (413, new(name="x" * request_body.MAX_BODY_BYTES)),
        *((422, json.dumps(value)) for value in (None, True, 1, 1.5, "text", [], [{}])),
    ],
)
def test_request_body_not_an_object_is_refused(web, client, status, sent):
    problem(web.post("/api/campaigns", content=sent, headers=JSON), status)
    assert names_of(client, "campaign:") == []


@pytest.mark.parametrize(
    ("fields", "bad"),
    [
        *(
            ({"id": value}, ["id"])
            for value in ("", "A", "-a", "a_b", "a/b", "a" * 64, "\u0430", "\uff41", "a\n", None, 1)
        ),
        *(
            ({"name": value}, ["name"])
            for value in ("", "  ", "x" * 201, "a\0b", "a\tb", "\ud800", None, 1, {})
        ),
        *(({"kind": value}, ["kind"]) for value in ("sms", "", "Email", None, 1, [], {})),
        *(({"sent": value}, ["sent"]) for value in (-1, 10**9 + 1, 10**20, 1e20, 1.5, True, "4", [], {})),
        *(
            ({"time_zone": value}, ["time_zone"])
            for value in (
                *("", "Mars/Base", "../../etc/passwd", "/etc/localtime", "localtime", "utc+1", "UTC\0"),
                *(None, 1, "posix/UTC", "a" * 5000),
            )
        ),
        *(
            ({"base_url": value}, ["base_url"])
            for value in (
                *("", "ftp://x", "//x", "http://", "http://x?", "http://x#", "http://u@x", "http://x:99999"),
                *("http://x:0", "http://[", "http://x/\n", "http://ü", "javascript:alert(1)", 'http://x/"'),
                *("http://" + "x" * 500, 1),
            )
        ),
        ({"x": 1, "id": "", "sent": -1}, ["id", "sent", "x"]),
    ],
)
def test_request_body_bad_fields_are_named_and_nothing_stored(web, client, fields, bad):
    answer = web.post("/api/campaigns", content=new(**fields), headers=JSON)
    assert sorted(bad_fields(answer)) == bad
    assert names_of(client, "campaign:") == []


def test_request_body_missing_fields_are_named(web):
    assert bad_fields(web.post("/api/campaigns", json={})) == ["id", "kind", "name"]


@pytest.mark.parametrize("number", ["4", "4.0", "4e0", "40E-1"])
def test_request_body_integer_written_as_float_is_accepted(web, number):
    sent = new().replace("}", f', "sent": {number}}}')
    assert web.post("/api/campaigns", content=sent, headers=JSON).json()["sent"] == 4


def test_request_body_infinite_number_is_refused(web):
    sent = new().replace("}", ', "sent": 1e400}')
    assert bad_fields(web.post("/api/campaigns", content=sent, headers=JSON)) == ["sent"]


def test_request_body_largest_is_accepted(web):
    sent = new().encode()
    padded = sent + b" " * (request_body.MAX_BODY_BYTES - len(sent))
    assert web.post("/api/campaigns", content=padded, headers=JSON).status_code == 201


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonx"]
)
def test_request_body_other_type_is_415(web, kind):
    headers = {"Content-Type": kind} if kind else {}
    problem(web.post("/api/campaigns", content=new(), headers=headers), 415)
