"""Checks that `serve` and `work` make before they start, and a warning about mistyped settings."""

from __future__ import annotations

import logging
import os

from pixel_server import __version__
from pixel_server.classify import rules
from pixel_server.classify.networks import Networks
from pixel_server.commands.support import with_store_at
from pixel_server.settings import Settings, unknown_name_warnings
from pixel_server.store.client import StoreAwayError
from pixel_server.store.compatibility import secrets_for
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store_url import without_password

log = logging.getLogger("pixel_server.commands.startup")


def warn_of_unknown_settings() -> None:
    """Logs a warning for each environment variable that looks like a setting and is not."""
    for line in unknown_name_warnings(os.environ):
        log.warning("%s", line)


def log_start(kind: str, settings: Settings, address: str = "") -> None:
    """Logs what this process is, where it listens, and which Redis and data directory it uses.

    kind: for example `"web process"`. address: `"http://127.0.0.1:8000"`, or "" if it does not listen.
    """
    place = f" at {address}" if address else ""
    redis = without_password(settings.redis_url)
    queue = f", queue {without_password(settings.queue_url)}" if settings.queue_url else ""
    data = settings.data.absolute()
    log.info("pixel-server %s: %s%s, Redis %s%s, data in %s", __version__, kind, place, redis, queue, data)


def check_startup() -> None:
    """Raises an error if a rule file, a list of networks, the secrets or the store cannot be used.

    If the store does not answer and hits can wait in the spool, only logs an error.
    """

    async def do_nothing(store: AsyncRedis, settings: Settings) -> None:
        return None

    settings = Settings.from_env()
    rules.load_rules(settings.rules_file)
    Networks.load(settings.networks_directory)
    url = settings.redis_url
    try:
        with_store_at(url, settings, secrets_for(settings, url), do_nothing)
    except StoreAwayError as error:
        if not settings.spool_bytes:
            raise
        log.error("%s; starting anyway: hits wait in the spool", error)
