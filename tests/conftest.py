"""Fixtures of all tests: a real Valkey, settings, secrets that never change, an app, and a whole stack."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
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
from pixel_server.store.client import connect, connect_async, connect_queue
from tests import leftovers
from tests.cluster_nodes import client_of, running_cluster
from tests.stack import Stack
from workers.rollup_pass import Outcome, Rollup

API_KEY = "an-api-key-for-tests"
NOW = 1_790_000_000.0
"""Seconds since 1970 of 2026-09-21T14:13:20Z, the time in most tests."""
ANY_YEAR = 10**14
"""ms by which a hit may be ahead of Redis's time, in tests whose hits are of another year."""

MAX_TEST_SECONDS, MAX_TEARDOWN_SECONDS = 240, 20
"""Seconds after which a test fails, and then after which each step of its teardown fails."""

pytest_plugins = (
    "tests.command_check",
    "tests.openapi_check",
    "tests.replicas",
    "tests.sentinels",
    "tests.site_fixtures",
    "tests.privacy_form",
    "tests.publishers",
)

hypothesis.settings.register_profile("project", deadline=None)  # no test is timed
hypothesis.settings.load_profile("project")

for name in list(os.environ):
    if name.startswith("PIXEL_") or name == "REDIS_URL":
        del os.environ[name]
os.environ["PIXEL_NETWORKS_REFRESH"] = "off"  # no test asks the internet

# The tests start the program hundreds of times. Without bytecode, each start compiles it again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

MIN_MEMORY_BYTES = 2 << 30
"""Free bytes that a file system in memory must have for the data of the tests."""


def memory_directory() -> str | None:
    """Returns a directory in memory, where a sync takes no time; None if it is missing or small."""
    with contextlib.suppress(OSError):
        if shutil.disk_usage("/dev/shm").free >= MIN_MEMORY_BYTES:
            return "/dev/shm"
    return None


in_memory = memory_directory()
if in_memory is not None and os.statvfs(in_memory).f_flag & os.ST_NOEXEC:
    in_memory = None  # some tests write a program and run it
if in_memory is not None:
    os.environ["PYTEST_DEBUG_TEMPROOT"] = in_memory  # pytest keeps the files of tests that fail
leftovers.begin(in_memory)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Fails a test that hangs, so that a run always ends.

    Resets the umask, because `up` sets it, also when a test runs `up` in its own process.
    """

    def give_up(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"{item.nodeid} hangs")

    earlier_handler = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, MAX_TEST_SECONDS, MAX_TEARDOWN_SECONDS)
    umask = os.umask(0)
    os.umask(umask)
    try:
        return (yield)
    finally:
        os.umask(umask)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--store",
        choices=("valkey", "cluster"),
        default="valkey",
        help="Store of the tests: one Valkey, or a cluster of one node with a Valkey for the queue.",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out the tests that need one Redis if the store is a cluster."""
    if config.getoption("--store") == "cluster":
        left_out = [item for item in items if item.get_closest_marker("one_redis")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def valkey_url(request: pytest.FixtureRequest, own_valkey_url: str) -> Iterator[str]:
    """Returns the URL of the store. Each test process has its own."""
    if request.config.getoption("--store") == "valkey":
        yield own_valkey_url
        return
    home = Path(tempfile.mkdtemp(prefix="px-"))
    for cluster in running_cluster(home):
        yield cluster.url
    shutil.rmtree(home)


@pytest.fixture(scope="session")
def own_valkey_url() -> Iterator[str]:
    """Returns the URL of a Valkey that `up` could have started."""
    home = Path(tempfile.mkdtemp(prefix="px-", dir=memory_directory()))
    valkey = Valkey(home)
    valkey.start()
    valkey.wait_ready()
    yield valkey.url
    valkey.stop()
    valkey.wait(60)
    shutil.rmtree(home)


@pytest.fixture
def redis_url(valkey_url: str) -> str:
    """Returns the URL of the store, which is emptied for the test."""
    with client_of(valkey_url) as client:
        client.flushall()
    return valkey_url


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """Returns a Redis client of the emptied store. It answers in bytes."""
    with client_of(redis_url) as client:
        yield client


@pytest.fixture
def queue_url(redis_url: str, own_valkey_url: str) -> str | None:
    """Returns the URL of the job queue, None if the store has the queue too."""
    if redis_url == own_valkey_url:
        return None
    with connect(own_valkey_url) as client:
        client.flushall()
    return own_valkey_url


@pytest.fixture(scope="session")
def secrets() -> Secrets:
    return Secrets.derive(("signing-key-of-the-tests",), "recipient-secret-of-the-tests")


@pytest.fixture
def keep_buckets() -> int:
    """Returns the days for which buckets are kept: a century, so that hits may be of any year."""
    return 36_500


@pytest.fixture
def queue_client(client: redis.Redis, queue_url: str | None) -> Iterator[redis.Redis]:
    """Returns a client of the job queue's Redis."""
    if queue_url is None:
        yield client
        return
    with connect_queue(queue_url, timeout=5.0) as queue_client:
        yield queue_client


@pytest.fixture
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets the environment by which jobs find the store, the queue and the data directory."""
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    monkeypatch.setenv("PIXEL_DATA_DIR", str(settings.data))
    if settings.queue_url is not None:
        monkeypatch.setenv("PIXEL_QUEUE_URL", settings.queue_url)


@pytest.fixture
def settings(redis_url: str, queue_url: str | None, tmp_path: Path, keep_buckets: int) -> Settings:
    return Settings(
        redis_url=redis_url,
        queue_url=queue_url,
        data=tmp_path,
        base_url="http://pixel.test",
        api_key=API_KEY,
        keep_buckets=keep_buckets,
        keep_days=36_500,
        networks_refresh="off",
    )


@pytest.fixture
def web(settings: Settings, secrets: Secrets) -> Iterator[TestClient]:
    """Returns a test client of the app. It sends the API key. The app uses the real time."""
    queue = jobs.queue(connect_queue(settings.queue_url or settings.redis_url, timeout=5.0))
    app = create_app(settings, secrets, connect_async(settings.redis_url), queue)
    with TestClient(
        app,
        base_url="http://pixel.test",
        headers={"Authorization": f"Bearer {API_KEY}"},
        backend_options={"use_uvloop": True},
    ) as client:
        yield client


@pytest.fixture
def count(client: redis.Redis, settings: Settings, secrets: Secrets) -> Callable[..., int]:
    """Returns a function that rolls up all waiting hits in this process, and returns their number."""

    def roll_up(now: float | None = None) -> int:
        counted = 0
        for shard in range(settings.shards):
            rollup = Rollup(client, settings, secrets, shard, max_ahead_ms=ANY_YEAR)
            while rollup.run_pass(now or time.time()) is Outcome.COUNTED:
                pass
            counted += rollup.counted
        return counted

    return roll_up


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """Returns a running `pixel-server up` with an empty data directory, on a free port."""
    stack = Stack(Path(tempfile.mkdtemp(prefix="px-")))
    stack.start()
    yield stack
    stack.stop()
    shutil.rmtree(stack.data)
    stack.log.unlink(missing_ok=True)
