"""The demo: its figures are those of what was made up, and nothing of it stays when it is removed."""

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
from pixel_server.commands import demo
from pixel_server.commands.demo import Added
from pixel_server.counters import burst_window
from pixel_server.demo import cast, hits, mailing, site
from pixel_server.figures import ranges, stats
from pixel_server.hit import Hit
from pixel_server.settings import Settings
from pixel_server.store import keys
from pixel_server.store.client import connect_async
from pixel_server.tokens import Mode
from pixel_server.verdicts import ELIGIBLE
from tests.conftest import NOW
from tests.stack import PROGRAM, Stack, until

IDS = ["demo-newsletter", "demo-site"]
START = hits.first_day(NOW)


class Demos:
    """A store, the demo's commands on it, and what it answers."""

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

    def add(self, seed: int = demo.SEED, now: float = NOW) -> Added:
        url = self.settings.redis_url
        return self.do(lambda there: demo.add(there, url, self.settings, self.secrets, now, seed))

    def remove(self) -> list[str]:
        return self.do(lambda there: demo.remove(there, self.settings))

    def make(self, name: str) -> None:
        self.do(lambda there: storage.create(there, storage.new(name, "Mine", "web")))

    def get(self, name: str) -> storage.Campaign:
        return self.do(lambda there: storage.get(there, name))

    def stats(self, name: str, **query: str) -> dict[str, Any]:
        async def read(there: Any) -> dict[str, Any]:
            wanted = ranges.parse(query, "UTC", NOW)
            return await stats.read(there, await storage.get(there, name), wanted, self.settings, NOW)

        return self.do(read)


@pytest.fixture
def demos(settings: Settings, secrets: Any) -> Demos:
    return Demos(settings, secrets)


def assert_figures(demos: Demos, letter: str, pages: str, seed: int = demo.SEED) -> None:
    """They are what the made-up hits add up to."""
    opened = mailing.openings(START, seed)
    opens = [one for one in opened if one.verdict != "own"]
    found = demos.stats(letter)
    totals, rate = found["totals"], found["open_rate"]
    assert (totals["hits"], totals["opens"]) == (len(opened), len(opens))
    assert totals["unique_opens"] == len({one.reader for one in opens})
    people = {one.reader for one in opens if one.verdict in ELIGIBLE}
    assert totals["unique_opens_person"] == len(people)
    kinds = Counter(one.verdict for one in opened)
    assert {name: one["hits"] for name, one in found["verdicts"].items()} == kinds
    assert {one["name"] for one in found["opens_person_by"]["country"]} <= set(cast.PLACES)
    assert (found["sent"], found["delivered"]) == (2000, 2000 - mailing.BOUNCED)
    assert rate["low"] == pytest.approx(len(people) / found["delivered"], abs=1e-6)
    assert found["over"] is False

    steps = [one for one in site.steps(START, seed) if one.at <= NOW * 1000]
    views = [one for one in steps if one.spent < 0 and one.visitor >= 0]
    visits = Counter((one.visitor, one.visit) for one in views)
    found = demos.stats(pages)
    totals = found["totals"]
    wanted = {
        "hits": len(steps),
        "views": len(views),
        "views_bot": sum(one.visitor < 0 for one in steps),
        "visits": len(visits),
        "visits_new": sum(number == 1 for _, number in visits),
        "visits_returning": sum(number > 1 for _, number in visits),
        "bounces": sum(number == 1 for number in visits.values()),
        "views_no_visit": 0,
        "views_no_visitor": 0,
    }
    assert {name: totals[name] for name in wanted} == wanted
    assert totals["unique_visitors"] == pytest.approx(len({one.visitor for one in views}), rel=0.03)
    assert found["time_on_page"]["median"] > 10


@pytest.mark.parametrize("seed", [demo.SEED, 8])
def test_the_figures_are_what_was_made_up(demos, count, client, seed):
    done = demos.add(seed)
    assert (done.ids, done.removed) == (IDS, [])
    assert count(NOW) == done.hits
    assert_figures(demos, *IDS, seed)
    assert sum(client.xlen(keys.dead(shard)) for shard in range(4)) == 0
    for name, figure in zip(IDS, ("opens", "views"), strict=True):
        found = demos.get(name)
        assert (found.made_by, found.name.startswith("Demo: ")) == ("demo", True)
        assert demo.UNFINISHED not in found.name
        series = demos.stats(name)["series"]
        assert sum(one[figure] for one in series[-14:]) == demos.stats(name)["totals"][figure]
        assert sum(one[figure] > 0 for one in series[-14:]) >= 12


def test_the_same_seed_and_day_make_the_same_up(secrets):
    assert mailing.openings(START, 1) == mailing.openings(START, 1) != mailing.openings(START, 2)
    assert site.steps(START, 1) == site.steps(START, 1) != site.steps(START, 2)
    later = mailing.openings(START + 86_400, 1)
    assert [one.at - 86_400_000 for one in later] == [one.at for one in mailing.openings(START, 1)]
    early, late = (
        [one for _, one in hits.fortnight("a", "b", now, 1, secrets, mode, 4)]
        for now, mode in ((NOW, Mode.PSEUDONYMOUS), (NOW + 3600, Mode.PSEUDONYMOUS))
    )
    assert early == late[: len(early)], "as the day goes on, more of the same"
    assert [one.time for one in late] == sorted(one.time for one in late)
    assert late[0].time >= START * 1000
    assert early[-1].time <= NOW * 1000 < late[-1].time


def test_a_second_one_adds_nothing(demos, count):
    first = demos.add()
    assert demos.add(seed=9) == Added(IDS, 0, [])
    assert count(NOW) == first.hits


def test_remove_takes_the_demo_and_nothing_else(demos, count, client):
    assert demos.remove() == []
    for name in ("demo-site-9", "mine"):
        demos.make(name)
    untouched = demos.get("demo-site-9"), demos.get("mine")
    demos.add()
    count(NOW)
    assert demos.remove() == IDS
    assert (demos.get("demo-site-9"), demos.get("mine")) == untouched
    left = {key.decode() for key in client.keys("*") if any(f":{name}" in key.decode() for name in IDS)}
    assert left == {keys.campaign("demo-site-9")}
    assert demos.remove() == []


def test_another_one_later_has_other_ids_and_the_same_figures(demos, count):
    """Also where newer hits were counted, in the minutes before: those of the first one, and one more."""
    demos.make("demo-site")
    assert demos.add().ids == ["demo-newsletter", "demo-site-2"]
    count(NOW)
    assert demos.remove() == ["demo-newsletter", "demo-site-2"]
    done = demos.add()
    assert done.ids == ["demo-newsletter-2", "demo-site-3"]
    assert count(NOW) == done.hits
    assert_figures(demos, *done.ids)


def test_what_was_counted_before_stays_and_visits_go_on(demos, count, client, secrets):
    demos.make("mine")

    def view(seconds: float, page: str) -> None:
        made = Hit(int(seconds * 1000), "mine", hit.WEB, "GET", address=b"\1\2\3\4", page=f"https://a/{page}")
        client.xadd(keys.hits(1), {"1": hit.encode_batch([hit.encode(made)])})

    view(NOW - 60, "one")
    minute = int(NOW - 60) // 60
    client.hset(keys.evidence(1, minute), burst_window.field(b"somebody", "x"), b"\x92\x01\x90")
    count(NOW)
    demos.add()
    assert not client.exists(keys.evidence(1, minute)), "an erasure would no more find it"
    count(NOW)
    assert_figures(demos, *IDS)
    view(NOW, "two")
    count(NOW)
    totals = demos.stats("mine")["totals"]
    assert (totals["views"], totals["visits"], totals["bounces"]) == (2, 1, 0)


def test_one_that_was_cut_short_is_seen_and_made_anew(demos, count, monkeypatch):
    whole = demo._record

    async def half(url: str, shards: int, made: Any) -> None:
        await whole(url, shards, made[: len(made) // 2])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(demo, "_record", half)
        with pytest.raises(KeyboardInterrupt):
            demos.add()
    count(NOW)
    assert demos.get("demo-site").name == "Demo: web site (unfinished)"
    done = demos.add()
    assert (done.ids, done.removed) == (["demo-newsletter-2", "demo-site-2"], IDS)
    count(NOW)
    assert_figures(demos, *done.ids)
    assert demos.remove() == done.ids


def test_recipients_who_did_not_open_are_on_the_list(demos, client):
    demos.add()
    listed = sum(int(client.hget(keys.total(shard, "demo-newsletter"), "listed")) for shard in range(4))
    assert listed == demos.stats("demo-newsletter")["sent"] == mailing.READERS


@pytest.mark.parametrize("mode", ["count", "last"])
def test_a_server_that_tells_nobody_apart(settings, secrets, client, count, mode):
    demos = Demos(replace(settings, max_mode=mode), secrets)
    done = demos.add()
    assert demos.get("demo-newsletter").mode == mode
    assert count(NOW) == done.hits
    totals = demos.stats("demo-newsletter")["totals"]
    assert totals["unique_opens"] is None
    assert totals["opens"] > 1000


@pytest.fixture
def shown(stack: Stack) -> Stack:
    """A stack that was stopped, so that it can be started with a demo."""
    assert stack.stop() == 0
    return stack


def test_up_with_a_demo(shown: Stack):
    shown.start("--demo")
    assert shown.stop() == 0, "in the middle of it, or before it has begun"
    shown.start("--demo")
    said = until(lambda: [line for line in shown.output().splitlines() if line.startswith("demo: ")])
    assert len(said) == 1
    names = said[0].rpartition(" in ")[2].split(" and ")
    assert f"{shown.data}" in next(line for line in shown.output().splitlines() if "demo remove" in line)
    opened = [one for one in mailing.openings(START, demo.SEED) if one.verdict != "own"]
    until(lambda: shown.totals(names[0])["opens"] == len(opened))
    until(lambda: shown.totals(names[1])["visits"] > 600)
    assert shown.totals(names[0])["unique_opens"] == len({one.reader for one in opened})
    items = shown.call("GET", "/api/campaigns")[1]["items"]
    assert [(one["id"], one["made_by"]) for one in items] == [(name, "demo") for name in names]

    assert shown.run("demo", "add").stdout == f"demo: there already: {' and '.join(names)}\n"
    assert shown.run("demo", "remove").stdout == f"removed {' and '.join(names)}\n"
    assert shown.run("demo", "remove").stdout == "there is no demo\n"
    assert shown.run("demo", "remove", "--json").stdout == '{"removed": []}\n'
    assert shown.call("GET", "/api/campaigns")[1]["items"] == []
    assert "Traceback" not in shown.output()
    assert "ERROR" not in shown.output()


def test_a_server_that_keeps_nothing_takes_no_demo(redis_url: str, tmp_path: Path, client):
    off = {"PIXEL_MAX_MODE": "off", "PIXEL_DEFAULT_MODE": "off"}
    environ = {**os.environ, **off, "REDIS_URL": redis_url, "PIXEL_DATA_DIR": str(tmp_path)}
    done = subprocess.run([PROGRAM, "demo", "add"], env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "pixel-server: no demo: PIXEL_MAX_MODE is off, so nothing is kept\n"
    assert not client.exists(keys.CAMPAIGNS)
