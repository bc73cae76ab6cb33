"""`up` fetches the published lists of networks by itself, and judges hits by them."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.publishers import APPLE, Publishers
from tests.stack import Stack, until

IN_APPLE, APPLE_AGENT = "172.224.0.1", "Mozilla/5.0"

FETCH_LOCALLY = """
import urllib.request

from pixel_server.classify import network_fetch, network_refresh
from tests.publishers import lists_at

network_refresh.PUBLISHED = lists_at({url!r})
network_fetch._opener = network_fetch.opener(urllib.request.HTTPHandler())
"""
"""Content of a `sitecustomize.py`. Every Python process imports it, so all processes of `up` ask the local
server in place of the owners."""


@pytest.fixture
def publishers() -> Iterator[Publishers]:
    made = Publishers()
    made.publish_all()
    yield made
    made.close()


@pytest.fixture
def refreshing(publishers: Publishers, tmp_path: Path) -> Iterator[Stack]:
    """Returns an `up` that is not started, whose workers ask `publishers` for lists."""
    (tmp_path / "sitecustomize.py").write_text(FETCH_LOCALLY.format(url=publishers.url))
    root = str(Path(__file__).parent.parent.parent)
    stack = Stack(
        Path(tempfile.mkdtemp(prefix="px-")),
        PIXEL_NETWORKS_REFRESH="weekly",
        PIXEL_TRUSTED_PROXIES="127.0.0.1",
        PYTHONPATH=f"{tmp_path}:{root}",
    )
    yield stack
    if stack.process is not None:
        stack.stop()
    shutil.rmtree(stack.data)
    stack.log.unlink(missing_ok=True)


def explain(stack: Stack) -> dict[str, object]:
    status, answer = stack.call("POST", "/api/explain", {"user_agent": APPLE_AGENT, "ip": IN_APPLE})
    assert status == 200, answer
    return answer


def test_up_refreshes_the_lists_once_a_week_and_judges_by_them(refreshing, publishers):
    refreshing.start()
    all_new = {"apple": 0, "google": 0, "microsoft-eop": 0, "openai": 0}
    until(lambda: refreshing.call("GET", "/readyz")[1]["network_list_days"] == all_new, 120)
    assert explain(refreshing)["networks"] == ["apple"]
    items = json.loads(refreshing.run("networks", "list", "--json").stdout)["items"]
    assert {item["name"] for item in items if item["refreshed"]} == all_new.keys()

    refreshing.call("POST", "/api/campaigns", {"id": "spring", "name": "Spring", "kind": "email"})
    status, made = refreshing.call(
        "POST", "/api/campaigns/spring/links", {"recipients": [{"recipient": "ada"}]}
    )
    assert status == 200, made
    url = made["links"][0]["url"]
    refreshing.get(url, **{"User-Agent": APPLE_AGENT, "X-Forwarded-For": IN_APPLE})

    def judged_by_the_new_list() -> bool:
        """Sends another hit until the workers, too, have copied the list from the store."""
        refreshing.get(url, **{"User-Agent": APPLE_AGENT, "X-Forwarded-For": IN_APPLE})
        status, stats = refreshing.call("GET", "/api/campaigns/spring/stats")
        return status == 200 and stats["rules"].get("apple-prefetch", 0) > 0

    until(judged_by_the_new_list, 120, every=0.5)
    _, stats = refreshing.call("GET", "/api/campaigns/spring/stats")
    assert stats["rulesets"][-1]["ruleset"] == explain(refreshing)["ruleset"]

    assert [path for path, _ in publishers.requests].count("/apple.csv") == 1
    publishers.publish("/apple.csv", APPLE[: len(APPLE) // 2])
    assert refreshing.stop() == 0
    refreshing.start()
    assert explain(refreshing)["networks"] == ["apple"]
    assert "0 faults" in refreshing.run("verify").stdout
    assert [path for path, _ in publishers.requests].count("/apple.csv") == 1, "not before next week"
