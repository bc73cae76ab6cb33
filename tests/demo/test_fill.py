"""The demo: its figures equal the made-up events, and removing the demo leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pixel_server import hit
from pixel_server.campaigns import storage
from pixel_server.campaigns.campaign import Campaign, new_campaign
from pixel_server.counters import burst_window
from pixel_server.demo import DEFAULT_SEED, cast, fill, hits, mailing, site
from pixel_server.demo.fill import Added
from pixel_server.figures import ranges, shared_stats, stats
from pixel_server.hit import Hit
from pixel_server.settings import Settings
from pixel_server.store import keys
from pixel_server.store.client import connect_async
from pixel_server.store.protocols import AsyncRedis
from pixel_server.tokens import Mode
from pixel_server.verdicts import ELIGIBLE
from tests.conftest import NOW
from tests.stack import PROGRAM, Stack, until

IDS = ["demo-newsletter", "demo-site"]
START = hits.first_day(NOW)


class Demos:
    """Adds and removes demos in a store, and reads its figures."""

    def __init__(self, settings: Settings, secrets: Any) -> None:
        self.settings, self.secrets = settings, secrets

    def do(self, act: Callable[[Any], Any]) -> Any:
        async def run() -> Any:
            there = connect_async(self.settings.redis_url)
            try:
                return await act(there)
            finally:
                await there.aclose()

        return asyncio.run(run())

    def add(self, seed: int = DEFAULT_SEED, now: float = NOW) -> Added:
        url = self.settings.redis_url
        return self.do(lambda there: fill.add(there, url, self.settings, self.secrets, now, seed))

    def remove(self) -> list[str]:
        return self.do(lambda there: fill.remove(there, self.settings))

    def make(self, name: str) -> None:
        self.do(lambda there: storage.create(there, new_campaign(name, "Mine", "web")))

    def get(self, name: str) -> Campaign:
        return self.do(lambda there: storage.get(there, name))

    def stats(self, name: str, **query: str) -> dict[str, Any]:
        async def read(there: Any) -> dict[str, Any]:
            days = ranges.parse(query, "UTC", NOW)
            return await stats.read(there, await storage.get(there, name), days, self.settings, NOW)

        return self.do(read)


@pytest.fixture
def demos(settings: Settings, secrets: Any) -> Demos:
    return Demos(settings, secrets)


def assert_figures(demos: Demos, newsletter: str, web_site: str, seed: int = DEFAULT_SEED) -> None:
    """Compares the figures of both campaigns with the made-up events."""
    openings = mailing.openings(START, seed)
    opens = [opening for opening in openings if opening.verdict != "own"]
    figures = demos.stats(newsletter)
    totals, rate = figures["totals"], figures["open_rate"]
    assert (totals["hits"], totals["opens"]) == (len(openings), len(opens))
    assert totals["unique_opens"] == len({opening.reader for opening in opens})
    people = {opening.reader for opening in opens if opening.verdict in ELIGIBLE}
    assert totals["unique_opens_person"] == len(people)
    kinds = Counter(opening.verdict for opening in openings)
    assert {name: verdict["hits"] for name, verdict in figures["verdicts"].items()} == kinds
    assert {row["name"] for row in figures["opens_person_by"]["country"]} <= set(cast.PLACES)
    assert (figures["sent"], figures["delivered"]) == (2000, 2000 - mailing.BOUNCED)
    assert rate["low"] == pytest.approx(len(people) / figures["delivered"], abs=1e-6)
    assert figures["over"] is False

    steps = [step for step in site.steps(START, seed) if step.at_ms <= NOW * 1000]
    views = [step for step in steps if step.spent_ms < 0 and step.visitor >= 0]
    visits = Counter((step.visitor, step.visit) for step in views)
    figures = demos.stats(web_site)
    totals = figures["totals"]
    expected = {
        "hits": len(steps),
        "views": len(views),
        "views_bot": sum(step.visitor < 0 for step in steps),
        "visits": len(visits),
        "visits_new": sum(number == 1 for _, number in visits),
        "visits_returning": sum(number > 1 for _, number in visits),
        "bounces": sum(number == 1 for number in visits.values()),
        "views_no_visit": 0,
        "views_no_visitor": 0,
    }
    assert {name: totals[name] for name in expected} == expected
    assert totals["unique_visitors"] == pytest.approx(len({step.visitor for step in views}), rel=0.03)
    assert figures["time_on_page"]["median"] > 10


@pytest.mark.parametrize("seed", [DEFAULT_SEED, 8])
def test_demo_add_figures_equal_made_up_events(demos, count, client, seed):
    added = demos.add(seed)
    assert (added.ids, added.removed) == (IDS, [])
    assert count(NOW) == added.hits
    assert_figures(demos, *IDS, seed)
    assert sum(client.xlen(keys.dead(shard)) for shard in range(4)) == 0
    for name, figure in zip(IDS, ("opens", "views"), strict=True):
        campaign = demos.get(name)
        assert (campaign.made_by, campaign.name.startswith("Demo: ")) == ("demo", True)
        assert fill.UNFINISHED not in campaign.name
        series = demos.stats(name)["series"]
        assert sum(day[figure] for day in series[-14:]) == demos.stats(name)["totals"][figure]
        assert sum(day[figure] > 0 for day in series[-14:]) >= 12


def test_demo_newsletter_shows_its_open_rate_on_a_share_link(demos, count, settings):
    demos.add()
    count(NOW)

    async def read(there: Any) -> dict[str, Any]:
        campaign = await storage.get(there, IDS[0])
        return await shared_stats.read(there, campaign, {}, settings, None, NOW)

    shared = demos.do(read)
    assert (shared["sent"], shared["delivered"]) == (2000, 2000 - mailing.BOUNCED)
    assert 0.2 < shared["open_rate"]["low"] < shared["open_rate"]["high"] < 0.7


def test_demo_events_same_seed_and_day_are_equal(secrets):
    assert mailing.openings(START, 1) == mailing.openings(START, 1) != mailing.openings(START, 2)
    assert site.steps(START, 1) == site.steps(START, 1) != site.steps(START, 2)
    later = mailing.openings(START + 86_400, 1)
    assert [opening.at_ms - 86_400_000 for opening in later] == [
        opening.at_ms for opening in mailing.openings(START, 1)
    ]
    early, late = (
        [record for _, record in hits.make_hits("a", "b", now, 1, secrets, mode, 4)]
        for now, mode in ((NOW, Mode.PSEUDONYMOUS), (NOW + 3600, Mode.PSEUDONYMOUS))
    )
    assert early == late[: len(early)], "a later call gives the same hits, and more"
    assert [record.time for record in late] == sorted(record.time for record in late)
    assert late[0].time >= START * 1000
    assert early[-1].time <= NOW * 1000 < late[-1].time


def test_demo_add_twice_adds_nothing(demos, count):
    first = demos.add()
    assert demos.add(seed=9) == Added(IDS, 0, [])
    assert count(NOW) == first.hits


def test_demo_remove_deletes_the_demo_and_nothing_else(demos, count, client):
    assert demos.remove() == []
    for name in ("demo-site-9", "mine"):
        demos.make(name)
    untouched = demos.get("demo-site-9"), demos.get("mine")
    demos.add()
    count(NOW)
    assert demos.remove() == IDS
    assert (demos.get("demo-site-9"), demos.get("mine")) == untouched
    remaining = {key.decode() for key in client.keys("*") if any(f":{name}" in key.decode() for name in IDS)}
    assert remaining == {keys.campaign("demo-site-9")}
    assert demos.remove() == []


def test_demo_add_after_remove_new_ids_and_same_figures(demos, count):
    """The hits of the first demo are newer than the first hits of the second demo."""
    demos.make("demo-site")
    assert demos.add().ids == ["demo-newsletter", "demo-site-2"]
    count(NOW)
    assert demos.remove() == ["demo-newsletter", "demo-site-2"]
    added = demos.add()
    assert added.ids == ["demo-newsletter-2", "demo-site-3"]
    assert count(NOW) == added.hits
    assert_figures(demos, *added.ids)


def test_demo_add_to_a_used_store_keeps_counts_and_open_visits(demos, count, client, secrets):
    demos.make("mine")

    def view(seconds: float, page: str) -> None:
        record = Hit(
            int(seconds * 1000), "mine", hit.WEB, "GET", address=b"\1\2\3\4", page=f"https://a/{page}"
        )
        client.xadd(keys.hits(1), {"1": hit.encode_batch([hit.encode(record)])})

    view(NOW - 60, "one")
    minute = int(NOW - 60) // 60
    client.hset(keys.evidence(1, minute), burst_window.field(b"somebody", "x"), b"\x92\x01\x90")
    count(NOW)
    demos.add()
    assert not client.exists(keys.evidence(1, minute)), "an erasure would not find this burst window any more"
    count(NOW)
    assert_figures(demos, *IDS)
    view(NOW, "two")
    count(NOW)
    totals = demos.stats("mine")["totals"]
    assert (totals["views"], totals["visits"], totals["bounces"]) == (2, 1, 0)


def test_demo_add_after_an_unfinished_demo_replaces_that_demo(demos, count, monkeypatch):
    whole = fill._record

    async def half(store: AsyncRedis, url: str, settings: Settings, routed: Any) -> None:
        await whole(store, url, settings, routed[: len(routed) // 2])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fill, "_record", half)
        with pytest.raises(KeyboardInterrupt):
            demos.add()
    count(NOW)
    assert demos.get("demo-site").name == "Demo: web site (unfinished)"
    added = demos.add()
    assert (added.ids, added.removed) == (["demo-newsletter-2", "demo-site-2"], IDS)
    count(NOW)
    assert_figures(demos, *added.ids)
    assert demos.remove() == added.ids


def test_demo_add_lists_all_recipients(demos, client):
    demos.add()
    listed = sum(int(client.hget(keys.total(shard, "demo-newsletter"), "listed")) for shard in range(4))
    assert listed == demos.stats("demo-newsletter")["sent"] == mailing.READERS


@pytest.mark.parametrize("mode", ["count", "last"])
def test_demo_add_lower_max_mode_uses_that_mode(settings, secrets, client, count, mode):
    demos = Demos(replace(settings, max_mode=mode), secrets)
    added = demos.add()
    assert demos.get("demo-newsletter").mode == mode
    assert count(NOW) == added.hits
    totals = demos.stats("demo-newsletter")["totals"]
    assert totals["unique_opens"] is None
    assert totals["opens"] > 1000


@pytest.fixture
def stopped_stack(stack: Stack) -> Stack:
    """Returns a stack that was stopped, so that a test can start it with a demo."""
    assert stack.stop() == 0
    return stack


def test_up_with_demo_shows_the_demo_and_keeps_it_at_a_restart(stopped_stack: Stack):
    stopped_stack.start("--demo")
    assert stopped_stack.stop() == 0, "stopped while the demo is being stored, or before"
    stopped_stack.start("--demo")
    lines = until(lambda: [line for line in stopped_stack.output().splitlines() if line.startswith("demo: ")])
    assert len(lines) == 1
    names = lines[0].rpartition(" in ")[2].split(" and ")
    assert f"{stopped_stack.data}" in next(
        line for line in stopped_stack.output().splitlines() if "demo remove" in line
    )
    opens = [opening for opening in mailing.openings(START, DEFAULT_SEED) if opening.verdict != "own"]
    until(lambda: stopped_stack.totals(names[0])["opens"] == len(opens))
    until(lambda: stopped_stack.totals(names[1])["visits"] > 600)
    assert stopped_stack.totals(names[0])["unique_opens"] == len({opening.reader for opening in opens})
    items = stopped_stack.call("GET", "/api/campaigns")[1]["items"]
    assert [(item["id"], item["made_by"]) for item in items] == [(name, "demo") for name in names]

    assert stopped_stack.run("demo", "add").stdout == f"demo: there already: {' and '.join(names)}\n"
    assert stopped_stack.run("demo", "remove").stdout == f"removed {' and '.join(names)}\n"
    assert stopped_stack.run("demo", "remove").stdout == "there is no demo\n"
    assert stopped_stack.run("demo", "remove", "--json").stdout == '{"removed": []}\n'
    assert stopped_stack.call("GET", "/api/campaigns")[1]["items"] == []
    assert "traceback=" not in stopped_stack.output()
    assert " error " not in stopped_stack.output()


def test_demo_add_max_mode_off_fails_with_one_line(redis_url: str, tmp_path: Path, client):
    off = {"PIXEL_MAX_MODE": "off", "PIXEL_DEFAULT_MODE": "off"}
    environ = {**os.environ, **off, "REDIS_URL": redis_url, "PIXEL_DATA_DIR": str(tmp_path)}
    result = subprocess.run(
        [PROGRAM, "demo", "add"], env=environ, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert (
        result.stderr
        == "pixel-server: the demo cannot be added: PIXEL_MAX_MODE is off, so nothing is stored\n"
    )
    assert not client.exists(keys.CAMPAIGNS)
