"""Calls of Lua scripts, and single commands that a full Redis carries out."""

from __future__ import annotations

import pytest
import redis

from pixel_server.store import keys
from pixel_server.store.script import even_if_full, script_call
from tests.redis_states import full


def test_script_call_two_keys_are_counted_before_the_arguments(client):
    call = script_call("return {KEYS[2], ARGV[1]}", keys=("{t}a", "{t}b"), arguments=(b"\xff",))
    assert call == ("return {KEYS[2], ARGV[1]}", 2, "{t}a", "{t}b", b"\xff")
    assert client.eval(*call) == [b"{t}b", b"\xff"]


def test_even_if_full_redis_full_stores_the_value(client):
    with full(client):
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            client.hset(keys.REWRITE, "asked", 1)
        assert even_if_full(client, "HINCRBY", keys.REWRITE, "asked", 1) == 1
