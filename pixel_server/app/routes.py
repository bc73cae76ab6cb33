"""All URLs of a web process, and the middleware in front of them."""

from __future__ import annotations

from collections.abc import Callable

from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import RedirectResponse
from starlette.routing import BaseRoute, Mount, Route

from pixel_server.api import incoming, routing
from pixel_server.api.context import Api
from pixel_server.api.health import Health
from pixel_server.api.metrics import Metrics
from pixel_server.api.report_slots import ReportSlots
from pixel_server.api.routes import CALLS
from pixel_server.app.lifespan import Lifespan
from pixel_server.collect import handover
from pixel_server.collect.endpoint import PixelEndpoint
from pixel_server.collect.script import script
from pixel_server.dashboard import busy, static_files
from pixel_server.dashboard import routes as dashboard_routes
from pixel_server.privacy.endpoint import Privacy

IsServedHere = Callable[[bytes, bytes, bytes], bool]
"""Function that returns whether this process answers a request. Arguments: the method, the path, and the
prefix that all paths of this server have."""


class _AnyPath(Convertor[str]):
    """Matches the rest of a path. Starlette's `path` does not match a line break, written `%0a` in a URL."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("anything", _AnyPath())


def make_starlette(
    api: Api,
    *,
    prefix: str,
    pixel: PixelEndpoint | None,
    health: Health,
    metrics: Metrics,
    lifespan: Lifespan,
    is_served_here: IsServedHere | None,
) -> Starlette:
    """Returns the app with its routes and middleware.

    prefix: the path before all URLs, '' for none. pixel: None if the process answers no pixels.
    is_served_here: None to answer all requests.
    """
    middleware = [Middleware(ReportSlots, prefix=prefix.encode(), busy=busy.answers(api))]
    if is_served_here is not None:
        middleware.insert(
            0, Middleware(handover.Misdirected, prefix=prefix.encode(), is_served_here=is_served_here)
        )
    app = Starlette(
        routes=[*_pixel_routes(prefix, pixel), *_other_routes(prefix, api, health, metrics)],
        lifespan=lifespan,
        middleware=middleware,
        exception_handlers={HTTPException: dashboard_routes.router_error(api)},
    )
    app.router.redirect_slashes = False
    return app


def _pixel_routes(prefix: str, pixel: PixelEndpoint | None) -> list[Route]:
    """Returns the routes of pixels, with and without the prefix, which a proxy may pass on or remove."""
    if pixel is None:
        return []
    paths = [
        f"{start}/{kind}{rest}"
        for start in dict.fromkeys((prefix, ""))
        for kind in ("o", "p")
        for rest in ("", "/{rest:anything}")
    ]
    return [Route(path, pixel) for path in paths]


def _other_routes(prefix: str, api: Api, health: Health, metrics: Metrics) -> list[BaseRoute]:
    """Returns the routes of the API, the dashboard and all else but pixels, with and without the prefix."""
    others: list[BaseRoute] = [
        *routing.routes(api, CALLS),
        Route(incoming.PATH, incoming.Incoming(api).answer, methods=["POST"]),
        Route("/privacy", Privacy(api).answer, methods=["GET", "POST"]),
        Route("/p.js", script, methods=["GET", "OPTIONS"]),
        Route("/healthz", health.healthz),
        Route("/readyz", health.readyz),
        Route("/metrics", metrics.answer),
        Route("/static/{name:path}", static_files.answer),
        *dashboard_routes.routes(api),
    ]
    if not prefix:
        return others
    return [Route(prefix, lambda _: RedirectResponse(f"{prefix}/")), Mount(prefix, routes=others), *others]
