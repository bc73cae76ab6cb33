"""Live figures as server-sent events, on a real uvicorn."""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pixel_server.dashboard import live, live_feed
from pixel_server.run.valkey import Valkey
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from tests.conftest import API_KEY
from tests.dashboard.live_server import LiveServer, Tab
from tests.journeys.test_bad_requests import Server
from tests.stack import until


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks for changes more often than a real server, so that tests wait less."""
    monkeypatch.setattr(live_feed, "CHECK_SECONDS", 0.2)


@pytest.fixture
def server(settings: Settings, secrets: Secrets) -> Iterator[LiveServer]:
    made = LiveServer(settings, secrets)
    made.call("POST", "/api/campaigns", {"id": "page", "name": "Page", "kind": "web", "identity": "own"})
    yield made
    made.stop()


@pytest.fixture
def listen(server: LiveServer) -> Iterator[Callable[..., Tab]]:
    """Returns a function that opens a tab on the campaign. Tabs are closed after the test."""
    tabs: list[Tab] = []

    def listen(path: str = "page/live", **options: str) -> Tab:
        tabs.append(Tab(server.port, f"/campaigns/{path}", **options))
        return tabs[-1]

    yield listen
    for tab in tabs:
        tab.close()


def view(server: LiveServer, visitor: str = "ada") -> None:
    tab = Tab(server.port, f"/p/page.gif?v={visitor}")
    status = tab.answer.status
    tab.close()
    assert status == 200


def test_live_hit_updates_all_listeners(
    server: LiveServer, listen: Callable[..., Tab], count: Callable[..., int]
):
    tabs = [listen(), listen(), listen("page/live?from=2020-01-01&to=2021-01-01&tz=UTC&x=y")]
    assert tabs[0].answer.headers["Content-Type"].startswith("text/event-stream")
    assert "no-store" in tabs[0].answer.headers["Cache-Control"]
    for tab in tabs:
        tab.until(views="0")
    view(server)
    count()
    moved = tabs[0].until(views="1")
    assert tabs[1].until(views="1") == moved
    assert tabs[2].until(views="0")["figures"]["totals.views"] == "0"  # another range, read anew
    assert moved["as_of"].endswith("Z")
    assert len(server.live._watches) == 1


def test_live_many_tabs_share_one_task(
    server: LiveServer, listen: Callable[..., Tab], monkeypatch: pytest.MonkeyPatch
):
    asked = []
    ask = live_feed.Watch._read_state

    async def counted(self: live_feed.Watch, signed_in: list[str]) -> Any:
        asked.append(id(self))
        return await ask(self, signed_in)

    monkeypatch.setattr(live_feed.Watch, "_read_state", counted)
    tabs = [listen() for _ in range(20)]
    for tab in tabs:
        tab.until(views="0")
    until(lambda: len(asked) >= 3)
    assert len(set(asked)) == 1
    assert server.live.listener_count == 20
    for tab in tabs:
        tab.close()
    until(lambda: not server.live._watches)
    seen = len(asked)
    listen().until(views="0")
    until(lambda: len(asked) >= seen + 2)
    assert len(set(asked[seen:])) == 1  # and a new one for those who come later


def test_live_no_change_sends_figures_again(listen: Callable[..., Tab], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(live_feed, "MAX_AGE_SECONDS", 1.0)
    tab = listen()
    first = tab.until(views="0")
    assert tab.until(views="0")["as_of"] > first["as_of"]


def test_live_no_change_reads_no_figures(
    server: LiveServer, listen: Callable[..., Tab], monkeypatch: pytest.MonkeyPatch, count: Callable[..., int]
):
    read: list[str] = []

    async def counted(*given: Any) -> live_feed.Event:
        read.append("")
        return await original(*given)

    original = live_feed.read_event
    tab = listen()
    tab.until(views="0")
    looks: list[str] = []
    ask = live_feed.Watch._read_state

    async def looked(self: live_feed.Watch, signed_in: list[str]) -> Any:
        looks.append("")
        return await ask(self, signed_in)

    monkeypatch.setattr(live_feed.Watch, "_read_state", looked)
    until(lambda: len(looks) >= 1)
    monkeypatch.setattr(live_feed, "read_event", counted)
    until(lambda: len(looks) >= 3)
    assert read == []
    view(server)
    count()
    tab.until(views="1")
    assert read == [""]


def test_live_revoked_key_ends_only_its_listeners(server: LiveServer, listen: Callable[..., Tab]):
    status, made = server.call("POST", "/api/keys", {"name": "reader", "scopes": ["read"]})
    assert status == 201, made
    theirs, ours = listen(key=made["key"]), listen()
    theirs.until(views="0")
    ours.until(views="0")
    server.call("DELETE", f"/api/keys/{made['id']}")
    assert theirs.past_figures() == ("end", {"why": "revoked"})
    assert theirs.next() is None
    until(lambda: server.live.listener_count == 1)


def test_live_deleted_campaign_ends_all_listeners(server: LiveServer, listen: Callable[..., Tab]):
    tab = listen()
    tab.until(views="0")
    assert server.call("DELETE", "/api/campaigns/page")[0] in (200, 202, 204)
    assert tab.past_figures() == ("end", {"why": "deleted"})
    assert tab.next() is None
    until(lambda: not server.live._watches)
    assert listen().answer.status == 404


def test_live_too_many_listeners_answers_503(listen: Callable[..., Tab], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(live, "MAX_LISTENERS", 2)
    first = listen()
    listen().until(views="0")
    refused = listen()
    assert (refused.answer.status, refused.answer.headers["Retry-After"]) == (503, "2")
    first.close()
    until(lambda: listen().answer.status == 200)


@pytest.mark.parametrize(
    ("path", "status"),
    [("nowhere/live", 404), ("page/live?from=yesterday", 422), ("page/live?interval=week", 422)],
)
def test_live_bad_request_answers_as_the_page(listen: Callable[..., Tab], path: str, status: int):
    assert listen(path).answer.status == status


def test_live_head_adds_no_listener(server: LiveServer, listen: Callable[..., Tab]):
    tab = listen(method="HEAD")
    assert (tab.answer.status, tab.answer.read()) == (200, b"")
    assert server.live.listener_count == 0


def test_live_longest_stream_ends(listen: Callable[..., Tab], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(live, "MAX_STREAM_SECONDS", 0.0)
    assert listen().next() is None


def test_live_failing_read_sends_away_and_recovers(
    server: LiveServer, listen: Callable[..., Tab], monkeypatch: pytest.MonkeyPatch
):
    tab = listen()
    tab.until(views="0")

    async def breaks(*given: Any) -> Any:
        raise asyncio.InvalidStateError("broken on purpose")

    with monkeypatch.context() as broken:
        broken.setattr(live_feed.Watch, "_read_state", breaks)
        assert tab.past_figures() == ("away", {})
    listen().until(views="0")


@pytest.fixture
def own_valkey() -> Iterator[Valkey]:
    home = Path(tempfile.mkdtemp(prefix="px-"))
    made = Valkey(home)
    made.start()
    made.wait_ready()
    yield made
    made.stop()
    made.wait(60)


def test_live_redis_outage_sends_away_and_then_figures(own_valkey: Valkey, secrets: Secrets, tmp_path: Path):
    settings = Settings(redis_url=own_valkey.url, data=tmp_path, base_url="http://a.test", api_key=API_KEY)
    server = LiveServer(settings, secrets)
    server.call("POST", "/api/campaigns", {"id": "page", "name": "Page", "kind": "web"})
    tab = Tab(server.port, "/campaigns/page/live")
    tab.until(views="0")
    own_valkey.stop()
    own_valkey.wait(60)
    assert tab.past_figures() == ("away", {})
    assert Tab(server.port, "/campaigns/page/live").answer.status == 503
    own_valkey.start()
    own_valkey.wait_ready()
    tab.until(views="0")
    tab.close()
    server.stop()


def test_live_server_stop_ends_all_streams(valkey_url: str, tmp_path: Path):
    program = [sys.executable, "-m", "tests.dashboard.live_server"]
    server = Server(program, valkey_url, tmp_path)
    try:
        tabs = [Tab(server.port, "/campaigns/shop/live") for _ in range(5)]
        for tab in tabs:
            tab.until(views="0")
        server.process.send_signal(signal.SIGTERM)
        assert [tab.past_figures() for tab in tabs] == [None] * 5
        assert server.process.wait(60) in (0, -signal.SIGTERM)
    finally:
        server.process.kill()
        server.store.close()
    # Each stream ended by itself: none had to be cancelled when uvicorn's patience was at its end.
    assert "traceback=" not in server.log()
    assert "Cancel" not in server.log()


def test_live_many_tabs_of_one_range_read_the_figures_once(server: LiveServer, listen: Callable[..., Tab]):
    read: list[str] = []
    figures = server.live._read_texts

    async def counted(*given: Any) -> Any:
        read.append("")
        return await figures(*given)

    server.live._read_texts = counted
    listen().until(views="0")
    until(lambda: len(read) >= 2)  # for the first tab, and by the watch
    for _ in range(10):
        listen().until(views="0")
    assert len(read) == 2


def test_live_too_many_ranges_answers_503(
    server: LiveServer, listen: Callable[..., Tab], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(live_feed, "MAX_RANGES", 1)
    listen().until(views="0")
    assert listen("page/live?from=2020-01-01&to=2021-01-01").answer.status == 503
    assert listen().answer.status == 200
