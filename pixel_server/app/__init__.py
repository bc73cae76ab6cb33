"""The ASGI apps of a web process.

`create_app` makes the app that answers pixels. It also answers pages if no other process does. `create_pages`
makes the app that answers pages only, `create_metrics` the app that answers nothing but `/metrics`.

`parts` and `pixel_parts` make the parts of a process, `lifespan` starts and ends them, and `routes` says
which part answers which URL. `app`, `beside_pages`, `pixels_only`, `pages_only` and `metrics_only` take the
settings from the environment; uvicorn calls one of these functions by name, for example
`uvicorn --factory pixel_server.app:app`.
"""

from __future__ import annotations

from collections.abc import Callable

from rq import Queue
from starlette.applications import Starlette
from starlette.routing import Route

from pixel_server.api.health import NoRecorder
from pixel_server.app.lifespan import metrics_lifespan, pages_lifespan, pixels_lifespan
from pixel_server.app.parts import make_api, make_common, make_health, make_metrics
from pixel_server.app.pixel_parts import make_pixels
from pixel_server.app.process_numbers import pages_numbers, pixels_numbers
from pixel_server.app.routes import IsServedHere, make_starlette
from pixel_server.collect import handover, loss_storage
from pixel_server.collect.endpoint import PixelEndpoint
from pixel_server.collect.handover import Side
from pixel_server.metrics.numbers import Numbers
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import jobs
from pixel_server.store.client import connect_async, connect_queue
from pixel_server.store.compatibility import secrets_for
from pixel_server.store.protocols import AsyncRedis


def create_app(
    settings: Settings,
    secrets: Secrets,
    redis: AsyncRedis,
    queue: Queue,
    clock: Callable[[], float] | None = None,
    is_served_here: IsServedHere | None = None,
) -> Starlette:
    """Returns the app that answers pixels, and pages unless `is_served_here` leaves them to another process.

    redis: a client, which the app closes when it ends. queue: receives the roll-up jobs. clock: returns
    seconds since 1970; None for Redis's clock. is_served_here: returns whether this process answers a
    request; other requests get 421.
    """
    common = make_common(settings, secrets, redis, clock)
    pixels = make_pixels(common, queue)
    health = make_health(
        common,
        recorder=pixels.recorder,
        losses=pixels.loss_watch.report,
        recent_addresses=lambda: list(pixels.admission.recent),
    )
    api = make_api(common)
    metrics = make_metrics(common, api, pixels_numbers(api, pixels))
    return make_starlette(
        api,
        prefix=common.prefix,
        pixel=PixelEndpoint(pixels.admission, pixels.recorder, common.prefix.encode()),
        health=health,
        metrics=metrics,
        lifespan=pixels_lifespan(common, pixels, metrics.publisher),
        is_served_here=is_served_here,
    )


def create_pages(
    settings: Settings, secrets: Secrets, redis: AsyncRedis, clock: Callable[[], float] | None = None
) -> Starlette:
    """Returns the app that answers pages and no pixels. It records no hits and has no spool."""
    common = make_common(settings, secrets, redis, clock)
    health = make_health(
        common, recorder=NoRecorder(), losses=lambda: loss_storage.report_file(settings.data)
    )
    api = make_api(common)
    metrics = make_metrics(common, api, pages_numbers(api))
    return make_starlette(
        api,
        prefix=common.prefix,
        pixel=None,
        health=health,
        metrics=metrics,
        lifespan=pages_lifespan(common, metrics.publisher),
        is_served_here=_is_page_or_health,
    )


def create_metrics(
    settings: Settings, secrets: Secrets, redis: AsyncRedis, clock: Callable[[], float] | None = None
) -> Starlette:
    """Returns the app of a host that runs workers and no web process: it answers `/metrics`."""
    common = make_common(settings, secrets, redis, clock)
    metrics = make_metrics(common, make_api(common), lambda: Numbers("metrics"))
    return Starlette(
        routes=[Route("/metrics", metrics.answer)], lifespan=metrics_lifespan(common, metrics.publisher)
    )


def app() -> Starlette:
    """Returns the app that answers everything in one process."""
    return _app_of_environment(None)


def beside_pages() -> Starlette:
    """Returns the app of a process for pixels that hands pages to a process beside it. See `handover`."""
    return _app_of_environment(lambda *request: handover.side_of_path(*request) is Side.PIXELS)


def pixels_only() -> Starlette:
    """Returns the app of `serve --only pixels`."""
    return _app_of_environment(_is_pixel_or_metrics)


def pages_only() -> Starlette:
    """Returns the app of `serve --only pages`, and of the process beside a process for pixels."""
    settings = Settings.from_env()
    secrets = secrets_for(settings, settings.redis_url)
    return create_pages(settings, secrets, connect_async(settings.redis_url))


def metrics_only() -> Starlette:
    """Returns the app of `work --metrics`."""
    settings = Settings.from_env()
    secrets = secrets_for(settings, settings.redis_url)
    return create_metrics(settings, secrets, connect_async(settings.redis_url))


def _app_of_environment(is_served_here: IsServedHere | None) -> Starlette:
    settings = Settings.from_env()
    secrets = secrets_for(settings, settings.redis_url)
    redis = connect_async(settings.redis_url)
    queue = jobs.queue(connect_queue(settings.queue_url or settings.redis_url, timeout=2.0))
    return create_app(settings, secrets, redis, queue, is_served_here=is_served_here)


def _is_pixel_or_metrics(method: bytes, path: bytes, prefix: bytes) -> bool:
    return handover.is_for_pixel_process(path, prefix) or path in (b"/metrics", prefix + b"/metrics")


def _is_page_or_health(method: bytes, path: bytes, prefix: bytes) -> bool:
    return not handover.is_for_pixel_process(path, prefix) or path.endswith((b"/healthz", b"/readyz"))
