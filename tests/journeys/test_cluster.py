"""The first mailing of a newcomer on a cluster of six nodes on three hosts, one of which is cut off."""

from __future__ import annotations

import urllib.parse
import urllib.request
from collections.abc import Iterator

import pytest

from tests.chaos.cluster_server import ClusterServer, WebHost, cluster_server
from tests.chaos.outcome import Outcome
from tests.chaos.scenario import API_KEY
from tests.disk import forms, search
from tests.journeys.conftest import QUIET
from tests.network import Network
from tests.stack import READER, until

RECIPIENT = "ada.lovelace@example.org"


@pytest.fixture
def place() -> Iterator[tuple[ClusterServer, Network | None]]:
    """Returns a running server, and its network if this process may make network namespaces."""
    with cluster_server(Outcome("newcomer", 0), hosts=3) as place:
        yield place


def test_newcomer_on_a_cluster_of_six_nodes_sees_the_open_and_the_recipient_erases_it(
    place: tuple[ClusterServer, Network | None], headless: str
):
    from playwright.sync_api import sync_playwright

    server, network = place
    first, second, third = server.hosts
    made = {"id": "spring", "name": "Spring catalogue", "kind": "email", "sent": 4}
    assert first.call("POST", "/api/campaigns", made)[0] == 201
    _, answer = first.call("POST", "/api/campaigns/spring/links", {"recipients": [RECIPIENT, "bob"]})
    ada, bob = answer["links"]

    assert _open(second, ada["url"]) == "recorded"
    until(lambda: _totals(third)["unique_opens_person"] == 1)
    if network is not None:
        for other in network.hosts[1:]:
            network.cut(network.hosts[0], other)
    assert _open(first, bob["url"]) == "recorded"
    assert _open(third, bob["url"]) == "recorded"
    until(lambda: server.has_lost_its_slots(server.cluster.nodes[0]) or network is None)
    if network is not None:
        for other in network.hosts[1:]:
            network.heal(network.hosts[0], other)
    server.wait_ready()
    until(lambda: (_totals(first)["opens"], _totals(third)["opens"]) == (3, 3))
    assert _totals(second)["unique_opens_person"] == 2

    with sync_playwright() as playwright:  # a browser in the namespace of this test
        browser = playwright.chromium.launch(executable_path=headless, args=QUIET)
        page = browser.new_page()
        page.goto(f"{second.url}/")
        page.get_by_label("API key").fill(API_KEY)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("link", name="Spring catalogue").click()
        assert page.locator("[data-figure='totals.unique_opens']").first.inner_text() == "2"
        assert page.locator(".big").inner_text() == "50.0%"

        recipient = {**forms("key", server.secrets.recipient_key(RECIPIENT))}
        assert search(server.home, recipient)
        page.goto(ada["privacy_url"].replace("http://pixel.test", third.url))
        page.locator("button[value=erase]").click()
        page.get_by_role("heading", name="Your data is erased").wait_for()
        browser.close()
    until(lambda: search(server.home, recipient) == {}, every=0.5)
    assert _open(first, ada["url"]) == "ignored; reason=withdrawn"
    assert server.reported() == 0


def _open(host: WebHost, url: str) -> str:
    """Requests a pixel, and returns the header X-Pixel."""
    path = urllib.parse.urlsplit(url).path
    request = urllib.request.Request(host.url + path, headers={"User-Agent": READER})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return str(answer.headers["X-Pixel"])


def _totals(host: WebHost) -> dict[str, int]:
    status, stats = host.call("GET", "/api/campaigns/spring/stats")
    return stats["totals"] if status == 200 else {"opens": -1, "unique_opens_person": -1}
