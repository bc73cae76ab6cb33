"""A server of the real app on uvicorn, with the live figures of its campaigns at `/campaigns/{id}/live`.

As a program, `python -m tests.dashboard.live_server PORT` serves as `pixel-server serve` does.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPResponse
from types import SimpleNamespace
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from pixel_server import app as wiring
from pixel_server.api.context import Api
from pixel_server.api.routing import Call, reply, routes
from pixel_server.app import create_app
from pixel_server.auth import api_keys
from pixel_server.campaigns.campaign import Campaign
from pixel_server.dashboard.live import Live
from pixel_server.figures import ranges, stats
from pixel_server.run import listen, web_process
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import jobs
from pixel_server.store.client import connect, connect_async
from tests.stack import until


async def figures(api: Api, campaign: Campaign, query: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """Returns two figures of a campaign and their `as_of`."""
    wanted = ranges.parse(query, campaign.time_zone, api.clock())
    found = await stats.read(api.store, campaign, wanted, api.settings, api.clock())
    totals = found["totals"]
    texts = {f"totals.{name}": f"{totals[name]:,}" for name in ("hits", "opens", "views") if name in totals}
    return texts, found["as_of"]


def with_live(settings: Settings, secrets: Secrets) -> tuple[Starlette, Live]:
    queue = jobs.queue(connect(settings.redis_url))
    redis = connect_async(settings.redis_url)
    app = create_app(settings, secrets, redis, queue)
    nothing: Any = None
    api = Api(redis, settings, secrets, nothing, nothing, nothing, nothing, lambda: None, time.time)
    live = Live(figures)

    async def answer(api: Api, request: Request) -> Response:
        record = await api_keys.find_by_key(api.store, request.headers.get("x-key", settings.api_key or ""))
        assert record is not None
        request.state.session = SimpleNamespace(key_id=record.id)
        return await live.answer(api, request)

    async def listeners(api: Api, request: Request) -> Response:
        return reply(live.listener_count)

    shown = [Call("GET", "/campaigns/{id}/live", None, answer), Call("GET", "/listeners", None, listeners)]
    app.router.routes[:0] = routes(api, shown)
    return app, live


class LiveServer:
    """A server in a thread of this process."""

    def __init__(self, settings: Settings, secrets: Secrets) -> None:
        listening = listen.bind("127.0.0.1", 0)
        self.port: int = listening.getsockname()[1]
        self.key = settings.api_key
        self.app, self.live = with_live(settings, secrets)
        config = uvicorn.Config(
            self.app,
            loop="uvloop",
            http=web_process.FAST_PROTOCOL,
            ws="none",
            log_config=None,
            timeout_graceful_shutdown=1,
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, args=([listening],), daemon=True)
        self.thread.start()
        until(lambda: self.server.started)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(60)
        assert not self.thread.is_alive()

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Returns status and JSON of a call with the API key."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        connection.request(method, path, None if body is None else msgspec.json.encode(body), headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, msgspec.json.decode(content) if content else None


class Tab:
    """A browser tab that listens. A read fails if nothing arrives within 30 s."""

    def __init__(self, port: int, path: str, key: str = "", method: str = "GET") -> None:
        self.connection = HTTPConnection("127.0.0.1", port, timeout=60)
        self.connection.request(method, path, headers={"X-Key": key} if key else {})
        self.answer: HTTPResponse = self.connection.getresponse()

    def next(self) -> tuple[str, Any] | None:
        """Returns name and data of the next event. Returns None if the stream has ended."""
        name, data = "", None
        while line := self.answer.readline():
            field, _, value = line.decode().strip().partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                data = msgspec.json.decode(value)
            elif not field and name:
                return name, data
        return None

    def past_figures(self) -> tuple[str, Any] | None:
        """Returns the next event that is not `figures`."""
        while (event := self.next()) and event[0] == "figures":
            pass
        return event

    def until(self, **texts: str) -> dict[str, Any]:
        """Returns the data of the first event in which the totals have these texts."""
        while event := self.next():
            name, data = event
            if name == "figures" and all(data["figures"][f"totals.{key}"] == texts[key] for key in texts):
                return dict(data)
        raise AssertionError("the stream has ended")

    def close(self) -> None:
        if self.connection.sock is not None:
            self.connection.sock.shutdown(socket.SHUT_RDWR)
        self.answer.close()
        self.connection.close()


def _app() -> Starlette:
    settings = Settings.from_env()
    return with_live(
        settings, Secrets.load_or_create(settings.data, settings.signing_secrets, settings.recipient_secret)
    )[0]


if __name__ == "__main__":
    wiring.app = _app
    web_process.serve(listen.bind("127.0.0.1", int(sys.argv[1])))
