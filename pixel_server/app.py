"""The web process: settings, Redis and clock in, an ASGI app out. The lifespan owns what must be closed."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from redis import RedisError, ResponseError
from rq import Queue
from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.routing import BaseRoute, Mount, Route

from pixel_server import tasks
from pixel_server.api import routing
from pixel_server.api.context import Api
from pixel_server.api.health import Health, Known, NotRecording
from pixel_server.api.report_slots import ReportSlots
from pixel_server.api.routes import CALLS
from pixel_server.auth import api_keys
from pixel_server.auth.throttle import Throttle
from pixel_server.campaigns.cache import CACHE_FILE, CampaignCache
from pixel_server.collect import dropped_counts, handover, losses
from pixel_server.collect.admission import Admission
from pixel_server.collect.client_address import ClientAddress
from pixel_server.collect.endpoint import PixelEndpoint
from pixel_server.collect.handover import Side
from pixel_server.collect.loss_watch import LossWatch
from pixel_server.collect.recorder import Recorder
from pixel_server.collect.redis_sink import RedisSink
from pixel_server.collect.reserve_sink import ReserveSink
from pixel_server.collect.rollup_trigger import RollupTrigger
from pixel_server.collect.script import script
from pixel_server.collect.spool.drain import Drain
from pixel_server.collect.spool.sink import SpoolSink
from pixel_server.collect.spool.spool import Spool
from pixel_server.collect.spool.status import find_trouble, read_status, waiting_since
from pixel_server.consent import Consent
from pixel_server.dashboard import busy, routes, static_files
from pixel_server.figures.inventory_cache import InventoryCache
from pixel_server.privacy.endpoint import Privacy
from pixel_server.recipients.withdrawals_file import WithdrawalsFile
from pixel_server.recipients.withdrawn_set import WithdrawnSet
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import clock as clocks
from pixel_server.store import jobs
from pixel_server.store.client import StoreAwayError, StoreError, connect_async, connect_queue
from pixel_server.store.clock import Clock
from pixel_server.store.compatibility import check, secrets_for
from pixel_server.store.memory_reserve import Watch
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.store_mark import StoreMark

log = logging.getLogger("pixel_server.app")


class _Anything(Convertor[str]):
    """Starlette's `path` does not match a line break, which may stand in a path as %0a."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("anything", _Anything())
_ALL = ("", "/{rest:anything}")
_AWAY = (StoreAwayError, RedisError)
"""It does not answer, or no longer: Redis may also go between two commands of a start."""


def create_app(
    settings: Settings,
    secrets: Secrets,
    redis: AsyncRedis,
    queue: Queue,
    clock: Callable[[], float] | None = None,
    is_here: Callable[[bytes, bytes, bytes], bool] | None = None,
) -> Starlette:
    """redis: an asyncio client, closed at the end. queue: where roll-ups are asked for. clock: seconds; None:
    that of Redis.

    is_here: which (method, path, prefix) are answered in this process; others get 421. None: all.
    """
    of_redis = Clock()
    clock = clock or of_redis
    consent = Consent(settings)
    mark, campaign_cache, withdrawn = _knowledge(settings, secrets, redis, consent)
    admission = Admission(settings, secrets, campaign_cache, consent, withdrawn, clock)
    rollup_trigger = RollupTrigger(queue, clock)
    stream = RedisSink(settings.redis_url, mark=mark.current)
    draining = RedisSink(settings.redis_url, timeout_seconds=1.0, max_timeout_seconds=5.0, mark=mark.current)
    watch = Watch(redis, settings.memory_reserve)
    loss_watch = LossWatch(redis, settings.data, settings.shards, mark, clock)
    spool_directory = settings.data / "spool"
    spool = Spool(spool_directory, settings.spool_bytes, clock=clock)
    recorder = Recorder(
        ReserveSink(stream, watch),
        settings.shards,
        settings.pending_bytes,
        spool=SpoolSink(spool) if settings.spool_bytes else None,
        on_stored=rollup_trigger.request,
        is_ready=lambda: stream.is_ready,
        on_acknowledged=loss_watch.note,
        clock=clock,
    )
    drain = Drain(
        spool,
        ReserveSink(draining, watch),
        is_away=lambda: recorder.is_away,
        on_taken=recorder.resume,
        on_lost=recorder.count_lost,
        on_removed=recorder.count_removed,
        mark=recorder.spool_mark,
        on_drained=recorder.note_drained,
        on_stored=rollup_trigger.request,
        on_acknowledged=loss_watch.note,
        aside_days=settings.keep_dead_letters,
    )
    prefix = urlsplit(settings.base_url or "").path
    health = Health(
        redis,
        settings,
        recorder,
        lambda: read_status(spool_directory),
        lambda: list(admission.recent),
        lambda: find_trouble(spool_directory),
        clock,
        known=Known(mark, campaign_cache, withdrawn, loss_watch.report),
    )

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        async def begin() -> None:
            await check(redis, settings.redis_url, settings.shards, secrets, mark)
            await of_redis.measure_async(redis)
            await campaign_cache.load()
            await withdrawn.load()
            await _begin_keys(redis, settings)
            await stream.settle()

        running = [
            stream.keep_connected(),
            rollup_trigger.run(),
            drain.run(),
            campaign_cache.follow(settings.data / CACHE_FILE),
            withdrawn.follow(),
            watch.follow(),
            dropped_counts.follow(redis, admission.dropped, mark),
            loss_watch.run(),
            clocks.follow(of_redis, redis),
        ]
        try:
            await begin()
        except Exception as error:
            if _is_unfit(error) or not settings.spool_bytes:
                raise
            log.error("%s; hits go to the spool, by what is known of campaigns from before", error)
            campaign_cache.restore(settings.data / CACHE_FILE)
            withdrawn.restore(settings.data)
            running.append(_begin_later(begin))
        recorder.start()  # when the time of Redis is known
        started = tasks.start(running)
        gc.freeze()  # what was made so far stays; the collector need not look at it again
        try:
            # For the fast path, which finds no other way to them.
            yield {"admission": admission, "recorder": recorder, "prefix": prefix.encode()}
        finally:
            await recorder.close()
            await tasks.end(started)
            stream.close()
            draining.close()
            spool.close()
            await redis.aclose()

    calls = _calls(settings, secrets, redis, campaign_cache, consent, withdrawn, clock)
    pixel = PixelEndpoint(admission, recorder, prefix.encode())
    return _app(prefix, _pixels(prefix, pixel), calls, health, lifespan, is_here)


def create_pages(
    settings: Settings, secrets: Secrets, redis: AsyncRedis, clock: Callable[[], float] | None = None
) -> Starlette:
    """The app of a process that answers pages and no pixels: it records nothing, and has no spool."""
    of_redis = Clock()
    clock = clock or of_redis
    consent = Consent(settings)
    mark, campaign_cache, withdrawn = _knowledge(settings, secrets, redis, consent)
    prefix = urlsplit(settings.base_url or "").path
    spool = settings.data / "spool"

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        async def begin() -> None:
            await check(redis, settings.redis_url, settings.shards, secrets, mark)
            await of_redis.measure_async(redis)
            await campaign_cache.load()
            await _begin_keys(redis, settings)

        running: list[Coroutine[Any, Any, None]] = [campaign_cache.follow(), clocks.follow(of_redis, redis)]
        try:
            await begin()
        except Exception as error:
            if _is_unfit(error):
                raise
            log.error("%s; pages are answered 503 until it does", error)
            campaign_cache.restore(settings.data / CACHE_FILE)
            running.append(_begin_later(begin))
        started = tasks.start(running)
        gc.freeze()
        try:
            yield {"prefix": prefix.encode()}
        finally:
            await tasks.end(started)
            await redis.aclose()

    health = Health(
        *(
            redis,
            settings,
            NotRecording(),
            lambda: read_status(spool),
            lambda: [],
            lambda: find_trouble(spool),
            clock,
        ),
        known=Known(mark, campaign_cache, withdrawn, lambda: losses.of_data(settings.data)),
    )
    calls = _calls(settings, secrets, redis, campaign_cache, consent, withdrawn, clock)

    def is_here(method: bytes, path: bytes, prefix: bytes) -> bool:
        return not handover.is_pixel(path, prefix) or path.endswith((b"/healthz", b"/readyz"))

    return _app(prefix, [], calls, health, lifespan, is_here)


def _calls(
    settings: Settings,
    secrets: Secrets,
    redis: AsyncRedis,
    campaign_cache: CampaignCache,
    consent: Consent,
    withdrawn: WithdrawnSet,
    clock: Callable[[], float],
) -> Api:
    spool = settings.data / "spool"
    return Api(
        *(redis, settings, secrets, campaign_cache, consent, withdrawn),
        inventory=InventoryCache(settings, lambda: _spooled(spool)),
        late_since=lambda: _late(spool),
        clock=clock,
        throttle=Throttle(_address_of(settings)),
    )


def _app(
    prefix: str,
    pixels: list[Route],
    calls: Api,
    health: Health,
    lifespan: Callable[[Starlette], contextlib.AbstractAsyncContextManager[dict[str, Any]]],
    is_here: Callable[[bytes, bytes, bytes], bool] | None,
) -> Starlette:
    shown = routes.routes(calls)
    middleware = [Middleware(ReportSlots, prefix=prefix.encode(), busy=busy.answers(calls))]
    if is_here is not None:
        middleware.insert(0, Middleware(handover.Misdirected, prefix=prefix.encode(), is_here=is_here))
    app = Starlette(
        routes=_routes(prefix, pixels, Privacy(calls), calls, shown, health),
        lifespan=lifespan,
        middleware=middleware,
        exception_handlers={HTTPException: routes.not_found(calls)},
    )
    app.router.redirect_slashes = False
    return app


def _knowledge(
    settings: Settings, secrets: Secrets, redis: AsyncRedis, consent: Consent
) -> tuple[StoreMark, CampaignCache, WithdrawnSet]:
    """Returns what keeps a web process's knowledge of its store, nothing read yet but the data directory."""
    mark = StoreMark(settings.data)
    campaign_cache = CampaignCache(redis, consent, mark)
    campaign_cache.recall(settings.data / CACHE_FILE)
    return mark, campaign_cache, WithdrawnSet(redis, secrets, mark, WithdrawalsFile(settings.data))


def _is_unfit(error: Exception) -> bool:
    """Whether a store is not to be used, in contrast to one that is away or cannot be read now."""
    return isinstance(error, StoreError) and not isinstance(error, StoreAwayError)


def _late(directory: Path) -> int | None:
    """Since when hits wait in the spool, ms. Of one that cannot be read it is not known; /readyz says so."""
    try:
        return waiting_since(directory)
    except OSError:
        return None


def _spooled(directory: Path) -> tuple[int, int | None]:
    """(hits that wait in the spool, since when in ms)."""
    found = read_status(directory)
    return found.hits, found.oldest_ms


def _address_of(settings: Settings) -> Callable[[Request], bytes]:
    """Whose request it is, for what knows nothing of proxies."""
    found = ClientAddress(settings)
    return lambda request: found.of(
        request.client.host if request.client else None, dict(request.headers.raw)
    )


def _pixels(prefix: str, pixel: PixelEndpoint) -> list[Route]:
    # A proxy in front may pass the prefix on, or take it off.
    under = [prefix, ""] if prefix else [""]
    return [Route(f"{at}/{kind}{rest}", pixel) for at in under for kind in "op" for rest in _ALL]


def _routes(
    prefix: str, pixels: list[Route], privacy: Privacy, calls: Api, shown: list[Route], health: Health
) -> list[BaseRoute]:
    others: list[BaseRoute] = [
        *routing.routes(calls, CALLS),
        Route("/privacy", privacy.answer, methods=["GET", "POST"]),
        Route("/p.js", script),
        Route("/healthz", health.healthz),
        Route("/readyz", health.readyz),
        Route("/static/{name:path}", static_files.answer),
        *shown,
    ]
    if prefix:
        bare = Route(prefix, lambda _: RedirectResponse(f"{prefix}/"))
        return [*pixels, bare, Mount(prefix, routes=others), *others]
    return [*pixels, *others]


async def _begin_keys(redis: AsyncRedis, settings: Settings) -> None:
    """Takes the API key of the environment. A stored key that cannot be read keeps nobody from starting."""
    try:
        await api_keys.use_environment(redis, settings.api_key)
        if not await api_keys.list_keys(redis):
            log.warning("there is no API key yet: make one with `pixel-server key create NAME`")
    except (ResponseError, ValueError, TypeError, LookupError) as error:
        if isinstance(error, ResponseError) and not str(error).startswith("WRONGTYPE"):
            raise
        log.error("the API keys in the store cannot be read: %r", error)


async def _begin_later(begin: Callable[[], Awaitable[None]]) -> None:
    """As soon as Redis answers. A store that does not fit ends this process: its log line says why."""
    while True:
        await asyncio.sleep(0.5)
        try:
            return await begin()
        except _AWAY:
            continue
        except StoreError as error:
            log.critical("%s", error)
            os.kill(os.getpid(), signal.SIGTERM)
            return None
        except Exception as error:  # whatever the store holds, this process goes on
            log.error("the store cannot be read, going by what is known: %r", error)


def app() -> Starlette:
    """The app of this environment, all in one process: `uvicorn --factory pixel_server.app:app`."""
    return _with_pixels(None)


def beside_pages() -> Starlette:
    """The app of a process that has another beside it for pages: the rest, see `handover`."""
    return _with_pixels(lambda *request: handover.side_of_path(*request) is Side.PIXELS)


def pixels() -> Starlette:
    """The app of `serve --only pixels`."""
    return _with_pixels(lambda method, path, prefix: handover.is_pixel(path, prefix))


def pages_only() -> Starlette:
    """The app of `serve --only pages`, and of the process beside one for pixels."""
    settings = Settings.from_env()
    secrets = secrets_for(settings, settings.redis_url)
    return create_pages(settings, secrets, connect_async(settings.redis_url))


def _with_pixels(is_here: Callable[[bytes, bytes, bytes], bool] | None) -> Starlette:
    settings = Settings.from_env()
    secrets = secrets_for(settings, settings.redis_url)
    redis = connect_async(settings.redis_url)
    queue = jobs.queue(connect_queue(settings.queue_url or settings.redis_url, timeout=2.0))
    return create_app(settings, secrets, redis, queue, is_here=is_here)
