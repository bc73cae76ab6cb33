"""The nodes of a store, for commands that concern one node: INFO, CONFIG, SCAN, BGREWRITEAOF and the like.

A store that is one Redis has one node: the client itself. A cluster has many.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar, cast

import redis

from pixel_server.store.async_cluster import AsyncClusterRedis
from pixel_server.store.cluster import ClusterRedis
from pixel_server.store.protocols import AsyncRedis, Redis
from pixel_server.store.sentinel_client import SentinelRedis
from pixel_server.store_url import shown_address

T = TypeVar("T")
_AWAY = (redis.ConnectionError, redis.TimeoutError, OSError)


async def nodes(store: AsyncRedis) -> list[AsyncRedis]:
    """Returns a plain client of each primary, in the order of their slots.

    Returns `[store]` if the store is one Redis. The store closes these clients, not the caller. Raises
    redis.ConnectionError if no node of a cluster answers.
    """
    if isinstance(store, AsyncClusterRedis):
        return cast(list[AsyncRedis], await store.nodes())
    return [store]


async def nodes_of(store: AsyncRedis, keys: Iterable[str]) -> dict[AsyncRedis, str]:
    """Returns a plain client of each primary that has one of these keys, and one of its keys.

    Returns the store itself if it is one Redis. Raises redis.ConnectionError if a key has no node.
    """
    if isinstance(store, AsyncClusterRedis):
        return {cast(AsyncRedis, await store.node_of(key)): key for key in keys}
    return dict.fromkeys([store], next(iter(keys)))


def nodes_sync(store: Redis, *, replicas: bool = False) -> list[Redis]:
    """Returns what `nodes` returns, for a client that blocks, and then a client of each replica if asked.

    The replicas of a Redis that has no sentinels are not known.
    """
    if isinstance(store, ClusterRedis):
        return cast(list[Redis], store.nodes(replicas=replicas))
    if replicas and isinstance(store, SentinelRedis):
        return cast(list[Redis], store.nodes())
    return [store]


async def ask_each(
    store: AsyncRedis, ask: Callable[[AsyncRedis], Awaitable[T]]
) -> list[tuple[AsyncRedis, T]]:
    """Asks all nodes at once. Returns (node, answer) of each node that answers.

    Raises redis.ConnectionError, redis.TimeoutError or OSError only if no node answers. Raises other errors
    of `ask`.
    """
    members = await nodes(store)
    if members == [store]:
        return [(store, await ask(store))]
    answers = await asyncio.gather(*map(ask, members), return_exceptions=True)
    errors = [answer for answer in answers if isinstance(answer, BaseException)]
    refusals = [error for error in errors if not isinstance(error, _AWAY)]
    if refusals or len(errors) == len(members):
        raise (refusals or errors)[0]
    return [
        (node, answer)
        for node, answer in zip(members, answers, strict=True)
        if not isinstance(answer, BaseException)
    ]


def answers_of_nodes(replies: Sequence[Any]) -> list[Any]:
    """Returns the replies of a pipeline over several nodes, with None for those of a node that is away.

    Raises the first error if all nodes are away, and an error of another kind in any case.
    """
    errors = [reply for reply in replies if isinstance(reply, BaseException)]
    refusals = [error for error in errors if not isinstance(error, _AWAY)]
    if refusals or (errors and len(errors) == len(replies)):
        raise (refusals or errors)[0]
    return [None if isinstance(reply, BaseException) else reply for reply in replies]


def node_name(node: AsyncRedis | Redis) -> str:
    """Returns the name of a node for the operator: `"10.0.0.1:7000"`, or `"Redis"` if it has no address."""
    options = cast(Any, node).connection_pool.connection_kwargs
    return shown_address((options["host"], options["port"])) if "host" in options else "Redis"
