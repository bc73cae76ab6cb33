"""Views of pages, told by hand: what becomes a visit, whose it is, and what it breaks down into."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import redis

from pixel_server import hit
from pixel_server.campaigns import storage
from pixel_server.campaigns.campaign import new_campaign
from pixel_server.counters import histogram, open_breakdown, visitor_salts, visits, web_breakdown, web_names
from pixel_server.hit import Hit
from pixel_server.store import keys
from pixel_server.store.client import connect_async
from pixel_server.store.protocols import AsyncRedis
from workers import maintenance, retention_shards
from workers.rollup_pass import Outcome, Rollup

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
SAFARI = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/18.5 Mobile/15E148 Safari/604.1"
)
DAY = "20250610"


class Site:
    """One web campaign in one shard. `view` stores a hit; `count` rolls up as of the latest of them."""

    def __init__(
        self, client: redis.Redis, settings: Any, secrets: Any, identity: str, name: str, zone: str
    ) -> None:
        self.client, self.settings, self.secrets, self.name = client, settings, secrets, name
        self.now = 0.0

        async def create() -> None:
            there = connect_async(settings.redis_url)
            made = new_campaign(name, "Site", "web", identity=identity, time_zone=zone)
            await storage.create(there, made)
            await there.aclose()

        asyncio.run(create())

    def view(self, at: str, page: str = "a", address: int = 1, agent: str = FIREFOX, **more: Any) -> None:
        seconds = datetime.fromisoformat(at).timestamp()
        self.now = max(self.now, seconds)
        fields = {"page": f"https://site.example/{page}", "address": bytes([203, 0, 113, address]), **more}
        one = Hit(int(seconds * 1000), self.name, hit.WEB, "GET", agent=agent, **fields)
        self.client.xadd(keys.hits(0), {"1": hit.encode_batch([hit.encode(one)])})

    def count(self, now: float | None = None) -> dict[str, int]:
        rollup = Rollup(self.client, self.settings, self.secrets, 0)
        while rollup.step(now or self.now) is Outcome.COUNTED:
            pass
        assert not self.client.xlen(keys.dead(0))
        total = self.client.hgetall(keys.total(0, self.name))
        return {name.decode(): int(n) for name, n in total.items() if int(n)}

    def names(self, dimension: str, day: str = DAY) -> dict[str, tuple[int, int]]:
        found = web_breakdown.unpack(self.client.hget(keys.web(0, self.name, day), dimension))
        return {name: (views, seen) for name, (views, seen) in found.items()}

    def visitors(self, day: str = "") -> int:
        key = keys.daily_visitors(0, self.name, day) if day else keys.visitors(0, self.name)
        return int(self.client.pfcount(key))


@pytest.fixture
def site(client: redis.Redis, settings: Any, secrets: Any) -> Callable[..., Site]:
    def make(identity: str = "cookieless", name: str = "site", zone: str = "UTC") -> Site:
        return Site(client, settings, secrets, identity, name, zone)

    return make


def test_a_visit_of_three_pages(site):
    one = site()
    one.view("2025-06-10T09:00Z", "a", page_referrer="https://www.google.de/search?q=x", language="de-DE,en")
    one.view("2025-06-10T09:10Z", "b", page_referrer="https://site.example/a", language="de-DE,en")
    one.view("2025-06-10T09:20Z", "a", page_referrer="https://site.example/b", language="de-DE,en")
    one.view("2025-06-10T09:51Z", "c?utm_source=News", language="de-DE,en")
    found = one.count()
    assert {name: found[name] for name in ("views", "visits", "bounces")} == {
        **{"views": 4, "visits": 2, "bounces": 1}
    }
    assert one.visitors(DAY) == one.visitors() == 1
    assert one.names("page") == {"/a": (2, 1), "/b": (1, 0), "/c": (1, 1)}
    assert one.names("entry_page") == {"/a": (3, 1), "/c": (1, 1)}
    assert one.names("exit_page") == {"/a": (3, 1), "/c": (1, 1)}
    assert one.names("referrer") == {"google.de": (3, 1), "(none)": (1, 1)}
    assert one.names("utm_source") == {"(none)": (3, 1), "News": (1, 1)}
    assert one.names("browser") == {"Firefox": (4, 2)}
    assert one.names("system") == {"Linux": (4, 2)}
    assert one.names("device") == {"desktop": (4, 2)}
    assert one.names("language") == {"de": (4, 2)}


def test_address_or_agent_tell_visitors_apart(site):
    one = site()
    for address, agent in ((1, FIREFOX), (1, SAFARI), (2, FIREFOX), (1, FIREFOX)):
        one.view("2025-06-10T09:00Z", address=address, agent=agent)
    assert one.count()["visits"] == one.visitors(DAY) == 3
    assert one.names("device") == {"desktop": (3, 2), "phone": (1, 1)}


def test_machines_are_apart(site):
    one = site()
    one.view("2025-06-10T09:00Z", agent="Googlebot/2.1 (+http://www.google.com/bot.html)")
    one.view("2025-06-10T09:00Z", purpose="sec-purpose=prefetch;prerender;")
    one.view("2025-06-10T09:00Z", agent="github-camo (6e0c4ab1)")
    found = one.count()
    assert (found["hits"], found["views_bot"], found["views"]) == (3, 2, 1)
    assert (found["views_no_visitor"], "visits" in found, one.visitors()) == (1, False, 0)
    assert one.names("country") == {"(unknown)": (1, 0)}


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/Los_Angeles"])
def test_a_visit_over_midnight_is_one_and_its_visitor_is_seen_on_both_days(site, zone):
    one = site(zone=zone)
    offset = {"UTC": "+00:00", "Asia/Kathmandu": "+05:45", "America/Los_Angeles": "-07:00"}[zone]
    for at in ("10T23:50", "11T00:10", "11T00:35", "11T01:00"):
        one.view(f"2025-06-{at}{offset}")
    found = one.count()
    assert (found["views"], found["visits"], "bounces" in found) == (4, 1, False)
    assert (one.visitors("20250610"), one.visitors("20250611"), one.visitors()) == (1, 1, 2)
    assert one.names("page", "20250610") == {"/a": (1, 1)}
    assert one.names("page", "20250611") == {"/a": (3, 0)}
    assert one.names("exit_page", "20250611") == {"/a": (3, 0)}


def test_after_the_first_half_hour_of_a_day_yesterday_is_over(site):
    one = site()
    one.view("2025-06-10T23:59Z")
    one.view("2025-06-10T23:59Z", address=2)
    one.view("2025-06-11T00:29Z")
    assert one.count()["visits"] == 2
    one.view("2025-06-11T00:30Z", address=2)
    assert one.count()["visits"] == 3


def test_a_hit_whose_salt_is_gone_is_a_view_and_no_visitor(site, client, settings):
    one = site()
    one.view("2025-06-10T09:00Z")
    one.count()
    end = int(datetime.fromisoformat("2025-06-11T00:00Z").timestamp())
    assert len(client.get(keys.salt(0, end))) == 32
    assert 0 < client.ttl(keys.salt(0, end)) <= (15 + 48) * 3600

    async def remove(now: float) -> int:
        there = connect_async(settings.redis_url)
        try:
            return await visitor_salts.remove_old(there, settings.shards, now)
        finally:
            await there.aclose()

    assert asyncio.run(remove(end + 47 * 3600 - 1)) == 0
    assert asyncio.run(remove(end + 47 * 3600)) == 1
    assert client.hget(keys.REWRITE, "asked") == b"2"
    one.view("2025-06-10T09:05Z")
    found = one.count(now=end + 47 * 3600)
    assert (found["views"], found["views_no_visitor"], found["visits"]) == (2, 1, 1)
    assert (one.visitors(), client.exists(keys.salt(0, end))) == (1, 0)


def test_the_chores_take_salts(client, settings, secrets):
    client.set(keys.salt(2, 1_750_000_500), b"s" * 32)
    asyncio.run(maintenance._finish(settings, secrets, 1_750_000_500 + 47.5 * 3600))
    assert not client.exists(keys.salt(2, 1_750_000_500))


def test_chores_that_were_cut_off_or_away_ask_for_a_rewrite(client, settings, secrets):
    """The key may be gone, and the append-only file still hold it."""

    def asked(now: float) -> int:
        asyncio.run(maintenance._finish(settings, secrets, now))
        return int(client.hget(keys.REWRITE, "asked") or 0)

    assert asked(1_750_000_000) == asked(1_750_000_060) == 0
    client.hset(keys.REWRITE, "salts", 0)  # as one leaves it that was killed while it removed some
    assert asked(1_750_000_120) == asked(1_750_000_180) == 1
    assert asked(1_750_000_180 + 3700) == 2, "by then, some may have ended by themselves"


def test_a_salt_follows_from_nothing(site, client):
    found = set()
    for _ in range(2):
        client.flushall()
        one = site()
        one.view("2025-06-10T09:00Z")
        one.count()
        found |= set(client.hkeys(keys.visits(0)))
    assert len(found) == 2


def test_times_on_pages_and_of_visits(site):
    one = site("own")
    told = {"visitor": b"visitor1"}
    one.view("2025-06-10T09:00:00Z", "a", view=b"view---1", **told)
    one.view("2025-06-10T09:00:40Z", "a", view=b"view---1", spent=20_000, **told)
    one.view("2025-06-10T09:01:40Z", "b", view=b"view---2", **told)
    one.view("2025-06-10T09:03:20Z", "c", **told)
    one.count()
    labels = open_breakdown.unpack(one.client.hget(keys.breakdown(0, "site"), open_breakdown.ALL))[0]
    assert labels == {f"p{histogram.span_bin(ms)}": 1 for ms in (20_000, 100_000)} | {
        f"v{histogram.span_bin(200_000)}": 1
    }
    for ms in (100, 1000, 20_000, 100_000, 200_000, 86_400_000):
        assert histogram.span_seconds(histogram.span_bin(ms)) * 1000 == pytest.approx(ms, rel=0.05)


def test_a_page_that_is_read_for_longer_than_a_pause(site):
    one = site("own")
    told = {"visitor": b"visitor1"}
    one.view("2025-06-10T09:00Z", "a", view=b"view---1", **told)
    one.view("2025-06-10T09:40Z", "a", view=b"view---1", spent=2_400_000, **told)
    one.view("2025-06-10T09:41Z", "b", view=b"view---2", **told)
    found = one.count()
    assert (found["views"], found["visits"], "bounces" in found) == (2, 1, False)
    labels = open_breakdown.unpack(one.client.hget(keys.breakdown(0, "site"), open_breakdown.ALL))[0]
    assert labels[f"p{histogram.span_bin(2_400_000)}"] == 1


def test_a_report_that_says_nothing_new_prolongs_nothing(site):
    one = site("own")
    told = {"visitor": b"visitor1", "view": b"view---1"}
    one.view("2025-06-10T09:00Z", **told)
    for minute in range(1, 60, 20):
        one.view(f"2025-06-10T09:{minute:02d}Z", spent=1000, **told)
    one.count()
    labels = open_breakdown.unpack(one.client.hget(keys.breakdown(0, "site"), open_breakdown.ALL))[0]
    assert f"v{histogram.span_bin(60_000)}" in labels


def test_the_same_beacon_again_is_a_hit_and_no_view(site):
    one = site("own")
    for _ in range(5):
        one.view("2025-06-10T09:00Z", view=b"view---1", visitor=b"visitor1")
    found = one.count()
    assert (found["hits"], found["views"], found["visits"], found["bounces"]) == (5, 1, 1, 1)


def test_a_report_without_its_view_is_a_hit_alone(site):
    one = site("own")
    one.view("2025-06-10T09:00Z", view=b"view---1", visitor=b"visitor1", spent=5000)
    found = one.count()
    assert (found["hits"], "views" in found, "visits" in found) == (1, False, False)


def test_without_its_own_id_a_view_has_no_visitor(site):
    one = site("own")
    one.view("2025-06-10T09:00Z")
    found = one.count()
    assert (found["views"], found["views_no_visitor"], one.visitors()) == (1, 1, 0)


def test_refused_cookies_and_two_images_are_one_visitor(site):
    one = site("cookie")
    for number in range(5):  # each answer's cookie is refused, or two images asked at once
        one.view("2025-06-10T09:00Z", visitor=b"cookie-%d" % number, visits=1, is_new=True)
    one.view("2025-06-10T09:05Z", "b", visitor=b"cookie-4", visits=1)  # the last one was kept
    found = one.count()
    assert (found["views"], found["visits"], found["visits_new"], one.visitors()) == (6, 1, 1, 1)


def test_who_comes_back_with_a_cookie_is_the_same_and_returning(site):
    one = site("cookie")
    one.view("2025-06-10T09:00Z", visitor=b"cookie-1", visits=1, is_new=True)
    one.view("2025-06-12T09:00Z", address=9, visitor=b"cookie-1", visits=2)
    found = one.count()
    assert (found["visits"], found["visits_new"], found["visits_returning"]) == (2, 1, 1)
    assert (one.visitors(), one.visitors("20250612")) == (1, 1)


def test_consent_in_the_middle_of_a_visit_makes_no_second_visitor(site):
    one = site("cookie")
    one.view("2025-06-10T09:00Z")
    one.view("2025-06-10T09:01Z", visitor=b"cookie-1", visits=1, is_new=True)
    one.view("2025-06-10T09:02Z", visitor=b"cookie-1", visits=1)
    found = one.count()
    assert (found["views"], found["visits"], one.visitors()) == (3, 1, 1)
    one.view("2025-06-12T09:02Z", visitor=b"cookie-1", visits=2)
    found = one.count()
    assert (found["visits"], found["visits_new"], found["visits_returning"]) == (2, 1, 1)


def test_who_reloads_for_more_than_a_day_is_new_once(site):
    one = site("cookie")
    for hour in range(26):
        for minute in (0, 20, 40):
            at = f"2025-06-{10 + hour // 24}T{hour % 24:02d}:{minute:02d}Z"
            one.view(at, visitor=b"cookie-1", visits=1)
    found = one.count()
    assert (found["visits"], found["visits_new"], found["visits_returning"]) == (2, 1, 1)


def test_two_who_share_address_and_agent_are_two_by_their_cookies(site):
    one = site("cookie")
    one.view("2025-06-10T09:00Z", visitor=b"cookie-1", visits=3)
    one.view("2025-06-10T09:01Z", visitor=b"cookie-2", visits=5)
    found = one.count()
    assert (found["visits"], found["visits_returning"], one.visitors()) == (2, 2, 2)


def test_one_that_is_late_among_others_still_finds_its_visit(site):
    one = site("own")
    one.view("2025-06-10T09:00Z", visitor=b"visitor1")
    one.view("2025-06-10T09:40Z", visitor=b"visitor2")
    one.view("2025-06-10T09:10Z", visitor=b"visitor1")
    assert one.count()["visits"] == 2
    one.view("2025-06-10T09:09:59Z", visitor=b"visitor1")
    found = one.count()
    assert (found["visits"], found["views_no_visit"]) == (2, 1)


def test_a_page_that_reloads_itself_begins_anew_after_a_day(site):
    one = site("own")
    for minute in range(0, 49 * 60, 20):
        day, hour = 10 + minute // 1440, minute % 1440 // 60
        one.view(f"2025-06-{day}T{hour:02d}:{minute % 60:02d}Z", visitor=b"visitor1")
    assert one.count()["visits"] == 3


def test_a_stranger_who_makes_up_visitors_moves_nothing_else(site, client, monkeypatch):
    monkeypatch.setattr(visits, "MAX_VISITS", 100)
    one, another = site("own"), site("own", "another")
    one.view("2025-06-10T09:00Z", "home", visitor=b"reader-1")
    one.count()
    for number in range(1000):
        one.view("2025-06-10T09:01Z", "made-up", visitor=b"m%07d" % number)
    one.view("2025-06-10T09:02Z", "next", visitor=b"reader-1")
    another.view("2025-06-10T09:02Z", "home", visitor=b"reader-2")
    found = one.count()
    assert (found["views"], found["visits"], found["views_no_visit"]) == (1002, 50, 951)
    assert one.names("entry_page")["/home"] == (2, 1)
    assert another.count()["visits"] == 1, "the other campaign's readers have their room"
    assert client.hlen(keys.visits(0)) == client.zcard(keys.lasts(0)) == 51
    assert client.hgetall(keys.visiting(0)) == {b"site": b"50", b"another": b"1"}
    one.view("2025-06-10T09:40Z", "again", visitor=b"reader-1")
    assert one.count()["visits"] == 51, "in the place of the one that ended"
    one.view("2025-06-10T11:00Z", "later", visitor=b"reader-3")
    assert one.count()["visits"] == 52
    assert client.hlen(keys.visits(0)) == 1, "those that ended are gone"
    assert client.hgetall(keys.visiting(0))[b"site"] == b"1"


def test_the_largest_visit(site, client):
    """All names as long as may be, more views and more hashes than are kept: what one takes has a bound."""
    one = site("cookie")
    long = "x" * 500
    source = {"page_referrer": f"https://{'r' * 200}.example/"}
    for number in range(60):
        one.view(
            f"2025-06-10T09:00:{number:02d}Z",
            f"{number:02d}{long}?utm_source={long}&utm_medium={long}&utm_campaign={long}",
            view=b"view%04d" % number,
            visitor=b"id%06d" % number,
            visits=1,
            is_new=True,
            **source,
        )
    assert one.count()["visits"] == 1
    held = (keys.visits(0), keys.lasts(0))
    size = sum(client.memory_usage(key, samples=0) for key in held)
    assert 2000 < size <= visits.MAX_BYTES, f"{size} bytes"
    found = visits.read_entries(client, 0, client.hkeys(keys.visits(0))).values()
    (visit,) = [entry for entry in found if isinstance(entry, visits.Visit)]
    assert (len(visit.seen), len(visit.aliases)) == (visits.MAX_SEEN, visits.MAX_ALIASES)
    one.view("2025-06-10T09:01:30Z", "b", visitor=b"id000059", visits=1)
    assert one.count()["visits"] == 1, "the cookie that was set last leads to it"


def test_ten_thousand_paths_stay_within_bounds(site, client):
    """Names of 8 KB each, by one stranger: what is kept has a bound, and the pages that are read stay."""
    one = site("own")
    for number in range(20):
        one.view("2025-06-10T09:00Z", "read", visitor=b"reader%02d" % number)
    batch = []
    for number in range(10_000):
        url = f"https://site.example/{number}{'<script>' * 1000}?utm_source={number}{'s' * 8000}"
        seconds = datetime.fromisoformat("2025-06-10T09:00:01Z").timestamp()
        fields = {
            "page": url,
            "page_referrer": f"https://{number}{'.r' * 60}.example/",
            "visitor": b"stranger",
        }
        made = Hit(int(seconds * 1000), "site", hit.WEB, "GET", agent=FIREFOX, address=b"\1\2\3\4", **fields)
        batch.append(hit.encode(made))
        if len(batch) == 1000:
            client.xadd(keys.hits(0), {"1": hit.encode_batch(batch)})
            batch = []
    found = one.count()
    assert found["views"] == 10_020
    pages = one.names("page")
    assert pages["/read"] == (20, 20)
    assert len(pages) <= web_breakdown.MAX_NAMES
    assert sum(views for views, _ in pages.values()) == 10_020
    size = client.memory_usage(keys.web(0, "site", DAY))
    most = len(web_breakdown.DIMENSIONS) * web_breakdown.MAX_NAMES * (web_names.MAX_NAME_BYTES + 20)
    assert size <= most < 1_000_000, f"{size} bytes a day and shard, at most {most}"
    assert client.memory_usage(keys.visits(0)) < 50_000


def test_visits_go_with_their_campaign_and_after_a_day_without_hits(site, client, settings):
    one, another = site("own"), site("own", "another")
    for each in (one, another):
        each.view("2025-06-10T09:00Z", visitor=b"visitor1")
    one.count()

    async def run(work: Callable[[AsyncRedis], Any]) -> None:
        there = connect_async(settings.redis_url)
        await work(there)
        await there.aclose()

    asyncio.run(run(lambda there: storage.delete(there, "another", settings.shards)))
    held = (keys.visits(0), keys.lasts(0), keys.visiting(0))
    assert [client.hlen(held[0]), client.zcard(held[1]), client.hlen(held[2])] == [1, 1, 1]
    asyncio.run(
        run(lambda there: retention_shards.remove_visits_and_traces(there, settings, one.now + 86_400 - 60))
    )
    assert client.exists(*held) == 3
    asyncio.run(
        run(lambda there: retention_shards.remove_visits_and_traces(there, settings, one.now + 86_400 + 60))
    )
    assert client.exists(*held) == 0


def test_a_clock_that_was_ahead_ends_no_visits_for_good(site, client, settings):
    one = site("own")
    one.view("2031-06-10T09:00Z", visitor=b"visitor1")
    one.count()
    held = (keys.visits(0), keys.lasts(0), keys.visiting(0))
    assert client.exists(*held) == 3

    async def run(now: float) -> None:
        there = connect_async(settings.redis_url)
        await retention_shards.remove_visits_and_traces(there, settings, now)
        await there.aclose()

    one.now = datetime.fromisoformat("2025-06-10T09:00Z").timestamp()
    asyncio.run(run(one.now))
    assert client.exists(*held) == 0
    one.view("2025-06-10T09:00Z", visitor=b"visitor1")
    assert one.count()["visits"] == 2


def test_visit_beside_a_hit_that_is_a_day_ahead_goes_on(client, settings, secrets, site):
    """That hit came from a web process with a wrong clock, and was stored now."""
    one, now = site(), client.time()[0]

    def at(seconds: int) -> str:
        return datetime.fromtimestamp(now + seconds, UTC).isoformat()

    for n in range(5):
        one.view(at(0), address=n)
    one.view(at(86_400 - 60), address=9)
    one.count(now)
    for n in range(5):
        one.view(at(1), "b", address=n)
    found = one.count(now + 1)
    assert (found["views"], found["visits"], found.get("views_no_visit", 0)) == (11, 6, 0)
