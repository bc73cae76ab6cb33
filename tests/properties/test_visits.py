"""Visits come out as when all views are added in a list, whatever the cuts of the stream and the crashes."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from pixel_server import hit
from pixel_server.campaigns import storage
from pixel_server.campaigns.campaign import new_campaign
from pixel_server.counters import (
    histogram,
    labels,
    open_breakdown,
    series,
    visit_sample,
    visits,
    web_breakdown,
)
from pixel_server.hit import Hit
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import keys
from pixel_server.store.client import connect, connect_async
from pixel_server.store.protocols import Redis
from pixel_server.store.readers import read
from tests.conftest import NOW
from tests.properties import examples
from tests.properties.crashing_rollup import (
    Step,
    count_all_with_crashes,
    cuts_of_a_stream,
    steps,
    store_in_batches,
)

MINUTE_MS = 60_000
MIDNIGHT = int(NOW) // 86_400 * 86_400 * 1000
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
BINS = f"{labels.PAGE}{labels.VISIT}"


@dataclass(frozen=True)
class WebHit:
    """A hit of a story. at: minutes after midnight.

    spent: seconds for which the view was visible, in a report; -1 in a view. cookie: its count of visits.
    """

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
        has_id = identity == "own" or (identity == "cookie" and self.cookie > 0)
        return Hit(
            time=MIDNIGHT + self.at * MINUTE_MS,
            campaign="site",
            kind=hit.WEB,
            method="GET",
            visitor=bytes(7) + bytes([self.visitor]) if has_id else b"",
            address=bytes([203, 0, 113, self.address]),
            agent=AGENT,
            page=f"https://site.example/{self.page}",
            page_referrer=f"https://{self.referrer}/" if self.referrer else "",
            view=bytes(7) + bytes([self.view]) if self.view else b"",
            spent_ms=self.spent * 1000 if self.spent >= 0 else -1,
            visits=self.cookie if identity == "cookie" else 0,
            is_new=identity == "cookie" and self.is_new,
        )


web_hits = st.builds(
    WebHit,
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


class ListModel:
    """Counts the views of visitors with an id of their own, one after the other. Keeps every visit."""

    def __init__(self, story: list[WebHit]) -> None:
        self.sums: Counter[str] = Counter()
        self.visits: list[dict[str, Any]] = []
        self.without_visit: list[WebHit] = []
        newest = min(web_hit.at for web_hit in story)
        for web_hit in story:
            newest = max(newest, web_hit.at)
            self._add(web_hit, newest)

    def _add(self, web_hit: WebHit, newest: int) -> None:
        visit, is_late = None, web_hit.at < newest - 30
        own_visits = [v for v in self.visits if v["visitor"] == web_hit.visitor]
        if own_visits and not is_late:
            last, pause = own_visits[-1], 30 if web_hit.spent < 0 else 60
            if last["start"] - 30 <= web_hit.at <= last["last"] + pause and last["last"] >= newest - 60:
                visit = last
        if web_hit.spent >= 0:
            if visit and web_hit.view and web_hit.view in visit["ids"]:
                view = visit["ids"][web_hit.view]
                spent = min(web_hit.spent * 1000, max(0, web_hit.at - view["at"]) * MINUTE_MS + 5000)
                if not view["reported"] or histogram.span_bin(spent) > histogram.span_bin(view["spent"]):
                    view["spent"], view["reported"] = spent, True
                    visit["last"] = max(visit["last"], web_hit.at)
            return
        if visit and web_hit.view and web_hit.view in visit["ids"]:
            return
        self.sums["views"] += 1
        if is_late:
            self.sums["views_no_visit"] += 1
            self.without_visit.append(web_hit)
            return
        if visit is None:
            visit = {
                "visitor": web_hit.visitor,
                "start": web_hit.at,
                "last": web_hit.at,
                "first": web_hit,
                "exit": web_hit,
            }
            visit |= {"ids": {}, "views": []}
            self.visits.append(visit)
        view = {"at": web_hit.at, "page": web_hit.page, "spent": -1, "reported": False}
        if visit["views"] and not (before := visit["views"][-1])["reported"] and web_hit.at > before["at"]:
            before["spent"] = (web_hit.at - before["at"]) * MINUTE_MS
        visit["views"].append(view)
        if web_hit.view:
            visit["ids"][web_hit.view] = view
        if web_hit.at >= visit["exit"].at:
            visit["exit"] = web_hit
        visit["last"] = max(visit["last"], web_hit.at)

    def figures(self) -> dict[str, Any]:
        sums = Counter(self.sums)
        sums["visits"] = len(self.visits)
        sums["bounces"] = sum(len(visit["views"]) == 1 for visit in self.visits)
        parts: dict[str, dict[str, list[int]]] = {name: {} for name in web_breakdown.DIMENSIONS}

        def count(dimension: str, name: str, views: int, visits: int = 0) -> None:
            known = parts[dimension].setdefault(name, [0, 0])
            known[0] += views
            known[1] += visits

        bins: Counter[str] = Counter()
        for visit in self.visits:
            first, last = visit["first"], visit["exit"]
            referrer = first.referrer if first.referrer == "search.example" else web_breakdown.NONE
            count("referrer", referrer, len(visit["views"]), 1)
            count("entry_page", f"/{first.page}", len(visit["views"]), 1)
            count("exit_page", f"/{last.page}", len(visit["views"]), 1)
            count("page", f"/{first.page}", 0, 1)
            for view in visit["views"]:
                count("page", f"/{view['page']}", 1)
                if view["spent"] >= 0:
                    bins[f"p{histogram.span_bin(view['spent'])}"] += 1
            if visit["last"] > visit["start"]:
                bins[f"v{histogram.span_bin((visit['last'] - visit['start']) * MINUTE_MS)}"] += 1
        for web_hit in self.without_visit:
            referrer = web_hit.referrer if web_hit.referrer == "search.example" else web_breakdown.NONE
            count("referrer", referrer, 1)
            count("page", f"/{web_hit.page}", 1)
            count("entry_page", web_breakdown.NONE, 1)
            count("exit_page", web_breakdown.NONE, 1)
        shown = {name: parts[name] for name in ("referrer", "entry_page", "exit_page", "page")}
        return {"sums": +sums, "parts": shown, "bins": bins}


def stored_counts(client: Redis) -> dict[str, Any]:
    """Returns the figures from the store. Each breakdown of a day must add up to the sums of the day."""
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


def everything_stored(client: Redis) -> dict[bytes, Any]:
    """Returns the contents of all keys of the shard, unpacked where zeros may differ.

    Leaves out the numbers of visits in the sample, which are random.
    """
    contents: dict[bytes, Any] = {}
    for key in client.keys("px:{0}:*"):
        kind = key.split(b":")[2]
        if kind == b"total":
            contents[key] = {name: n for name, n in client.hgetall(key).items() if int(n)}
        elif kind == b"web":
            contents[key] = {name: web_breakdown.unpack(value) for name, value in client.hgetall(key).items()}
        elif kind in (b"breakdown", b"months"):
            contents[key] = client.hgetall(key)
        elif kind == b"visits":
            entries = read(client, lambda pipe: visits.read_entries(pipe, 0, client.hkeys(keys.visits(0))))
            contents[key] = {
                name: replace(entry, number=b"") if isinstance(entry, visits.Visit) else entry
                for name, entry in entries.items()
            }
        elif kind == b"sample":
            contents[key] = sorted(client.hvals(key))
        elif kind == b"lasts":
            contents[key] = client.zrange(key, 0, -1, withscores=True)
        elif kind == b"buckets":
            contents[key] = client.get(key)
        elif kind == b"visitors":
            contents[key] = client.pfcount(key)
    return contents


def assert_sample_has_the_counted_visits(client: Redis) -> None:
    """Compares the sample with the counts of each day. The sample has all visits, because they are few."""
    for key in client.keys(keys.web(0, "site", "*")):
        day = key.decode().rpartition(":")[2]
        sampled = [visit_sample.unpack(value) for value in client.hvals(keys.sample(0, "site", day))]
        counted = {
            name: Counter[str]() for name in ("page", "entry_page", "exit_page", "referrer", "browser")
        }
        for record in sampled:
            names = list(record.pages)
            counted["page"][names[0]] += 1
            counted["entry_page"][names[0]] += 1
            counted["exit_page"][names[record.exit]] += 1
            counted["referrer"][record.whole_source.referrer] += 1
            counted["browser"][record.traits.browser] += 1
        for dimension, counts in counted.items():
            stored = web_breakdown.unpack(client.hget(key, dimension))
            assert {name: seen for name, (_, seen) in stored.items() if seen} == counts
        month = series.unpack(client.hget(keys.months(0, "site"), day[:6]))
        bounces = dict(enumerate(month[int(day[6:])])).get(series.BOUNCES, 0)
        assert sum(record.views == 1 for record in sampled) == bounces
    total = Counter({name: int(value) for name, value in client.hgetall(keys.total(0, "site")).items()})
    of_visits = total[b"views"] - total[b"views_no_visit"] - total[b"views_no_visitor"]
    samples = [client.hvals(key) for key in client.keys(keys.sample(0, "site", "*"))]
    assert sum(visit_sample.unpack(value).views for values in samples for value in values) == of_visits


def roll_up(
    client: Redis, secrets: Secrets, story: list[WebHit], identity: str, cuts: list[int], crashes: list[Step]
) -> None:
    """Counts a story into a store that holds nothing but the salts of days, if there are any."""
    url = f"unix://{client.get_connection_kwargs()['path']}"
    own = Settings(redis_url=url, shards=1, keep_buckets=3650)

    async def create() -> None:
        store = connect_async(url)
        await storage.create(store, new_campaign("site", "site", "web", identity=identity))
        await store.aclose()

    for key in client.keys("*"):
        if b":salt:" not in key:
            client.delete(key)
    asyncio.run(create())
    store_in_batches(client, [web_hit.hit(identity) for web_hit in story], cuts)
    count_all_with_crashes(client, own, secrets, crashes)


@pytest.mark.parametrize("identity", ["own", "cookie", "cookieless"])
@settings(
    max_examples=examples(50), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    story=st.lists(web_hits, min_size=2, max_size=24),
    cuts=cuts_of_a_stream,
    crashes=st.lists(steps(20), max_size=4),
    max_visits=st.sampled_from([1, 2, visits.MAX_VISITS]),
)
def test_visits_any_cuts_and_crashes_give_the_visits_of_a_list(
    monkeypatch: pytest.MonkeyPatch,
    valkey_url: str,
    secrets: Secrets,
    identity: str,
    story: list[WebHit],
    cuts: list[int],
    crashes: list[Step],
    max_visits: int,
):
    client = connect(valkey_url)
    client.flushall()
    monkeypatch.setattr(visits, "MAX_VISITS", max_visits)
    roll_up(client, secrets, story, identity, cuts, crashes)
    cut = everything_stored(client)
    roll_up(client, secrets, story, identity, [len(story)], [])
    assert everything_stored(client) == cut
    assert client.zcard(keys.visit_times(0)) <= max_visits
    assert_sample_has_the_counted_visits(client)
    counts = stored_counts(client)
    if identity == "own" and max_visits == visits.MAX_VISITS > 2:
        assert counts == ListModel(story).figures()
    client.close()
