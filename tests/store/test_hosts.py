"""What hosts tell of themselves: beats, spools of hosts that went away, and settings that differ."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pixel_server.store import hosts, keys

NOW = 1_790_000_000.0


def host(name: str, seen_ago: float = 0, **beat):
    """Returns a host whose beat went through the format."""
    content = {"settings": {}, "spool": (0, None), "kind": "web", **beat}
    encoded = hosts.encode_beat(at=NOW - seen_ago, name=name, **content)
    (found,) = hosts.parse({f"id-{name}".encode(): encoded.encode()})
    return found


def test_beat_is_stored_and_all_are_returned(client):
    for name in ("a", "b"):
        beat = hosts.encode_beat(at=NOW, name=name, kind="web", settings={"X": "1"}, spool=(3, 5))
        found = hosts.parse_reply(client.eval(*hosts.beat_call(host=name, beat=beat)))
    assert [(one.id, one.spool_hits, one.spool_since, one.settings) for one in found] == [
        ("a", 3, 5, {"X": "1"}),
        ("b", 3, 5, {"X": "1"}),
    ]
    assert client.eval(*hosts.forget_call("a")) == 1
    assert client.hkeys(keys.HOSTS) == [b"b"]


@pytest.mark.parametrize("beat", [b"", b"[]", b"{}", b"\xff", json.dumps({"format": 2, "at": 1}).encode()])
def test_beat_of_another_format_is_passed_over(beat: bytes):
    assert hosts.parse({b"x": beat}) == []


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (host("web-1", spool=(1200, 7)), None),
        (host("web-1", 19, spool=(1200, 7)), None),
        (host("web-1", 300, spool=(1200, 7)), "not been seen for 300 s, and its spool holds 1,200 hits"),
        (host("web-1", 300), "its spool may hold hits"),
        (host("web-1", 300, spool=(None, None)), "its spool may hold hits"),
        (host("web-1", spool=(4, 7), is_stopped=True), "has stopped, and its spool holds 4 hits"),
        (host("work-1", 300, kind="worker", spool=None), None),
    ],
)
def test_spool_of_a_host_that_is_away_is_reported(one: hosts.Host, words: str | None):
    texts = hosts.describe_spools([one], NOW)
    if words is None:
        assert texts == []
    else:
        assert words in texts[0]
        assert f"hosts forget {one.id}" in texts[0]


def test_beat_without_spool_is_forgotten_first():
    kept, gone = host("web-1", 3600), host("work-1", 61, kind="worker", spool=None)
    assert (kept.is_forgotten(NOW), gone.is_forgotten(NOW)) == (False, True)


def test_settings_that_differ_are_named_with_their_hosts():
    found = [
        host("a", settings={"PIXEL_RULES": "1", "PIXEL_SHARDS": "4"}),
        host("b", settings={"PIXEL_RULES": "2", "PIXEL_SHARDS": "4"}),
        host("c", settings={"PIXEL_RULES": "2"}, kind="worker", spool=None),
        host("d", 60, settings={"PIXEL_RULES": "3"}),
    ]
    assert hosts.describe_settings(found, NOW) == [
        "PIXEL_RULES must agree on all hosts, and differs: web on a / web on b, worker on c"
    ]
    assert hosts.describe_settings(found[1:], NOW) == []


def test_fingerprints_tell_values_apart_and_hide_them(settings, secrets, tmp_path):
    rules = tmp_path / "rules.toml"
    rules.write_text("one")
    settings = replace(settings, api_key="a key that nobody knows", rules_file=rules)
    first = hosts.fingerprints(settings, secrets, "web")
    assert hosts.fingerprints(replace(settings, relay_campaign="spring"), secrets, "web") == first
    assert "a key" not in json.dumps(first)
    assert "PIXEL_DATA_DIR" not in first
    rules.write_text("two")
    changed = hosts.fingerprints(replace(settings, api_key="another key of theirs"), secrets, "web")
    assert {name for name in first if first[name] != changed[name]} == {"PIXEL_RULES", "PIXEL_API_KEY"}
    worker = hosts.fingerprints(settings, secrets, "worker")
    assert "PIXEL_API_KEY" not in worker
    assert worker["PIXEL_RULES"] == changed["PIXEL_RULES"]
