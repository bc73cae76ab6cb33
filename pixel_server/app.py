"""The web process: settings, Redis and clock in, an ASGI app out. The lifespan owns what must be closed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit

from rq import Queue
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Mount, Route

from pixel_server import apikeys, jobs, store
from pixel_server.campaigns import Directory
from pixel_server.collect.bell import Bell
from pixel_server.collect.door import Door
from pixel_server.collect.pixel import Pixel
from pixel_server.collect.recorder import Recorder
from pixel_server.collect.stream import Stream
from pixel_server.report import api
from pixel_server.report.health import Health
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import AsyncRedis

log = logging.getLogger("pixel_server.app")


def create_app(
    settings: Settings,
    secrets: Secrets,
    redis: AsyncRedis,
    queue: Queue,
    clock: Callable[[], float] = time.time,
) -> Starlette:
    """redis: an asyncio client, closed at the end. queue: where roll-ups are asked for. clock: seconds."""
    directory = Directory(redis)
    door = Door(settings, secrets, directory, clock)
    bell = Bell(queue)
    recorder = Recorder(
        Stream(redis), settings.shards, settings.pending_bytes, on_stored=bell.ring, clock=clock
    )
    pixel = Pixel(door, recorder)
    health = Health(redis, settings, recorder, lambda: list(door.recent), clock)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await store.check(redis, settings.redis_url, settings.shards, secrets)
        await apikeys.use_environment(redis, settings.api_key)
        if not await apikeys.listed(redis):
            log.warning("there is no API key yet: make one with `pixel-server key create NAME`")
        await directory.load()
        recorder.start()
        tasks = [asyncio.create_task(directory.follow()), asyncio.create_task(bell.run())]
        try:
            yield
        finally:
            await recorder.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await redis.aclose()

    routes: list[BaseRoute] = [
        Route("/o", pixel),
        Route("/o/{rest:path}", pixel),
        Route("/p", pixel),
        Route("/p/{rest:path}", pixel),
        *api.routes(api.Api(redis, settings, secrets, directory, clock)),
        Route("/healthz", health.healthz),
        Route("/readyz", health.readyz),
    ]
    prefix = urlsplit(settings.base_url or "").path
    if prefix:
        # A proxy in front may pass the prefix on, or take it off.
        routes = [Mount(prefix, routes=routes), *routes]
    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={HTTPException: api.not_found},
    )
    app.router.redirect_slashes = False
    return app


def app() -> Starlette:
    """The app of this environment: `uvicorn --factory pixel_server.app:app`."""
    settings = Settings.from_env()
    secrets = Secrets.load(settings.data, settings.signing, settings.recipient_secret)
    redis = store.connect_async(settings.redis_url)
    queue = jobs.queue(store.connect(settings.queue_url or settings.redis_url))
    return create_app(settings, secrets, redis, queue)
