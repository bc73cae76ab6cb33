"""Starts and ends a web process: reads the store, runs background tasks, closes files and connections.

If Redis is away at the start, the process uses the campaigns and withdrawals that the data directory holds,
and reads the store as soon as Redis answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

from redis import RedisError, ResponseError
from starlette.applications import Starlette

from pixel_server import tasks
from pixel_server.app.parts import CommonParts, make_host_beat
from pixel_server.app.pixel_parts import PixelParts
from pixel_server.app.process_numbers import publish
from pixel_server.auth import api_keys
from pixel_server.classify import network_store
from pixel_server.collect import dropped_counts
from pixel_server.logs import Log
from pixel_server.metrics.process_file import Publisher
from pixel_server.settings import Settings
from pixel_server.store import clock as clocks
from pixel_server.store.client import StoreAwayError, StoreError, is_wrong_type
from pixel_server.store.compatibility import check_store
from pixel_server.store.protocols import AsyncRedis

log = Log(__name__)

Lifespan = Callable[[Starlette], contextlib.AbstractAsyncContextManager[dict[str, Any]]]
Begin = Callable[[], Awaitable[None]]
"""Function that checks the store, and reads from the store what a process must know to answer requests."""

RETRY_SECONDS = 0.5
"""Seconds between attempts to read the store, if Redis was away at the start."""
_AWAY_ERRORS = (StoreAwayError, RedisError)
"""Errors of `Begin` if Redis does not answer, or goes away between two commands."""


def pixels_lifespan(common: CommonParts, pixels: PixelParts, publisher: Publisher) -> Lifespan:
    """Returns the lifespan of a process that answers pixels. publisher: publishes its numbers."""
    settings = common.settings

    async def begin() -> None:
        await _check(common)
        await common.redis_clock.measure_async(common.redis)
        await common.campaign_cache.load()
        await common.withdrawn.load()
        await _prepare_api_keys(common.redis, settings)
        await pixels.connections.settle()

    def restore() -> None:
        common.campaign_cache.restore(common.campaigns_file)
        common.withdrawn.restore(settings.data)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        retries = await _begin_or_restore(
            begin,
            restore,
            may_start_without_redis=settings.spool_bytes > 0,
            consequence="hits go to the spool, and the saved campaigns and withdrawals apply",
        )
        pixels.reserve.open()
        pixels.recorder.start()  # after `begin`, which measures the time of Redis
        beat = make_host_beat(common, has_spool=settings.spool_bytes > 0)
        published = publish(publisher)
        running = tasks.start([*_pixel_tasks(common, pixels), beat.run(), published, *retries])
        gc.freeze()  # the garbage collector then skips the objects made so far
        try:
            # uvicorn passes this dict to its protocol class. `collect.fast_path.PixelProtocol` uses it to
            # answer pixels without the app.
            yield {
                "admission": pixels.admission,
                "recorder": pixels.recorder,
                "prefix": common.prefix.encode(),
            }
        finally:
            await pixels.recorder.close()
            await tasks.end(running)
            _close(pixels)
            publisher.close()
            await beat.send_last()
            await common.redis.aclose()

    return lifespan


def _pixel_tasks(common: CommonParts, pixels: PixelParts) -> list[Coroutine[Any, Any, None]]:
    """Returns the background tasks of a process that answers pixels."""
    return [
        pixels.connections.run(),
        pixels.rollup_trigger.run(),
        pixels.drain.run(),
        pixels.loss_watch.run(),
        common.campaign_cache.follow(common.campaigns_file),
        common.withdrawn.follow(),
        dropped_counts.follow(common.redis, pixels.admission.dropped, common.mark),
        clocks.follow(common.redis_clock, common.redis),
        _follow_networks(common),
    ]


async def _follow_networks(common: CommonParts) -> None:
    """Keeps the data directory's copies of the refreshed lists of networks up to date, for `explain`."""

    async def step() -> None:
        if not common.mark.trouble:
            await common.network_copies.update_async(common.redis)

    def report(error: Exception) -> None:
        log.error(
            "networks-not-copied",
            "the lists of networks cannot be copied from the store: %(error)s",
            error=error,
            exc=error,
        )

    await tasks.repeat(step, network_store.CHECK_SECONDS, report)


def _close(pixels: PixelParts) -> None:
    """Closes connections and files, once the recorder is closed and the tasks have ended."""
    pixels.connections.close()
    pixels.spool.close()
    pixels.loss_watch.note_removed(pixels.spool.take_removed())
    pixels.loss_watch.close()
    pixels.reserve.close()


def pages_lifespan(common: CommonParts, publisher: Publisher) -> Lifespan:
    """Returns the lifespan of a process that answers pages only. publisher: publishes its numbers."""
    settings = common.settings

    async def begin() -> None:
        await _check(common)
        await common.redis_clock.measure_async(common.redis)
        await common.campaign_cache.load()
        await _prepare_api_keys(common.redis, settings)

    def restore() -> None:
        common.campaign_cache.restore(common.campaigns_file)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        retries = await _begin_or_restore(
            begin,
            restore,
            may_start_without_redis=True,
            consequence="pages are answered 503 until Redis answers",
        )
        beat = make_host_beat(common, has_spool=False)
        running = tasks.start(
            [
                common.campaign_cache.follow(),
                clocks.follow(common.redis_clock, common.redis),
                _follow_networks(common),
                beat.run(),
                publish(publisher),
                *retries,
            ]
        )
        gc.freeze()
        try:
            yield {"prefix": common.prefix.encode()}
        finally:
            await tasks.end(running)
            publisher.close()
            await beat.send_last()
            await common.redis.aclose()

    return lifespan


async def _check(common: CommonParts) -> None:
    """Checks the store, and migrates a store of an earlier format. Raises the errors of `check_store`."""
    url, shards = common.settings.redis_url, common.settings.shards
    await check_store(common.redis, url, shards, common.secrets, common.mark, is_server=True)


def metrics_lifespan(common: CommonParts, publisher: Publisher) -> Lifespan:
    """Returns the lifespan of a process that answers `/metrics` only. publisher: publishes its numbers."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        running = tasks.start([clocks.follow(common.redis_clock, common.redis), publish(publisher)])
        try:
            yield {"prefix": b""}
        finally:
            await tasks.end(running)
            publisher.close()
            await common.redis.aclose()

    return lifespan


async def _begin_or_restore(
    begin: Begin, restore: Callable[[], None], *, may_start_without_redis: bool, consequence: str
) -> list[Coroutine[Any, Any, None]]:
    """Reads the store. If that fails, restores the saved data, and returns a coroutine that retries.

    consequence: what happens until Redis answers, in words for the log. Raises the error if this server must
    not use the store, or if `may_start_without_redis` is false.
    """
    try:
        await begin()
    except Exception as error:
        is_unfit = isinstance(error, StoreError) and not isinstance(error, StoreAwayError)
        if is_unfit or not may_start_without_redis:
            raise
        log.error("store-away-at-start", "%(error)s; %(consequence)s", error=error, consequence=consequence)
        restore()
        return [_begin_later(begin)]
    return []


async def _begin_later(begin: Begin) -> None:
    """Reads the store as soon as Redis answers. Ends this process if the server must not use the store."""
    while True:
        await asyncio.sleep(RETRY_SECONDS)
        try:
            return await begin()
        except _AWAY_ERRORS:
            continue
        except StoreError as error:
            log.critical(
                "store-unfit", "this process ends, because it must not use the store: %(error)s", error=error
            )
            os.kill(os.getpid(), signal.SIGTERM)
            return None
        except Exception as error:  # data that nobody foresaw must not end this process
            log.error(
                "store-unreadable",
                "cannot read the store, going on with the saved data: %(error)s",
                error=error,
            )


async def _prepare_api_keys(redis: AsyncRedis, settings: Settings) -> None:
    """Stores the API key of the environment, and warns if there is no key.

    A stored key that cannot be read does not prevent the start.
    """
    try:
        await api_keys.store_environment_key(redis, settings.api_key)
        if not await api_keys.list_keys(redis):
            log.warning("no-api-key", "there is no API key yet: make one with `pixel-server key create NAME`")
    except (ResponseError, ValueError, TypeError, LookupError) as error:
        if isinstance(error, ResponseError) and not is_wrong_type(error):
            raise
        log.error("api-keys-unreadable", "the API keys in the store cannot be read: %(error)s", error=error)
