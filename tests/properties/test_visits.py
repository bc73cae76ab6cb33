"""Visits come out as they do when all views are looked at in a list, whatever the cuts and crashes."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pixel_server import hit
from pixel_server.campaigns import storage
from pixel_server.campaigns.campaign import new_campaign
from pixel_server.counters import histogram, labels, open_breakdown, visits, web_breakdown
from pixel_server.hit import Hit
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import keys
from pixel_server.store.client import connect, connect_async
from pixel_server.store.protocols import Redis
from tests.conftest import ANY_YEAR, NOW
from tests.properties.test_rollup import Killed, Wire
from workers.rollup_pass import Outcome, Rollup

MINUTE = 60_000
MIDNIGHT = int(NOW) // 86_400 * 86_400 * 1000
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
BINS = f"{labels.PAGE}{labels.VISIT}"


@dataclass(frozen=True)
class Seen:
    """at: minutes after midnight. spent: seconds reported of this view, -1: it is the view. cookie: visits
    that it counts."""

    at: int
    visitor: int
    address: int
    page: str
    referrer: str
    view: int
    spent: int
    cookie: int
    is_new: bool

    def hit(self, identity: str) -> Hit:
        told = identity == "own" or (identity == "cookie" and self.cookie > 0)
        return Hit(
            time=MIDNIGHT + self.at * MINUTE,
            campaign="site",
            kind=hit.WEB,
            method="GET",
            visitor=bytes(7) + bytes([self.visitor]) if told else b"",
            address=bytes([203, 0, 113, self.address]),
            agent=AGENT,
            page=f"https://site.example/{self.page}",
            page_referrer=f"https://{self.referrer}/" if self.referrer else "",
            view=bytes(7) + bytes([self.view]) if self.view else b"",
            spent=self.spent * 1000 if self.spent >= 0 else -1,
            visits=self.cookie if identity == "cookie" else 0,
            is_new=identity == "cookie" and self.is_new,
        )


seen = st.builds(
    Seen,
    at=st.sampled_from([-50, -20, -1, 0, 5, 10, 29, 30, 31, 40, 61, 90, 200]),
    visitor=st.sampled_from([1, 1, 1, 2, 3]),
    address=st.sampled_from([1, 1, 2]),
    page=st.sampled_from("abc"),
    referrer=st.sampled_from(["", "", "search.example", "site.example"]),
    view=st.sampled_from([0, 0, 1, 2, 3]),
    spent=st.sampled_from([-1, -1, -1, 0, 3, 500]),
    cookie=st.sampled_from([0, 1, 1, 2]),
    is_new=st.booleans(),
)


class InAList:
    """Counts views of visitors who are told by themselves, one after the other; ends no visit for good."""

    def __init__(self, story: list[Seen]) -> None:
        self.sums: Counter[str] = Counter()
        self.visits: list[dict[str, Any]] = []
        self.alone: list[Seen] = []
        newest = min(one.at for one in story)
        for one in story:
            newest = max(newest, one.at)
            self._add(one, newest)

    def _add(self, one: Seen, newest: int) -> None:
        visit, is_late = None, one.at < newest - 30
        mine = [v for v in self.visits if v["visitor"] == one.visitor]
        if mine and not is_late:
            last, pause = mine[-1], 30 if one.spent < 0 else 60
            if last["start"] - 30 <= one.at <= last["last"] + pause and last["last"] >= newest - 60:
                visit = last
        if one.spent >= 0:
            if visit and one.view and one.view in visit["ids"]:
                view = visit["ids"][one.view]
                spent = min(one.spent * 1000, max(0, one.at - view["at"]) * MINUTE + 5000)
                if not view["reported"] or histogram.span_bin(spent) > histogram.span_bin(view["spent"]):
                    view["spent"], view["reported"] = spent, True
                    visit["last"] = max(visit["last"], one.at)
            return
        if visit and one.view and one.view in visit["ids"]:
            return
        self.sums["views"] += 1
        if is_late:
            self.sums["views_no_visit"] += 1
            self.alone.append(one)
            return
        if visit is None:
            visit = {"visitor": one.visitor, "start": one.at, "last": one.at, "first": one, "exit": one}
            visit |= {"ids": {}, "views": []}
            self.visits.append(visit)
        view = {"at": one.at, "page": one.page, "spent": -1, "reported": False}
        if visit["views"] and not (before := visit["views"][-1])["reported"] and one.at > before["at"]:
            before["spent"] = (one.at - before["at"]) * MINUTE
        visit["views"].append(view)
        if one.view:
            visit["ids"][one.view] = view
        if one.at >= visit["exit"].at:
            visit["exit"] = one
        visit["last"] = max(visit["last"], one.at)

    def figures(self) -> dict[str, Any]:
        sums = Counter(self.sums)
        sums["visits"] = len(self.visits)
        sums["bounces"] = sum(len(v["views"]) == 1 for v in self.visits)
        parts: dict[str, dict[str, list[int]]] = {name: {} for name in web_breakdown.DIMENSIONS}

        def count(dimension: str, name: str, views: int, visits: int = 0) -> None:
            known = parts[dimension].setdefault(name, [0, 0])
            known[0] += views
            known[1] += visits

        bins: Counter[str] = Counter()
        for v in self.visits:
            first, last = v["first"], v["exit"]
            came = first.referrer if first.referrer == "search.example" else web_breakdown.NONE
            count("referrer", came, len(v["views"]), 1)
            count("entry_page", f"/{first.page}", len(v["views"]), 1)
            count("exit_page", f"/{last.page}", len(v["views"]), 1)
            count("page", f"/{first.page}", 0, 1)
            for view in v["views"]:
                count("page", f"/{view['page']}", 1)
                if view["spent"] >= 0:
                    bins[f"p{histogram.span_bin(view['spent'])}"] += 1
            if v["last"] > v["start"]:
                bins[f"v{histogram.span_bin((v['last'] - v['start']) * MINUTE)}"] += 1
        for one in self.alone:
            came = one.referrer if one.referrer == "search.example" else web_breakdown.NONE
            count("referrer", came, 1)
            count("page", f"/{one.page}", 1)
            count("entry_page", web_breakdown.NONE, 1)
            count("exit_page", web_breakdown.NONE, 1)
        shown = {name: parts[name] for name in ("referrer", "entry_page", "exit_page", "page")}
        return {"sums": +sums, "parts": shown, "bins": bins}


def kept(client: Redis) -> dict[str, Any]:
    """The same, as the store has it; each breakdown of a day adds up to all views and visits of the day."""
    total = {name.decode(): int(n) for name, n in client.hgetall(keys.total(0, "site")).items()}
    parts: dict[str, dict[str, list[int]]] = {name: {} for name in web_breakdown.DIMENSIONS}
    for key in client.keys(keys.web(0, "site", "*")):
        days = {name.decode(): web_breakdown.unpack(value) for name, value in client.hgetall(key).items()}
        assert len({tuple(map(sum, zip(*names.values(), strict=True))) for names in days.values()}) == 1
        for dimension, names in days.items():
            for name, counts in names.items():
                assert min(counts) >= 0
                known = parts[dimension].setdefault(name, [0, 0])
                known[:] = [a + b for a, b in zip(known, counts, strict=True)]
    labels = open_breakdown.unpack(client.hget(keys.breakdown(0, "site"), open_breakdown.ALL)).get(0, {})
    names = ("views", "views_no_visit", "visits", "bounces")
    return {
        "sums": +Counter({name: total.get(name, 0) for name in names}),
        "parts": {name: parts[name] for name in ("referrer", "entry_page", "exit_page", "page")},
        "bins": Counter({label: n for label, n in labels.items() if label[0] in BINS}),
    }


def everything(client: Redis) -> dict[bytes, Any]:
    """All that is kept of a site, whatever it says."""
    found: dict[bytes, Any] = {}
    for key in client.keys("px:{0}:*"):
        kind = key.split(b":")[2]
        if kind == b"total":
            found[key] = {name: n for name, n in client.hgetall(key).items() if int(n)}
        elif kind == b"web":
            found[key] = {name: web_breakdown.unpack(value) for name, value in client.hgetall(key).items()}
        elif kind in (b"breakdown", b"months", b"visits"):
            found[key] = client.hgetall(key)
        elif kind == b"lasts":
            found[key] = client.zrange(key, 0, -1, withscores=True)
        elif kind == b"buckets":
            found[key] = client.get(key)
        elif kind == b"visitors":
            found[key] = client.pfcount(key)
    return found


def roll_up(
    client: Redis,
    secrets: Secrets,
    story: list[Seen],
    identity: str,
    cuts: list[int],
    crashes: list[tuple[int, bool]],
) -> None:
    """Into an empty store. The salts are those that are there."""
    url = f"unix://{client.get_connection_kwargs()['path']}"
    made = Settings(redis_url=url, shards=1, keep_buckets=3650)

    async def create() -> None:
        there = connect_async(url)
        await storage.create(there, new_campaign("site", "site", "web", identity=identity))
        await there.aclose()

    for key in client.keys("*"):
        if b":salt:" not in key:
            client.delete(key)
    asyncio.run(create())
    left = list(story)
    for i in range(len(story)):
        batch, left = left[: cuts[i % len(cuts)]], left[cuts[i % len(cuts)] :]
        if batch:
            data = hit.encode_batch([hit.encode(one.hit(identity)) for one in batch])
            client.xadd(keys.hits(0), {"1": data})

    def kill() -> None:
        raise Killed

    for number, crash in enumerate([*crashes, None]):
        with contextlib.suppress(Killed):
            wire = Wire(client, {crash: kill} if crash else {})
            rollup = Rollup(wire, made, secrets, 0, max_entries=1 + number % 3, max_ahead_ms=ANY_YEAR)
            while rollup.step(NOW) is Outcome.COUNTED:
                rollup.max_entries = 1 + number % 3


@pytest.mark.parametrize("identity", ["own", "cookie", "cookieless"])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    story=st.lists(seen, min_size=2, max_size=24),
    cuts=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    crashes=st.lists(st.tuples(st.integers(1, 20), st.booleans()), max_size=4),
    room=st.sampled_from([1, 2, visits.MAX_VISITS]),
)
def test_visits_do_not_depend_on_cuts_and_crashes(
    monkeypatch: pytest.MonkeyPatch,
    valkey_url: str,
    secrets: Secrets,
    identity: str,
    story: list[Seen],
    cuts: list[int],
    crashes: list[tuple[int, bool]],
    room: int,
):
    client = connect(valkey_url)
    client.flushall()
    monkeypatch.setattr(visits, "MAX_VISITS", room)
    roll_up(client, secrets, story, identity, cuts, crashes)
    cut = everything(client)
    roll_up(client, secrets, story, identity, [len(story)], [])
    assert everything(client) == cut
    assert client.zcard(keys.lasts(0)) <= room
    found = kept(client)
    if identity == "own" and room == visits.MAX_VISITS > 2:
        assert found == InAList(story).figures()
    client.close()
