"""Checks that `serve` and `work` make before they start, and a warning about mistyped settings."""

from __future__ import annotations

import os

from pixel_server import __version__, store_url
from pixel_server.classify import rules
from pixel_server.classify.networks import load_networks
from pixel_server.commands.support import with_store_at
from pixel_server.logs import Log
from pixel_server.settings import Settings, unknown_name_warnings
from pixel_server.store.client import StoreAwayError
from pixel_server.store.compatibility import secrets_for
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store_url import without_password

log = Log(__name__)


def warn_of_unknown_settings() -> None:
    """Logs a warning for each environment variable that looks like a setting and is not."""
    for line in unknown_name_warnings(os.environ):
        log.warning("setting-unknown", "%(warning)s", warning=line)


def warn_of_few_sentinels(settings: Settings) -> None:
    """Logs a warning if an address names fewer sentinels than can outvote a sentinel that is wrong."""
    for name, url in (("REDIS_URL", settings.redis_url), ("PIXEL_QUEUE_URL", settings.queue_url)):
        parts = store_url.parse(url) if url else None
        if parts is None or parts.kind != "sentinel" or len(parts.addresses) > 2:
            continue
        if len(parts.addresses) == 1:
            text = "one sentinel: nothing contradicts it if it names a primary that was replaced"
        else:
            text = "two sentinels: if one of them is away, the primary is not known"
        log.warning(
            "sentinels-few", "%(setting)s names %(number)s; name three or more", setting=name, number=text
        )


def log_start(kind: str, settings: Settings, address: str = "") -> None:
    """Logs what this process is, where it listens, and which Redis and data directory it uses.

    kind: for example `"web process"`. address: `"http://127.0.0.1:8000"`, or "" if it does not listen.
    """
    place = f" at {address}" if address else ""
    redis = without_password(settings.redis_url)
    queue = f", queue {without_password(settings.queue_url)}" if settings.queue_url else ""
    data = settings.data.absolute()
    log.info(
        "started",
        "pixel-server %(version)s: %(kind)s%(place)s, Redis %(redis)s%(queue)s, data in %(data)s",
        version=__version__,
        kind=kind,
        place=place,
        redis=redis,
        queue=queue,
        data=data,
    )


def check_startup() -> None:
    """Raises an error if a rule file, a list of networks, the secrets or the store cannot be used.

    If the store does not answer and hits can wait in the spool, only logs an error.
    """

    async def do_nothing(store: AsyncRedis, settings: Settings) -> None:
        return None

    settings = Settings.from_env()
    warn_of_few_sentinels(settings)
    rules.load_rules(settings.rules_file)
    load_networks(settings)
    url = settings.redis_url
    try:
        with_store_at(url, settings, secrets_for(settings, url), do_nothing, is_server=True)
    except StoreAwayError as error:
        if not settings.spool_bytes:
            raise
        log.error("start-without-redis", "%(error)s; starting anyway: hits wait in the spool", error=error)
