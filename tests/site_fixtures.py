"""A site whose clock stands where a test puts it: hits in, one query, one answer out."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from pixel_server import app
from pixel_server.collect import recorder
from pixel_server.collect.redis_sink import RedisSink
from pixel_server.mail.links import Minter
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import jobs
from pixel_server.store.client import connect, connect_async
from tests.conftest import API_KEY, NOW
from tests.stack import READER
from workers import retention
from workers.removals import Allowance


class Clock:
    """Call it for the seconds; `at` sets it."""

    now = NOW

    def __call__(self) -> float:
        return self.now

    def at(self, text: str) -> None:
        self.now = datetime.fromisoformat(text).timestamp()


@pytest.fixture
def keep_buckets() -> int:
    """A century: a test may tell of any year, whatever the day that it runs on."""
    return 36_500


@pytest.fixture
def settings(redis_url: str, tmp_path: Path, keep_buckets: int) -> Settings:
    return Settings(
        redis_url=redis_url,
        data=tmp_path,
        base_url="http://pixel.test",
        api_key=API_KEY,
        keep_buckets=keep_buckets,
        keep_days=36_500,
    )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sweep(settings: Settings, clock: Clock) -> Callable[..., Counter[str]]:
    """Runs `retention.sweep` at this clock's time. Returns what it removed, or would remove."""

    def sweep(deadline: float = math.inf, allowance: Allowance = "all") -> Counter[str]:
        async def run() -> Counter[str]:
            client = connect_async(settings.redis_url)
            try:
                slice_number = int(clock.now) // 3600
                result = await retention.sweep(
                    client, settings, clock.now, deadline, slice_number=slice_number, allowance=allowance
                )
                return result.waiting if allowance == "nothing" else result.removed
            finally:
                await client.aclose()

        return asyncio.run(run())

    return sweep


@pytest.fixture
def site(
    settings: Settings, secrets: Secrets, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TestClient]:
    """The app on that clock, behind a client with the API key and an address. On a busy machine Redis may be
    late: it waits, so that each hit is recorded at its first try."""
    monkeypatch.setattr(
        app.parts, "RedisSink", lambda url, mark=bytes, **_: RedisSink(url, timeout_seconds=10.0, mark=mark)
    )
    monkeypatch.setattr(recorder, "ANSWER_TIMEOUT_SECONDS", 10.0)
    queue = jobs.queue(connect(settings.redis_url))
    with TestClient(
        app.create_app(settings, secrets, connect_async(settings.redis_url), queue, clock),
        base_url="http://pixel.test",
        headers={"Authorization": f"Bearer {API_KEY}", "User-Agent": READER},
        client=("203.0.113.7", 5000),
    ) as made:
        yield made


@pytest.fixture
def mail(site: TestClient) -> Callable[..., str]:
    """Makes an email campaign; its id."""
    return _maker(site, "email", "mail")


@pytest.fixture
def page(site: TestClient) -> Callable[..., str]:
    """Makes a web campaign whose page names its visitors; its id."""
    return _maker(site, "web", "page", identity="own")


def _maker(site: TestClient, kind: str, name: str, **usual: Any) -> Callable[..., str]:
    def make(**fields: Any) -> str:
        body = {"id": name, "name": name, "kind": kind, **usual, **fields}
        made = site.post("/api/campaigns", json=body)
        assert made.status_code == 201, made.text
        return str(made.json()["id"])

    return make


@pytest.fixture
def opened(site: TestClient, secrets: Secrets, clock: Clock) -> Callable[..., None]:
    """At this time, who opens a mail; X-Pixel must say this of it."""
    minter = Minter("http://pixel.test", secrets)

    def hit(
        at: str, who: str = "ada", campaign: str = "mail", method: str = "GET", says: str = "recorded"
    ) -> None:
        clock.at(at)
        url = minter.url(campaign, who, now=clock.now)
        assert url is not None
        assert site.request(method, url).headers["x-pixel"] == says

    return hit


@pytest.fixture
def viewed(site: TestClient, clock: Clock) -> Callable[..., None]:
    """At this time, who looks at a page; X-Pixel must say this of it."""

    def hit(at: str, who: str = "ada", campaign: str = "page", says: str = "recorded") -> None:
        clock.at(at)
        assert site.get(f"/p/{campaign}.gif", params={"v": who}).headers["x-pixel"] == says

    return hit


@pytest.fixture
def stats(site: TestClient, clock: Clock, count: Callable[..., int]) -> Callable[..., dict[str, Any]]:
    """Counts all there is, then asks. `from_` stands for `from`."""

    def ask(campaign: str, **query: str) -> dict[str, Any]:
        count(clock.now)
        params = {name.rstrip("_"): value for name, value in query.items()}
        answer = site.get(f"/api/campaigns/{campaign}/stats", params=params)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    return ask
