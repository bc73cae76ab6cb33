"""Fixtures of an app whose clock stands still until a test sets it, with its campaigns, hits and figures.

A pytest plugin, which tests/conftest.py loads, so that every test can use these fixtures.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from starlette.testclient import TestClient

from pixel_server import app
from pixel_server.collect import recorder
from pixel_server.collect.redis_sink import RedisSink
from pixel_server.counters import recipient_record
from pixel_server.mail.links import Minter
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import jobs, keys
from pixel_server.store.client import connect, connect_async
from tests.conftest import API_KEY, NOW
from tests.stack import READER
from workers import retention
from workers.removals import Allowance


class Clock:
    """A clock that stands still. Calling it returns the seconds since 1970."""

    now = NOW

    def __call__(self) -> float:
        return self.now

    def at(self, text: str) -> None:
        """Sets the clock. text: in ISO format, such as `2026-03-01T09:00Z`."""
        self.now = datetime.fromisoformat(text).timestamp()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def few_buckets() -> Iterator[None]:
    """Keeps the recipients of a campaign in 256 hashes and not in 4096, so that reading all is fast."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "PEOPLE_BUCKETS", 256)
        patch.setattr(recipient_record, "PEOPLE_BUCKETS", 256)
        yield


@pytest.fixture
def sweep(settings: Settings, clock: Clock) -> Callable[..., Counter[str]]:
    """Returns a function that runs `retention.sweep` at the clock's time.

    The function returns the counts of what was removed, or of what is due if nothing may be removed.
    """

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
    """Returns a test client of the app. It sends the API key, and has an address.

    The app waits 10 s for Redis, so that each hit is recorded at the first try, also on a busy machine.
    """
    monkeypatch.setattr(
        app.pixel_parts,
        "RedisSink",
        lambda url, mark, **_: RedisSink(url, timeout_seconds=10.0, mark=mark),
    )
    monkeypatch.setattr(recorder, "ANSWER_TIMEOUT_SECONDS", 10.0)
    queue = jobs.queue(connect(settings.redis_url))
    with TestClient(
        app.create_app(settings, secrets, connect_async(settings.redis_url), queue, clock),
        base_url="http://pixel.test",
        headers={"Authorization": f"Bearer {API_KEY}", "User-Agent": READER},
        client=("203.0.113.7", 5000),
        backend_options={"use_uvloop": True},
    ) as client:
        yield client


@pytest.fixture
def mail(site: TestClient) -> Callable[..., str]:
    """Returns a function that creates an email campaign, and returns its id."""
    return _campaign_maker(site, "email", "mail")


@pytest.fixture
def page(site: TestClient) -> Callable[..., str]:
    """Returns a function that creates a web campaign with the identity `own`, and returns its id."""
    return _campaign_maker(site, "web", "page", identity="own")


def _campaign_maker(site: TestClient, kind: str, name: str, **defaults: Any) -> Callable[..., str]:
    def make(**fields: Any) -> str:
        body = {"id": name, "name": name, "kind": kind, **defaults, **fields}
        answer = site.post("/api/campaigns", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    return make


@pytest.fixture
def opened(site: TestClient, secrets: Secrets, clock: Clock) -> Callable[..., None]:
    """Returns a function that sets the clock and opens a recipient's mail. X-Pixel must be `says`."""
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
    """Returns a function that sets the clock and views a page as a visitor. X-Pixel must be `says`."""

    def hit(at: str, who: str = "ada", campaign: str = "page", says: str = "recorded") -> None:
        clock.at(at)
        assert site.get(f"/p/{campaign}.gif", params={"v": who}).headers["x-pixel"] == says

    return hit


@pytest.fixture
def stats(site: TestClient, clock: Clock, count: Callable[..., int]) -> Callable[..., dict[str, Any]]:
    """Returns a function that counts all waiting hits, and returns the stats of a campaign.

    query: parameters of the API; `from_` stands for `from`.
    """

    def ask(campaign: str, **query: str) -> dict[str, Any]:
        count(clock.now)
        params = {name.rstrip("_"): value for name, value in query.items()}
        answer = site.get(f"/api/campaigns/{campaign}/stats", params=params)
        assert answer.status_code == 200, answer.text
        stats: dict[str, Any] = answer.json()
        return stats

    return ask
