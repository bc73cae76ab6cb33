"""Bodies of requests: which are read, and how bad fields are named."""

from __future__ import annotations

import json

import pytest

from pixel_server.api import request_body
from tests.api.answers import JSON, bad_fields, names_of, new, problem

UNREADABLE = (
    b"",
    b"{",
    b'{"id": "c"} {}',
    b"[" * 200_000,
    b'{"a":' * 200_000,
    b'{"id": "\xff"}',
    b'\xef\xbb\xbf{"id": "c"}',
    new().encode("utf-16"),
    b'{"id": "c", "name": "C", "kind": "email", "\\u0069d": "d"}',
    b'{"id": "c", "sent": {"a": 1, "a": 1}}',
    new(sent=float("nan")),
    new(sent=float("inf")),
    new(sent=10**40),
    '{"sent": ' + "9" * 100_000 + "}",
)
TOO_LONG = (b" " * (request_body.MAX_BODY_BYTES + 1), new(name="x" * request_body.MAX_BODY_BYTES))
NO_OBJECTS = tuple(json.dumps(value) for value in (None, True, 1, 1.5, "text", [], [{}]))


@pytest.mark.parametrize(
    ("status", "bodies"), [(400, UNREADABLE), (413, TOO_LONG), (422, NO_OBJECTS)], ids=[400, 413, 422]
)
def test_request_body_not_an_object_is_refused(web, client, status, bodies):
    for body in bodies:
        problem(web.post("/api/campaigns", content=body, headers=JSON), status)
        assert names_of(client, "campaign:") == [], body[:100]


BAD_VALUES = {
    "id": ("", "A", "-a", "a_b", "a/b", "a" * 64, "\u0430", "\uff41", "a\n", None, 1),
    "name": ("", "  ", "x" * 201, "a\0b", "a\tb", "\ud800", None, 1, {}),
    "kind": ("sms", "", "Email", None, 1, [], {}),
    "sent": (-1, 10**9 + 1, 10**20, 1e20, 1.5, True, "4", [], {}),
    "time_zone": (
        *("", "Mars/Base", "../../etc/passwd", "/etc/localtime", "localtime", "utc+1", "UTC\0"),
        *(None, 1, "posix/UTC", "a" * 5000),
    ),
    "base_url": (
        *("", "ftp://x", "//x", "http://", "http://x?", "http://x#", "http://u@x", "http://x:99999"),
        *("http://x:0", "http://[", "http://x/\n", "http://ü", "javascript:alert(1)", 'http://x/"'),
        *("http://" + "x" * 500, 1),
    ),
}


@pytest.mark.parametrize("field", BAD_VALUES)
def test_request_body_bad_value_is_named_and_nothing_stored(web, client, field):
    for value in BAD_VALUES[field]:
        answer = web.post("/api/campaigns", content=new(**{field: value}), headers=JSON)
        assert bad_fields(answer) == [field], value
        assert names_of(client, "campaign:") == [], value


def test_request_body_bad_fields_are_all_named_and_nothing_stored(web, client):
    answer = web.post("/api/campaigns", content=new(x=1, id="", sent=-1), headers=JSON)
    assert sorted(bad_fields(answer)) == ["id", "sent", "x"]
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
