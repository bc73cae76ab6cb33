"""The simplest server: a Starlette endpoint that calls XADD for each hit, without a token check or batches.

Run `uvicorn tests.bench.plain:app` with REDIS_URL in the environment.
"""

from __future__ import annotations

import base64
import contextlib
import os
import time
from collections.abc import AsyncIterator
from typing import Any

from redis import asyncio as aioredis
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

STREAM = "plain:hits"
GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
HEADERS = {"Cache-Control": "no-store, no-cache, must-revalidate, max-age=0, private"}

redis = aioredis.Redis.from_url(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"), max_connections=1000)


async def pixel(request: Request) -> Response:
    hit: dict[Any, Any] = {
        "time": int(time.time() * 1000),
        "token": request.path_params["token"],
        "address": request.client.host if request.client else "",
        "agent": request.headers.get("user-agent", ""),
        "referrer": request.headers.get("referer", ""),
        "language": request.headers.get("accept-language", ""),
    }
    await redis.xadd(STREAM, hit)
    return Response(GIF, media_type="image/gif", headers=HEADERS)


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    yield
    await redis.aclose()


app = Starlette(routes=[Route("/o/{token}.gif", pixel)], lifespan=lifespan)
