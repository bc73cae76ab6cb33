"""Which stores a server may use, and which secrets it starts with."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import subprocess
import threading
import time
from dataclasses import replace
from typing import Any

import pytest
import redis
import uvloop

from pixel_server.api import redis_health, store_health
from pixel_server.run import valkey
from pixel_server.secret import FILE, Secrets, SecretsError
from pixel_server.settings import Settings
from pixel_server.store import aof_rewrite, compatibility
from pixel_server.store import client as store
from tests.redis_states import full, read_only
from tests.stack import free_port, until


def check(settings: Settings, secrets: Secrets) -> None:
    async def run() -> None:
        async with store.connect_async(settings.redis_url) as client:
            await compatibility.check_store(client, settings.redis_url, settings.shards, secrets)

    asyncio.run(run())


@pytest.mark.parametrize("state", [full, pytest.param(read_only, marks=pytest.mark.one_redis)])
def test_check_store_own_store_takes_no_writes_is_accepted(state, client, settings, secrets):
    check(settings, secrets)
    with state(client):
        check(settings, secrets)


@pytest.mark.parametrize("state", [full, pytest.param(read_only, marks=pytest.mark.one_redis)])
def test_check_store_new_store_takes_no_writes_raises_away(state, client, settings, secrets):
    with state(client), pytest.raises(store.StoreAwayError, match="takes no writes"):
        check(settings, secrets)


def test_secrets_for_known_secrets_does_not_ask_the_store(tmp_path, monkeypatch):
    created = Secrets.load_or_create(tmp_path)
    connections = []
    monkeypatch.setattr(compatibility, "connect", connections.append)
    assert compatibility.secrets_for(Settings(data=tmp_path), "redis://127.0.0.1:1/0") == created
    assert connections == []


def test_secrets_for_owned_store_raises(tmp_path, settings, secrets):
    settings = replace(settings, data=tmp_path, signing_secrets=(), recipient_secret=None)
    created = compatibility.secrets_for(settings, settings.redis_url)
    assert compatibility.secrets_for(settings, settings.redis_url) == created
    check(settings, secrets)  # from now on the store belongs to other secrets
    (tmp_path / FILE).unlink()
    with pytest.raises(SecretsError, match="there are no secrets in"):
        compatibility.secrets_for(settings, settings.redis_url)
    assert not (tmp_path / FILE).exists()


def test_connect_async_connection_reset_raises_connection_error():
    """A proxy whose Redis is gone does that. uvloop raises a bare RuntimeError for it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def reset() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    connection.close()

        threading.Thread(target=reset, daemon=True).start()

        async def ping() -> None:
            for _ in range(100):
                async with store.connect_async(f"redis://127.0.0.1:{listening.getsockname()[1]}/0") as client:
                    with pytest.raises(redis.ConnectionError):
                        await client.ping()

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(ping())
        listening.shutdown(socket.SHUT_RDWR)


MANAGED = "+@all -info -config -bgrewriteaof"
"""Commands of a user of a managed Redis."""


@pytest.fixture
def managed(client, settings):
    """Settings with a user of Redis who may use what managed services allow."""
    client.execute_command("ACL", "SETUSER", "managed", "on", ">pw", "~*", "&*", *MANAGED.split())
    yield replace(settings, redis_url=settings.redis_url.replace("://", "://managed:pw@"))
    client.execute_command("ACL", "DELUSER", "managed")


def test_check_store_managed_redis_is_accepted_with_a_warning(managed, secrets):
    check(managed, secrets)

    async def read() -> dict[str, Any]:
        async with store.connect_async(managed.redis_url) as client:
            return await store_health.read(client, managed.shards, time.time())

    report = asyncio.run(read())
    assert report["redis"]["eviction"] == "unknown"
    assert report["redis"]["used_memory"] is None
    assert ("redis", redis_health.UNKNOWN_EVICTION) in store_health.warnings(report)


def test_rewriter_managed_redis_rewrites_nothing(managed, caplog):
    with store.connect(managed.redis_url) as client:
        rewriter = aof_rewrite.Rewriter(replace(managed, rewrite_minutes=60))
        assert not any(rewriter.tick(client, [f"{n}-0".encode()], 1e9 + 3600 * 24 * n) for n in range(1, 9))
    assert "cannot use INFO" in caplog.text


def test_check_store_node_of_a_cluster_is_refused(tmp_path, settings, secrets):
    port, bus_port = free_port(), free_port()
    words = ["--port", str(port), "--cluster-enabled", "yes", "--cluster-port", str(bus_port)]
    with subprocess.Popen([str(valkey.binary()), *words], stdout=subprocess.DEVNULL, cwd=tmp_path) as node:
        url = f"redis://127.0.0.1:{port}"
        try:
            with store.connect(url) as client:
                until(lambda: answers(client))
            with pytest.raises(store.StoreError, match="is a node of a cluster"):
                check(replace(settings, redis_url=url), secrets)
        finally:
            node.kill()


def answers(client) -> bool:
    with contextlib.suppress(redis.RedisError):
        return bool(client.ping())
    return False
