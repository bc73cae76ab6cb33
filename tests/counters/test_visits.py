"""Visits that are under way, in Redis."""

from __future__ import annotations

import redis

from pixel_server.counters import visits
from pixel_server.counters.visits import Entry, Visit
from pixel_server.store import keys
from pixel_server.store.readers import read

SOURCE = ("(none)",) * 4


def visit(last: int) -> Visit:
    return Visit(last - 1000, last, b"visitor1", "/a", "/b", last, SOURCE, {"20250610": 2})


def store(client: redis.Redis, changed: dict[bytes, Entry], removed: tuple[bytes, ...], more: int) -> None:
    for command in visits.store_commands(0, changed, removed, {b"spring": more}):
        client.execute_command(*command)


def test_read_entries_alias_of_a_missing_visit_ends_the_search(client):
    stored = {b"x": b"a", b"y": b"b", b"b": b"c"}
    client.hset(keys.visits(0), mapping={name: visits.pack(entry) for name, entry in stored.items()})
    assert read(client, lambda pipe: visits.read_entries(pipe, 0, [b"x", b"y"])) == stored


def test_store_commands_visit_and_alias_are_read_again_and_removed(client):
    name, alias = visits.field(b"visitor1", b"spring"), visits.field(b"another1", b"spring")
    store(client, {name: visit(5000), alias: name}, (), 1)
    entries = read(client, lambda pipe: visits.read_entries(pipe, 0, [alias]))
    assert entries[alias] == name
    assert entries[name] == visit(5000)
    assert client.zrange(keys.visit_times(0), 0, -1, withscores=True) == [(name, 5000.0)]
    assert read(client, lambda pipe: visits.count_by_campaign(pipe, 0, [name])) == {b"spring": 1}
    store(client, {}, (name, alias), -1)
    assert read(client, lambda pipe: visits.read_entries(pipe, 0, [name, alias])) == {}
    assert not client.exists(keys.visits(0), keys.visit_times(0))
    assert read(client, lambda pipe: visits.count_by_campaign(pipe, 0, [name])) == {b"spring": 0}
