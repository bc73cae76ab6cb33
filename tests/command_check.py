"""Checks each command of the tests' own process: what it names must fit a cluster.

A cluster keeps the keys of one tag on one node, so no command may name keys of two tags. A script that names
keys which it does not declare must declare the key `px:{s}:none` too; see `store.script.script_call`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import redis.asyncio.client
import redis.client

from pixel_server.store.async_cluster import AsyncClusterPipeline, AsyncClusterRedis
from pixel_server.store.cluster import ClusterPipeline, ClusterRedis

_tag = re.compile(rb"px:\{(\w+)\}:").match

CLIENTS = (
    redis.client.Redis,
    redis.client.Pipeline,
    redis.asyncio.client.Redis,
    redis.asyncio.client.Pipeline,
    ClusterRedis,
    ClusterPipeline,
    AsyncClusterRedis,
    AsyncClusterPipeline,
)


def check(*words: Any) -> None:
    """Raises AssertionError if a command would not be carried out as a whole by a cluster."""
    encoded = [word.encode() if isinstance(word, str) else word for word in words]
    tags = {match[1] for word in encoded if isinstance(word, bytes) and (match := _tag(word))}
    assert len(tags) <= 1, f"{words[0]} names keys of several tags: {sorted(tags)}"
    if words[0] not in ("EVAL", "EVALSHA"):
        return
    number = int(words[2])
    declared, arguments = encoded[3 : 3 + number], encoded[3 + number :]
    prefixes = [word for word in declared if word.endswith(b":")]
    undeclared = [word for word in arguments if isinstance(word, bytes) and _tag(word)] + prefixes
    has_guard = any(word.endswith(b":none") for word in declared)
    assert has_guard or not undeclared, (
        f"a script names keys that it does not declare, and does not declare px:{{s}}:none: {undeclared[:3]}"
    )


def _checked(execute: Callable[..., Any]) -> Callable[..., Any]:
    def execute_command(self: Any, *words: Any, **options: Any) -> Any:
        check(*words)
        return execute(self, *words, **options)

    return execute_command


@pytest.fixture(autouse=True, scope="session")
def every_command_is_checked() -> Any:
    """Checks what redis-py's clients send, in the process of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for client in CLIENTS:
            patch.setattr(client, "execute_command", _checked(client.execute_command))
        yield
