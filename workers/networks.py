"""The job that fetches the published lists of networks each week, and puts them into the store.

One worker of all hosts does so at a time, by Redis's time. It fetches in a thread, so that hits are counted
meanwhile. A list that cannot be fetched stays as it is, and is tried again after some hours.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import redis

from pixel_server.classify import network_store
from pixel_server.classify.network_feeds import PUBLISHED
from pixel_server.classify.network_refresh import make_list
from pixel_server.classify.networks import NetworksError
from pixel_server.logs import Log
from pixel_server.store import keys
from pixel_server.store.protocols import Redis
from workers.context import context, is_known_store

log = Log(__name__)


def run() -> None:
    """Runs the job: begins a refresh in a thread, if one is due."""
    store, settings, _ = context()
    if settings.networks_refresh == "off" or not is_known_store(store):
        return
    if now := store.eval(*network_store.claim_call()):
        threading.Thread(target=_try, args=(store, now), daemon=True, name="networks").start()


def _try(store: Redis, now: int) -> None:
    try:
        refresh(store, now)
    except redis.RedisError as error:
        log.info(
            "networks-not-stored",
            "the lists of networks could not be stored, trying again later: %(error)s",
            error=error,
        )
    except Exception as error:  # a list that nobody foresaw must not end the worker
        log.error(
            "networks-not-refreshed",
            "the lists of networks could not be refreshed: %(error)s",
            error=error,
            exc=error,
        )


def refresh(store: Redis, now: int) -> None:
    """Fetches the lists that are due, and stores them. now: Redis's time, s. Raises redis.RedisError."""
    today = datetime.fromtimestamp(now, UTC).date()
    states = network_store.parse_states(store.hmget(keys.NETWORKS, network_store.STATE_FIELDS))
    next_try = now + network_store.WEEK_SECONDS
    for name in PUBLISHED:
        if not states[name].is_due(now):
            continue
        try:
            new = make_list(name, today, last_ranges=states[name].ranges)
        except NetworksError as error:
            log.info(
                "networks-list-kept",
                "the list of networks %(list)s stays as it was, trying again later: %(error)s",
                list=name,
                error=error,
            )
            store.hset(keys.NETWORKS, f"{name} error", str(error))
            next_try = now + network_store.RETRY_SECONDS
        else:
            store.hset(keys.NETWORKS, mapping=dict(network_store.fields_of(new, now)))
            log.info(
                "networks-list-refreshed",
                "refreshed the list of networks %(list)s: %(ranges)d ranges",
                list=name,
                ranges=new.ranges,
            )
    store.hset(keys.NETWORKS, "next", int(next_try))
