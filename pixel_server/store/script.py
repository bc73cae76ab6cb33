"""Calls of Lua scripts. Each script's text stands beside a function that names its keys and arguments:

    _MOVE = "-- KEYS: source, target. ARGV: member. Returns whether the member was there. ..."

    def _move_call(source: str, target: str, *, member: bytes) -> ScriptCall:
        return script_call(_MOVE, keys=(source, target), arguments=(member,))

    was_there = await store.eval(*_move_call(keys.a(shard), keys.b(shard), member=member))

The same call serves a client that blocks, a client for asyncio and a pipeline. mypy checks the names and
types of the arguments, and `script_call` counts the keys.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence
from typing import Any, Literal, overload

from pixel_server.store import keys as table
from pixel_server.store.key import Tag
from pixel_server.store.protocols import AsyncRedis, Redis, Value

ScriptCall = tuple[str, int, *tuple[Value, ...]]
"""Arguments of a client's `eval`: text, number of keys, keys, arguments."""

GLOBAL: Literal["all"] = "all"
"""Tag of the keys that belong to no shard."""

EVEN_IF_FULL = "#!lua flags=allow-oom\n"
"""First line of a script that Redis (7.0 and newer, and Valkey) carries out although it is full.

Scripts that free memory have this line. Scripts that write little and must not fail have this line too.
"""

_ANY_COMMAND = EVEN_IF_FULL + "return redis.call(ARGV[1], KEYS[1], unpack(ARGV, 2))"


def script_call(
    text: str, *, keys: Sequence[str], arguments: Iterable[Value] = (), undeclared: Tag | None = None
) -> ScriptCall:
    """Returns the arguments of `eval` for a script.

    undeclared: the shard of the keys that the script uses although `keys` lacks them, or GLOBAL for keys of
    {all}.
    Such a script also declares `px:{s}:none`, a key that never exists. While a cluster moves the shard to
    another node, key by key, the node then refuses the whole script. Otherwise the script could end at a key
    that has moved, with half of its changes made.
    """
    declared = keys if undeclared is None else (*keys, table.none(undeclared))
    words: tuple[Value, ...] = (*declared, *arguments)
    return text, len(declared), *words


@overload
def even_if_full(store: Redis, command: str, key: str, *arguments: Value) -> Any: ...
@overload
def even_if_full(store: AsyncRedis, command: str, key: str, *arguments: Value) -> Awaitable[Any]: ...
def even_if_full(store: Redis | AsyncRedis, command: str, key: str, *arguments: Value) -> Any:
    """Carries out a command on one key, even if Redis is full. Returns the reply, or an awaitable of it."""
    return store.eval(*even_if_full_call(command, key, *arguments))


def even_if_full_call(command: str, key: str, *arguments: Value) -> ScriptCall:
    """Returns the call that carries out a command on one key, even if Redis is full."""
    return script_call(_ANY_COMMAND, keys=(key,), arguments=(command, *arguments))
