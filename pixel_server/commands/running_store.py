"""The store of a data directory, whether its `up` runs or not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import redis

from pixel_server.commands.support import is_redis_url_set, store_url
from pixel_server.run.up_state import read_up_state
from pixel_server.run.valkey import Valkey
from pixel_server.settings import Settings
from pixel_server.store.client import connect

STOP_SECONDS = 60.0
"""Seconds that a Valkey may take to end."""


@contextmanager
def running_store(settings: Settings) -> Iterator[str]:
    """Yields the URL of the store. Starts the Valkey of a stopped `up` meanwhile."""
    url, valkey = store_url(settings), Valkey(settings.data, ends_with_parent=True)
    has_own_data = (settings.data / "valkey").is_dir()
    if has_own_data and not is_redis_url_set() and read_up_state(settings.data) is None:
        url = valkey.url
    if is_redis_url_set() or url != valkey.url or _answers(url):
        yield url
        return
    valkey.start()
    try:
        valkey.wait_ready()
        yield url
    finally:
        valkey.stop()
        valkey.wait(STOP_SECONDS)


def _answers(url: str) -> bool:
    try:
        with connect(url, timeout=2.0) as client:
            return client.ping()
    except (redis.RedisError, OSError):
        return False
