"""What tests share: a real Valkey, settings and secrets that never change, an app, and a whole stack."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import hypothesis
import pytest
import redis
from starlette.testclient import TestClient

from pixel_server.app import create_app
from pixel_server.run.valkey import Valkey
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import jobs
from pixel_server.store.client import connect, connect_async
from tests import leftovers
from tests.stack import Stack
from workers.rollup_pass import Outcome, Rollup

API_KEY = "an-api-key-for-tests"
NOW = 1_790_000_000.0
"""2026-09-21T14:13:20Z: the instant that tests run on."""
ANY_YEAR = 10**14
"""ms that a hit may be ahead of Redis's time, in tests that tell of other years than Redis lives in."""

LONGEST, AGAIN = 240, 20
"""Seconds that a test may take, and that what it leaves may take to be cleared away."""

hypothesis.settings.register_profile("project", deadline=None)  # no test is timed
hypothesis.settings.load_profile("project")

for name in list(os.environ):
    if name.startswith("PIXEL_") or name == "REDIS_URL":
        del os.environ[name]

leftovers.begin()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """A test that hangs fails where it stands, so that a run always ends."""

    def give_up(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"{item.nodeid} hangs")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, LONGEST, AGAIN)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """A Valkey of this run's own, as `up` starts it."""
    home = Path(tempfile.mkdtemp(prefix="px-"))
    valkey = Valkey(home)
    valkey.start()
    valkey.wait_ready()
    yield valkey.url
    valkey.stop()
    valkey.wait(10)
    shutil.rmtree(home)


@pytest.fixture
def redis_url(valkey_url: str) -> str:
    """That Valkey, empty."""
    with connect(valkey_url) as client:
        client.flushall()
    return valkey_url


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """A redis-py client of the empty store; answers in bytes."""
    with connect(redis_url) as made:
        yield made


@pytest.fixture(scope="session")
def secrets() -> Secrets:
    return Secrets.derive(("signing-key-of-the-tests",), "recipient-secret-of-the-tests")


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    return Settings(redis_url=redis_url, data=tmp_path, base_url="http://pixel.test", api_key=API_KEY)


@pytest.fixture
def web(settings: Settings, secrets: Secrets) -> Iterator[TestClient]:
    """The app behind a test client that carries the API key; time is what it is."""
    queue = jobs.queue(connect(settings.redis_url))
    app = create_app(settings, secrets, connect_async(settings.redis_url), queue)
    with TestClient(
        app, base_url="http://pixel.test", headers={"Authorization": f"Bearer {API_KEY}"}
    ) as made:
        yield made


@pytest.fixture
def count(client: redis.Redis, settings: Settings, secrets: Secrets) -> Callable[..., int]:
    """Rolls all shards up, in this process, until they are empty; gives the number of hits counted."""
    import time

    def roll_up(now: float | None = None) -> int:
        counted = 0
        for shard in range(settings.shards):
            rollup = Rollup(client, settings, secrets, shard, max_ahead_ms=ANY_YEAR)
            while rollup.step(now or time.time()) is Outcome.COUNTED:
                pass
            counted += rollup.counted
        return counted

    return roll_up


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """`pixel-server up`, all of it, on a free port and an empty data directory."""
    made = Stack(Path(tempfile.mkdtemp(prefix="px-")))
    made.start()
    yield made
    made.stop()
    shutil.rmtree(made.data)
    made.log.unlink(missing_ok=True)
