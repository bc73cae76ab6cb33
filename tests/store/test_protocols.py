"""The types of the Redis clients name methods that redis-py's clients and those of a cluster have."""

from __future__ import annotations

import inspect

import pytest
import redis
from redis import asyncio as aioredis

from pixel_server.store import protocols
from pixel_server.store.async_cluster import AsyncClusterPipeline, AsyncClusterRedis
from pixel_server.store.cluster import ClusterPipeline, ClusterRedis


@pytest.mark.parametrize(
    ("protocol", "client"),
    [
        (protocols.Redis, redis.Redis),
        (protocols.AsyncRedis, aioredis.Redis),
        (protocols.SyncPipeline, redis.client.Pipeline),
        (protocols.AsyncPipeline, aioredis.client.Pipeline),
        (protocols.Redis, ClusterRedis),
        (protocols.AsyncRedis, AsyncClusterRedis),
        (protocols.SyncPipeline, ClusterPipeline),
        (protocols.AsyncPipeline, AsyncClusterPipeline),
    ],
)
def test_protocols_each_method_takes_the_arguments_that_the_clients_take(protocol, client):
    bases = [base for base in protocol.__mro__ if base.__module__ == protocols.__name__]
    methods = {name: method for base in bases for name, method in vars(base).items() if callable(method)}
    for name in methods.keys() - {"__init__", "__subclasshook__", "__exit__"}:
        theirs = inspect.signature(getattr(client, name)).parameters
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in theirs.values())
        for parameter in inspect.signature(methods[name]).parameters.values():
            if parameter.kind is parameter.KEYWORD_ONLY:
                assert takes_any or parameter.name in theirs, f"{name}: {parameter.name}"
