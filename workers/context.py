"""The connection, settings and secrets of the jobs of this process: made once, from the environment."""

from __future__ import annotations

from functools import cache

from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store.client import connect
from pixel_server.store.protocols import Redis
from pixel_server.store.store_mark import StoreMark


@cache
def context() -> tuple[Redis, Settings, Secrets]:
    """Returns (Redis, settings, secrets). Raises SettingsError or SecretsError if they cannot be used."""
    settings = Settings.from_env()
    secrets = Secrets.load(settings.data, settings.signing_secrets, settings.recipient_secret)
    return connect(settings.redis_url, timeout=5.0), settings, secrets


@cache
def known_mark() -> StoreMark:
    """Returns the mark of this worker's store.

    The mark comes from the data directory or, if there is none, from the first store that the worker reads.
    """
    return StoreMark(Settings.from_env().data)


def is_known_store(store: Redis) -> bool:
    """Returns whether a store is this worker's store. Jobs change nothing in any other store."""
    return known_mark().is_known_store(store)
