"""Views of pages: their visits, their visitors, and their breakdowns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import redis

from pixel_server import addresses, hit
from pixel_server.campaigns import deletion, storage
from pixel_server.campaigns.campaign import new_campaign
from pixel_server.counters import (
    histogram,
    open_breakdown,
    visit_sample,
    visitor_salts,
    visits,
    web_breakdown,
    web_names,
)
from pixel_server.hit import Hit
from pixel_server.store import keys
from pixel_server.store.client import connect_async
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.readers import read
from workers import retention_shards
from workers.rollup_pass import Outcome, Rollup

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
SAFARI = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/18.5 Mobile/15E148 Safari/604.1"
)
DAY = "20250610"


class Site:
    """One web campaign in one shard. `view` stores a view; `count` rolls up at the latest view's time."""

    def __init__(
        self, client: redis.Redis, settings: Any, secrets: Any, name: str, zone: str, **fields: Any
    ) -> None:
        self.client, self.settings, self.secrets, self.name = client, settings, secrets, name
        self.now = 0.0

        async def create() -> None:
            store = connect_async(settings.redis_url)
            campaign = new_campaign(name, "Site", "web", time_zone=zone, **fields)
            await storage.create(store, campaign)
            await store.aclose()

        asyncio.run(create())

    def view(
        self, at: str, page: str = "a", address: int = 1, agent: str = FIREFOX, ip: str = "", **more: Any
    ) -> None:
        seconds = datetime.fromisoformat(at).timestamp()
        self.now = max(self.now, seconds)
        fields = {
            "page": f"https://site.example/{page}",
            "address": addresses.pack(ip or f"203.0.113.{address}"),
            **more,
        }
        view = Hit(int(seconds * 1000), self.name, hit.WEB, "GET", agent=agent, **fields)
        self.client.xadd(keys.hits(0), {"1": hit.encode_batch([hit.encode(view)])})

    def count(self, now: float | None = None) -> dict[str, int]:
        rollup = Rollup(self.client, self.settings, self.secrets, 0)
        while rollup.run_pass(now or self.now) is Outcome.COUNTED:
            pass
        assert not self.client.xlen(keys.dead(0))
        total = self.client.hgetall(keys.total(0, self.name))
        return {name.decode(): int(n) for name, n in total.items() if int(n)}

    def names(self, dimension: str, day: str = DAY) -> dict[str, tuple[int, int]]:
        counts = web_breakdown.unpack(self.client.hget(keys.web(0, self.name, day), dimension))
        return {name: (views, seen) for name, (views, seen) in counts.items()}

    def visitors(self, day: str = "") -> int:
        key = keys.daily_visitors(0, self.name, day) if day else keys.visitors(0, self.name)
        return int(self.client.pfcount(key))


@pytest.fixture
def make_site(client: redis.Redis, settings: Any, secrets: Any) -> Callable[..., Site]:
    def make(identity: str = "cookieless", name: str = "site", zone: str = "UTC", **fields: Any) -> Site:
        return Site(client, settings, secrets, name, zone, identity=identity, **fields)

    return make


def test_visit_of_three_pages_counts_entry_exit_and_source(make_site):
    site = make_site()
    site.view("2025-06-10T09:00Z", "a", page_referrer="https://www.google.de/search?q=x", language="de-DE,en")
    site.view("2025-06-10T09:10Z", "b", page_referrer="https://site.example/a", language="de-DE,en")
    site.view("2025-06-10T09:20Z", "a", page_referrer="https://site.example/b", language="de-DE,en")
    site.view("2025-06-10T09:51Z", "c?utm_source=News", language="de-DE,en")
    totals = site.count()
    assert {name: totals[name] for name in ("views", "visits", "bounces")} == {
        **{"views": 4, "visits": 2, "bounces": 1}
    }
    assert site.visitors(DAY) == site.visitors() == 1
    assert site.names("page") == {"/a": (2, 1), "/b": (1, 0), "/c": (1, 1)}
    assert site.names("entry_page") == {"/a": (3, 1), "/c": (1, 1)}
    assert site.names("exit_page") == {"/a": (3, 1), "/c": (1, 1)}
    assert site.names("referrer") == {"google.de": (3, 1), "(none)": (1, 1)}
    assert site.names("utm_source") == {"(none)": (3, 1), "News": (1, 1)}
    assert site.names("browser") == {"Firefox": (4, 2)}
    assert site.names("system") == {"Linux": (4, 2)}
    assert site.names("device") == {"desktop": (4, 2)}
    assert site.names("language") == {"de": (4, 2)}


def test_visitor_of_ipv6_is_its_64(make_site):
    site = make_site()
    for last in ("2001:db8:1:2::1", "2001:db8:1:2:fedc:ba98::7", "2001:db8:1:3::1"):
        site.view("2025-06-10T09:00Z", ip=last)
    assert site.count()["visits"] == site.visitors(DAY) == 2


def test_page_of_a_campaign_with_folded_paths_has_one_name(make_site):
    site, exact = make_site(paths="folded"), make_site(name="exact")
    for of_kind in (site, exact):
        for path in ("tea", "tea/", "tea/index.html"):
            of_kind.view("2025-06-10T09:00Z", path)
        of_kind.count()
    assert site.names("page") == {"/tea": (3, 1)}
    assert exact.names("page") == {"/tea": (1, 1), "/tea/": (1, 0), "/tea/index.html": (1, 0)}


def test_visit_other_utm_fields_begin_a_new_visit(make_site):
    site = make_site("own")
    for minute, query in enumerate(
        (
            "?utm_source=news&utm_term=tea",
            "?utm_source=news&utm_term=cup",  # the same source
            "",
            "?mtm_source=Forum",
            "?ref=Forum",
            "?utm_source=Forum&utm_campaign=May",
        )
    ):
        site.view(f"2025-06-10T09:0{minute}Z", query, visitor=b"a reader")
    totals = site.count()
    assert (totals["views"], totals["visits"], totals["bounces"]) == (6, 3, 1)
    assert site.names("utm_source") == {"news": (3, 1), "Forum": (3, 2)}
    assert site.names("utm_term") == {"tea": (3, 1), "(none)": (3, 2)}
    assert site.names("utm_campaign") == {"(none)": (5, 2), "May": (1, 1)}
    assert site.names("utm_content") == {"(none)": (6, 3)}
    assert site.visitors() == 1


def test_visit_stored_without_utm_term_goes_on(make_site, client):
    site = make_site("own")
    site.view("2025-06-10T09:00Z", "a?utm_source=news&utm_term=tea", visitor=b"a reader")
    site.count()
    [(name, value)] = client.hgetall(keys.visits(0)).items()
    version, fields = msgspec.msgpack.decode(value)
    client.hset(keys.visits(0), name, msgspec.msgpack.encode([version, fields[:13]]))
    site.view("2025-06-10T09:01Z", "b", visitor=b"a reader")
    assert site.count()["visits"] == 1
    assert site.names("utm_source") == {"news": (2, 1)}
    assert site.names("utm_term") == {"tea": (1, 1), "(none)": (1, 0)}


def test_visitor_other_address_or_agent_is_another(make_site):
    site = make_site()
    for address, agent in ((1, FIREFOX), (1, SAFARI), (2, FIREFOX), (1, FIREFOX)):
        site.view("2025-06-10T09:00Z", address=address, agent=agent)
    assert site.count()["visits"] == site.visitors(DAY) == 3
    assert site.names("device") == {"desktop": (3, 2), "phone": (1, 1)}


def test_view_by_a_machine_has_no_visitor(make_site):
    site = make_site()
    site.view("2025-06-10T09:00Z", agent="Googlebot/2.1 (+http://www.google.com/bot.html)")
    site.view("2025-06-10T09:00Z", purpose="sec-purpose=prefetch;prerender;")
    site.view("2025-06-10T09:00Z", agent="github-camo (6e0c4ab1)")
    totals = site.count()
    assert (totals["hits"], totals["views_bot"], totals["views"]) == (3, 2, 1)
    assert (totals["views_no_visitor"], "visits" in totals, site.visitors()) == (1, False, 0)
    assert site.names("country") == {"(unknown)": (1, 0)}


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/Los_Angeles"])
def test_visit_over_midnight_is_one_visit_with_a_visitor_on_both_days(make_site, zone):
    site = make_site(zone=zone)
    offset = {"UTC": "+00:00", "Asia/Kathmandu": "+05:45", "America/Los_Angeles": "-07:00"}[zone]
    for at in ("10T23:50", "11T00:10", "11T00:35", "11T01:00"):
        site.view(f"2025-06-{at}{offset}")
    totals = site.count()
    assert (totals["views"], totals["visits"], "bounces" in totals) == (4, 1, False)
    assert (site.visitors("20250610"), site.visitors("20250611"), site.visitors()) == (1, 1, 2)
    assert site.names("page", "20250610") == {"/a": (1, 1)}
    assert site.names("page", "20250611") == {"/a": (3, 0)}
    assert site.names("exit_page", "20250611") == {"/a": (3, 0)}


def test_visit_first_view_after_half_past_midnight_begins_anew(make_site):
    site = make_site()
    site.view("2025-06-10T23:59Z")
    site.view("2025-06-10T23:59Z", address=2)
    site.view("2025-06-11T00:29Z")
    assert site.count()["visits"] == 2
    site.view("2025-06-11T00:30Z", address=2)
    assert site.count()["visits"] == 3


def test_view_salt_removed_has_no_visitor(make_site, client, settings):
    site = make_site()
    site.view("2025-06-10T09:00Z")
    site.count()
    end = int(datetime.fromisoformat("2025-06-11T00:00Z").timestamp())
    assert len(client.get(keys.salt(0, end))) == 32
    assert 0 < client.ttl(keys.salt(0, end)) <= (15 + 48) * 3600

    async def remove(now: float) -> int:
        store = connect_async(settings.redis_url)
        try:
            return await visitor_salts.remove_old(store, settings.shards, now)
        finally:
            await store.aclose()

    assert asyncio.run(remove(end + 47 * 3600 - 1)) == 0
    assert asyncio.run(remove(end + 47 * 3600)) == 1
    assert client.hget(keys.REWRITE, "asked") == b"2"
    site.view("2025-06-10T09:05Z")
    totals = site.count(now=end + 47 * 3600)
    assert (totals["views"], totals["views_no_visitor"], totals["visits"]) == (2, 1, 1)
    assert (site.visitors(), client.exists(keys.salt(0, end))) == (1, 0)


def test_salt_of_the_same_day_differs_between_stores(make_site, client):
    hashes = set()
    for _ in range(2):
        client.flushall()
        site = make_site()
        site.view("2025-06-10T09:00Z")
        site.count()
        hashes |= set(client.hkeys(keys.visits(0)))
    assert len(hashes) == 2


def test_visit_durations_of_pages_and_visit_are_counted(make_site):
    site = make_site("own")
    visitor = {"visitor": b"visitor1"}
    site.view("2025-06-10T09:00:00Z", "a", view=b"view---1", **visitor)
    site.view("2025-06-10T09:00:40Z", "a", view=b"view---1", spent_ms=20_000, **visitor)
    site.view("2025-06-10T09:01:40Z", "b", view=b"view---2", **visitor)
    site.view("2025-06-10T09:03:20Z", "c", **visitor)
    site.count()
    labels = open_breakdown.unpack(site.client.hget(keys.breakdown(0, "site"), open_breakdown.ALL))[0]
    assert labels == {f"p{histogram.span_bin(ms)}": 1 for ms in (20_000, 100_000)} | {
        f"v{histogram.span_bin(200_000)}": 1
    }
    for ms in (100, 1000, 20_000, 100_000, 200_000, 86_400_000):
        assert histogram.span_seconds(histogram.span_bin(ms)) * 1000 == pytest.approx(ms, rel=0.05)


def test_visit_page_read_longer_than_a_pause_goes_on(make_site):
    site = make_site("own")
    visitor = {"visitor": b"visitor1"}
    site.view("2025-06-10T09:00Z", "a", view=b"view---1", **visitor)
    site.view("2025-06-10T09:40Z", "a", view=b"view---1", spent_ms=2_400_000, **visitor)
    site.view("2025-06-10T09:41Z", "b", view=b"view---2", **visitor)
    totals = site.count()
    assert (totals["views"], totals["visits"], "bounces" in totals) == (2, 1, False)
    labels = open_breakdown.unpack(site.client.hget(keys.breakdown(0, "site"), open_breakdown.ALL))[0]
    assert labels[f"p{histogram.span_bin(2_400_000)}"] == 1


def test_report_shorter_time_prolongs_nothing(make_site):
    site = make_site("own")
    visitor = {"visitor": b"visitor1", "view": b"view---1"}
    site.view("2025-06-10T09:00Z", **visitor)
    for minute in range(1, 60, 20):
        site.view(f"2025-06-10T09:{minute:02d}Z", spent_ms=1000, **visitor)
    site.count()
    labels = open_breakdown.unpack(site.client.hget(keys.breakdown(0, "site"), open_breakdown.ALL))[0]
    assert f"v{histogram.span_bin(60_000)}" in labels


def test_view_repeated_beacon_is_a_hit_and_no_view(make_site):
    site = make_site("own")
    for _ in range(5):
        site.view("2025-06-10T09:00Z", view=b"view---1", visitor=b"visitor1")
    totals = site.count()
    assert (totals["hits"], totals["views"], totals["visits"], totals["bounces"]) == (5, 1, 1, 1)


def test_report_without_its_view_is_a_hit_alone(make_site):
    site = make_site("own")
    site.view("2025-06-10T09:00Z", view=b"view---1", visitor=b"visitor1", spent_ms=5000)
    totals = site.count()
    assert (totals["hits"], "views" in totals, "visits" in totals) == (1, False, False)


def test_view_identity_own_without_id_has_no_visitor(make_site):
    site = make_site("own")
    site.view("2025-06-10T09:00Z")
    totals = site.count()
    assert (totals["views"], totals["views_no_visitor"], site.visitors()) == (1, 1, 0)


def test_visitor_cookies_refused_is_one_visitor(make_site):
    site = make_site("cookie")
    for number in range(5):  # the browser refuses each cookie, or asks for two images at once
        site.view("2025-06-10T09:00Z", visitor=b"cookie-%d" % number, visits=1, is_new=True)
    site.view("2025-06-10T09:05Z", "b", visitor=b"cookie-4", visits=1)  # the browser kept the last cookie
    totals = site.count()
    assert (totals["views"], totals["visits"], totals["visits_new"], site.visitors()) == (6, 1, 1, 1)


def test_visitor_cookie_two_days_later_is_returning(make_site):
    site = make_site("cookie")
    site.view("2025-06-10T09:00Z", visitor=b"cookie-1", visits=1, is_new=True)
    site.view("2025-06-12T09:00Z", address=9, visitor=b"cookie-1", visits=2)
    totals = site.count()
    assert (totals["visits"], totals["visits_new"], totals["visits_returning"]) == (2, 1, 1)
    assert (site.visitors(), site.visitors("20250612")) == (1, 1)


def test_visitor_consent_within_a_visit_is_one_visitor(make_site):
    site = make_site("cookie")
    site.view("2025-06-10T09:00Z")
    site.view("2025-06-10T09:01Z", visitor=b"cookie-1", visits=1, is_new=True)
    site.view("2025-06-10T09:02Z", visitor=b"cookie-1", visits=1)
    totals = site.count()
    assert (totals["views"], totals["visits"], site.visitors()) == (3, 1, 1)
    site.view("2025-06-12T09:02Z", visitor=b"cookie-1", visits=2)
    totals = site.count()
    assert (totals["visits"], totals["visits_new"], totals["visits_returning"]) == (2, 1, 1)


def test_visitor_reloading_for_more_than_a_day_is_new_once(make_site):
    site = make_site("cookie")
    for hour in range(26):
        for minute in (0, 20, 40):
            at = f"2025-06-{10 + hour // 24}T{hour % 24:02d}:{minute:02d}Z"
            site.view(at, visitor=b"cookie-1", visits=1)
    totals = site.count()
    assert (totals["visits"], totals["visits_new"], totals["visits_returning"]) == (2, 1, 1)


def test_visitor_same_address_other_cookie_is_another(make_site):
    site = make_site("cookie")
    site.view("2025-06-10T09:00Z", visitor=b"cookie-1", visits=3)
    site.view("2025-06-10T09:01Z", visitor=b"cookie-2", visits=5)
    totals = site.count()
    assert (totals["visits"], totals["visits_returning"], site.visitors()) == (2, 2, 2)


def test_view_late_within_a_pause_finds_its_visit(make_site):
    site = make_site("own")
    site.view("2025-06-10T09:00Z", visitor=b"visitor1")
    site.view("2025-06-10T09:40Z", visitor=b"visitor2")
    site.view("2025-06-10T09:10Z", visitor=b"visitor1")
    assert site.count()["visits"] == 2
    site.view("2025-06-10T09:09:59Z", visitor=b"visitor1")
    totals = site.count()
    assert (totals["visits"], totals["views_no_visit"]) == (2, 1)


def test_visit_reloading_page_begins_anew_after_a_day(make_site):
    site = make_site("own")
    for minute in range(0, 49 * 60, 20):
        day, hour = 10 + minute // 1440, minute % 1440 // 60
        site.view(f"2025-06-{day}T{hour:02d}:{minute % 60:02d}Z", visitor=b"visitor1")
    assert site.count()["visits"] == 3


def test_visits_made_up_visitors_leave_room_for_others(make_site, client, monkeypatch):
    monkeypatch.setattr(visits, "MAX_VISITS", 100)
    site, another = make_site("own"), make_site("own", "another")
    site.view("2025-06-10T09:00Z", "home", visitor=b"reader-1")
    site.count()
    for number in range(1000):
        site.view("2025-06-10T09:01Z", "made-up", visitor=b"m%07d" % number)
    site.view("2025-06-10T09:02Z", "next", visitor=b"reader-1")
    another.view("2025-06-10T09:02Z", "home", visitor=b"reader-2")
    totals = site.count()
    assert (totals["views"], totals["visits"], totals["views_no_visit"]) == (1002, 50, 951)
    assert site.names("entry_page")["/home"] == (2, 1)
    assert another.count()["visits"] == 1, "there is room for the other campaign"
    assert client.hlen(keys.visits(0)) == client.zcard(keys.visit_times(0)) == 51
    assert client.hgetall(keys.visiting(0)) == {b"site": b"50", b"another": b"1"}
    site.view("2025-06-10T09:40Z", "again", visitor=b"reader-1")
    assert site.count()["visits"] == 51, "in place of the visit that has ended"
    site.view("2025-06-10T11:00Z", "later", visitor=b"reader-3")
    assert site.count()["visits"] == 52
    assert client.hlen(keys.visits(0)) == 1, "visits that have ended are removed"
    assert client.hgetall(keys.visiting(0))[b"site"] == b"1"


def test_visit_largest_stays_within_its_bound(make_site, client):
    """A visit with names of the greatest length, and with more views and hashes than are kept."""
    site = make_site("cookie")
    long = "x" * 500
    utm = "&".join(f"{name}={long}" for name in web_breakdown.Source._fields[1:])
    source = {"page_referrer": f"https://{'r' * 200}.example/"}
    for number in range(60):
        site.view(
            f"2025-06-10T09:00:{number:02d}Z",
            f"{number:02d}{long}?{utm}",
            view=b"view%04d" % number,
            visitor=b"id%06d" % number,
            visits=1,
            is_new=True,
            **source,
        )
    assert site.count()["visits"] == 1
    held = (keys.visits(0), keys.visit_times(0))
    size = sum(client.memory_usage(key, samples=0) for key in held)
    assert 2000 < size <= visits.MAX_BYTES, f"{size} bytes"
    record_size = client.memory_usage(keys.sample(0, "site", DAY), samples=0)
    assert 2000 < record_size <= visit_sample.MAX_RECORD_BYTES, f"{record_size} bytes"
    entries = read(client, lambda pipe: visits.read_entries(pipe, 0, client.hkeys(keys.visits(0)))).values()
    (visit,) = [entry for entry in entries if isinstance(entry, visits.Visit)]
    assert (len(visit.recent_views), len(visit.aliases)) == (visits.MAX_RECENT_VIEWS, visits.MAX_ALIASES)
    site.view("2025-06-10T09:01:30Z", "b", visitor=b"id000059", visits=1)
    assert site.count()["visits"] == 1, "the newest cookie leads to the visit"


def test_pages_thousands_of_made_up_paths_stay_within_bounds(make_site, client):
    """One stranger sends names of 8 KB each. The pages that are really read stay."""
    site = make_site("own")
    for number in range(20):
        site.view("2025-06-10T09:00Z", "read", visitor=b"reader%02d" % number)
    batch = []
    for number in range(4_000):
        url = f"https://site.example/{number}{'<script>' * 1000}?utm_source={number}{'s' * 8000}"
        seconds = datetime.fromisoformat("2025-06-10T09:00:01Z").timestamp()
        fields = {
            "page": url,
            "page_referrer": f"https://{number}{'.r' * 60}.example/",
            "visitor": b"stranger",
        }
        view = Hit(int(seconds * 1000), "site", hit.WEB, "GET", agent=FIREFOX, address=b"\1\2\3\4", **fields)
        batch.append(hit.encode(view))
        if len(batch) == 1000:
            client.xadd(keys.hits(0), {"1": hit.encode_batch(batch)})
            batch = []
    totals = site.count()
    assert totals["views"] == 4_020
    pages = site.names("page")
    assert pages["/read"] == (20, 20)
    assert len(pages) <= web_breakdown.MAX_NAMES
    assert sum(views for views, _ in pages.values()) == 4_020
    size = client.memory_usage(keys.web(0, "site", DAY))
    max_size = len(web_breakdown.DIMENSIONS) * web_breakdown.MAX_NAMES * (web_names.MAX_NAME_BYTES + 20)
    assert size <= max_size < 1_100_000, f"{size} bytes a day and shard, at most {max_size}"
    assert client.memory_usage(keys.visits(0)) < 50_000


def test_visits_campaign_deleted_or_a_day_without_hits_are_removed(make_site, client, settings):
    site, another = make_site("own"), make_site("own", "another")
    for campaign in (site, another):
        campaign.view("2025-06-10T09:00Z", visitor=b"visitor1")
    site.count()

    async def run(work: Callable[[AsyncRedis], Any]) -> None:
        store = connect_async(settings.redis_url)
        await work(store)
        await store.aclose()

    asyncio.run(run(lambda store: deletion.delete(store, "another", settings.shards)))
    held = (keys.visits(0), keys.visit_times(0), keys.visiting(0))
    assert [client.hlen(held[0]), client.zcard(held[1]), client.hlen(held[2])] == [1, 1, 1]
    asyncio.run(
        run(lambda store: retention_shards.remove_visits_and_traces(store, settings, site.now + 86_400 - 60))
    )
    assert client.exists(*held) == 3
    asyncio.run(
        run(lambda store: retention_shards.remove_visits_and_traces(store, settings, site.now + 86_400 + 60))
    )
    assert client.exists(*held) == 0


def test_visits_after_a_clock_ahead_are_counted_again(make_site, client, settings):
    site = make_site("own")
    site.view("2031-06-10T09:00Z", visitor=b"visitor1")
    site.count()
    held = (keys.visits(0), keys.visit_times(0), keys.visiting(0))
    assert client.exists(*held) == 3

    async def run(now: float) -> None:
        store = connect_async(settings.redis_url)
        await retention_shards.remove_visits_and_traces(store, settings, now)
        await store.aclose()

    site.now = datetime.fromisoformat("2025-06-10T09:00Z").timestamp()
    asyncio.run(run(site.now))
    assert client.exists(*held) == 0
    site.view("2025-06-10T09:00Z", visitor=b"visitor1")
    assert site.count()["visits"] == 2


def test_visit_beside_a_hit_a_day_ahead_goes_on(client, settings, secrets, make_site):
    """The hit came from a web process with a wrong clock, and was stored now."""
    site, now = make_site(), client.time()[0]

    def at(seconds: int) -> str:
        return datetime.fromtimestamp(now + seconds, UTC).isoformat()

    for n in range(5):
        site.view(at(0), address=n)
    site.view(at(86_400 - 60), address=9)
    site.count(now)
    for n in range(5):
        site.view(at(1), "b", address=n)
    totals = site.count(now + 1)
    assert (totals["views"], totals["visits"], totals.get("views_no_visit", 0)) == (11, 6, 0)
