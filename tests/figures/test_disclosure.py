"""Disclosure control: what a partner's key is shown, and that no withheld figure follows from answers."""

from __future__ import annotations

from collections import Counter
from datetime import date, datetime, timedelta
from itertools import combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixel_server.api import routes
from pixel_server.campaigns.campaign import Campaign
from pixel_server.counters.labels import OTHER
from pixel_server.figures import disclosure, ranges, shared_stats, stats
from tests.figures.test_stats_opens import PHONE

LEAST = 5


@pytest.fixture
def partner(site, clock, count):
    """Counts all hits, then reads with a key of the scope `read:CAMPAIGN`. from_: the parameter `from`."""

    def ask(path, status=200, **query):
        campaign = path.partition("/")[0]
        count(clock.now)
        made = site.post("/api/keys", json={"name": "A partner", "scopes": [f"read:{campaign}"]}).json()
        answer = site.get(
            f"/api/campaigns/{path}",
            params={name.rstrip("_"): value for name, value in query.items()},
            headers={"Authorization": f"Bearer {made['key']}"},
        )
        assert answer.status_code == status, answer.text
        return answer.json()

    return ask


def crowd(viewed, at, number):
    for i in range(number):
        viewed(at, f"visitor-{i}")


def shown(found, name):
    return {item["start"][:10]: item[name] for item in found["series"]}


# Days and ranges


def test_disclosure_days_with_enough_visits_are_shown(page, viewed, clock, partner, stats):
    page(identity="own", min_cell=3, time_zone="Europe/Berlin")
    crowd(viewed, "2026-02-28T22:59Z", 4)
    crowd(viewed, "2026-02-28T23:00Z", 2)  # the next day in Berlin
    crowd(viewed, "2026-03-02T12:00Z", 3)
    crowd(viewed, "2026-03-03T12:00Z", 7)  # today
    found = partner("page/stats", from_="2026-02-27", to="2026-03-04")
    assert shown(found, "views") == {
        "2026-02-27": None,
        "2026-02-28": 4,
        "2026-03-01": None,
        "2026-03-02": 3,
        "2026-03-03": None,
    }
    assert (found["totals"]["views"], found["min_cell"]) == (7, 3)
    assert (found["from"], found["to"]) == ("2026-02-27T00:00:00+01:00", "2026-03-04T00:00:00+01:00")
    assert stats("page")["totals"]["views"] == 16
    clock.at("2026-03-04T00:59+01:00")
    assert partner("page/stats", from_="2026-03-03")["totals"]["views"] is None, (
        "some may still be on their way"
    )
    clock.at("2026-03-04T01:00+01:00")
    assert partner("page/stats", from_="2026-03-03")["totals"]["views"] == 7


def test_disclosure_no_range_shows_a_year(page, viewed, clock, partner):
    page(identity="own", min_cell=3)
    crowd(viewed, "2025-01-01T12:00Z", 5)
    crowd(viewed, "2025-03-01T12:00Z", 4)
    crowd(viewed, "2025-03-02T12:00Z", 1)
    clock.at("2026-01-02T12:00Z")
    found = partner("page/stats")
    assert (found["from"][:10], found["to"][:10]) == ("2025-01-02", "2026-01-02")
    assert (len(found["series"]), found["totals"]["views"]) == (365, 4)


def test_disclosure_no_range_begins_with_kept_days(page, viewed, clock, partner):
    page(identity="own", min_cell=1, keep={"days": 40})
    crowd(viewed, "2026-03-01T12:00Z", 4)
    clock.at("2026-03-02T12:00Z")
    found = partner("page/stats")
    assert (len(found["series"]), found["totals"]["views"]) == (40, 4)


def test_disclosure_answer_has_shared_fields_only(page, mail, viewed, opened, clock, partner):
    page(min_cell=1)
    mail(min_cell=1, sent=20)
    viewed("2026-03-01T12:00Z")
    opened("2026-03-01T12:00Z")
    clock.at("2026-03-02T12:00Z")
    frame = {"campaign", "from", "to", "interval", "time_zone", "min_cell", "totals", "series", "estimates"}
    for campaign, more, figures in (
        ("page", set(), {"views", "visits", "unique_visitors"}),
        ("mail", {"opens_person_by"}, {"opens", "unique_opens"}),
    ):
        found = partner(f"{campaign}/stats", from_="2026-03-01")
        assert found.keys() == frame | more
        assert found["totals"].keys() == figures
        assert found["series"][0].keys() == figures | {"start"}
    assert partner("page") == {"id": "page", "name": "page", "kind": "web", "time_zone": "UTC"}


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"interval": "15m"}, 403),
        ({"interval": "hour"}, 403),
        ({"interval": "week"}, 403),
        ({"tz": "Asia/Kathmandu"}, 403),
        ({"tz": "Nowhere"}, 403),
        ({"from_": "2026-03-01T12:00Z"}, 422),
        ({"from_": "2026-03-02"}, 422),  # today: no day of the range has ended
        ({"from_": "1066-10-14"}, 422),
        ({"from_": "2000-01-01"}, 422),
        ({"to": "yesterday"}, 422),
        ({"interval": "day", "tz": "UTC", "to": "2026-03-01"}, 200),
    ],
)
def test_disclosure_other_interval_or_zone_is_403(page, clock, partner, query, status):
    page()
    clock.at("2026-03-02T12:00Z")
    partner("page/stats", status, **query)


def test_disclosure_day_not_counted_is_withheld(page, viewed, clock, partner, monkeypatch):
    page(identity="own", min_cell=3)
    crowd(viewed, "2026-03-01T12:00Z", 4)
    crowd(viewed, "2026-03-02T12:00Z", 4)
    clock.at("2026-03-03T12:00Z")
    read = stats.read

    async def backlog(*given):
        return {**await read(*given), "as_of": "2026-03-02T23:59:59.999Z"}

    assert partner("page/stats")["totals"]["views"] == 8
    monkeypatch.setattr(shared_stats.stats, "read", backlog)
    assert partner("page/stats")["totals"]["views"] == 4


def test_disclosure_hits_in_spool_withhold_their_days(page, viewed, clock, partner, monkeypatch):
    page(identity="own", min_cell=3)
    crowd(viewed, "2026-03-01T12:00Z", 4)
    clock.at("2026-03-03T12:00Z")
    read = shared_stats.read

    async def late(store, campaign, query, settings, _, now):
        since = datetime.fromisoformat("2026-03-01T23:00Z").timestamp()
        return await read(store, campaign, query, settings, int(since * 1000), now)

    monkeypatch.setattr(shared_stats, "read", late)
    assert partner("page/stats")["totals"]["views"] is None


# Figures that are part of others


def test_disclosure_small_part_or_rest_is_withheld(mail, opened, clock, partner):
    mail(min_cell=3)
    for day, whos in (
        ("2026-03-01", "abc"),  # all opens are first opens
        ("2026-03-02", "abcdef"),  # 3 of 6 opens are first opens
        ("2026-03-03", "abcg"),  # 1 of 4 opens is a first open
        ("2026-03-04", "hija"),  # 3 of 4 opens are first opens
        ("2026-03-05", "kl"),
    ):
        for who in whos:
            opened(f"{day}T12:00Z", who)
    clock.at("2026-03-06T12:00Z")
    found = partner("mail/stats", from_="2026-03-01")
    assert list(shown(found, "opens").values()) == [3, 6, 4, 4, None]
    assert list(shown(found, "unique_opens").values()) == [3, 3, None, None, None]
    assert (found["totals"]["opens"], found["totals"]["unique_opens"]) == (17, 6)


@pytest.mark.parametrize(("identity", "total"), [("cookieless", 12), ("own", None), ("cookie", None)])
def test_disclosure_unique_visitors_of_a_range_need_cookieless(identity, total):
    web = campaign(kind="web", identity=identity)
    days = [{"views": 9, "visits": 7, "unique_visitors": 7}, {"views": 9, "visits": 5, "unique_visitors": 5}]
    found = figures(web, days)
    assert [item["unique_visitors"] for item in found["series"]] == [7, 5]
    assert found["totals"]["unique_visitors"] == total


def test_disclosure_mail_shows_clients_only(mail, opened, site, clock, partner):
    mail(min_cell=3)
    for who in "abcd":
        opened("2026-03-01T12:00Z", who)
    site.headers["User-Agent"] = PHONE
    opened("2026-03-01T12:00Z", "e")
    for who in "abc":
        opened("2026-03-02T12:00Z", who)
    for who in "de":
        opened("2026-03-03T12:00Z", who)
    clock.at("2026-03-04T12:00Z")

    def clients(**query):
        return partner("mail/stats", **query)["opens_person_by"]

    assert clients(from_="2026-03-01", to="2026-03-02") == {"client": [{"name": OTHER, "opens": 5}]}
    assert clients(from_="2026-03-02") == {"client": [{"name": "Chrome", "opens": 3}]}
    both = [{"name": "Chrome", "opens": 3}, {"name": OTHER, "opens": 5}]
    assert clients(from_="2026-03-01") == {"client": both}
    assert clients() is None


def campaign(**fields):
    return Campaign(id="c", name="c", min_cell=LEAST, **fields)


FIRST = date(2026, 3, 1)


def figures(of, days, start=0, end=None):
    """Returns days as they are shared. days: each {figure: number}."""
    end = len(days) if end is None else end
    bounds = {"from": str(FIRST + timedelta(start)), "to": str(FIRST + timedelta(end))}
    wanted = ranges.parse(bounds, "UTC", 0)
    series = [
        {"start": f"{FIRST + timedelta(start + i)}T00:00:00+00:00", **item, "hits": 99, "new": 1}
        for i, item in enumerate(days[start:end])
    ]
    answer = {"series": series, "totals": {**days[0], "new": 1}, "estimates": {}, "new": 1}
    return disclosure.figures(answer, of, wanted, wanted.end + disclosure.PUBLISH_DELAY_SECONDS)


small, big = st.integers(0, LEAST - 1), st.integers(LEAST, 3 * LEAST)
one_day = st.one_of(
    st.tuples(small, small, small).map(lambda found: (found[0], found[1])),
    st.tuples(big, st.integers(0, 3 * LEAST)),
)


@given(days=st.lists(one_day, min_size=1, max_size=5), data=st.data())
def test_disclosure_withheld_day_changes_no_range(days, data):
    def told(days):
        items = [{"opens": opens, "unique_opens": min(opens, first)} for opens, first in days]
        size = range(len(days) + 1)
        return [figures(campaign(kind="email"), items, *ends) for ends in combinations(size, 2)]

    answers = told(days)
    published = answers[len(days) - 1]["series"]
    for name in ("opens", "unique_opens"):
        for (start, end), found in zip(combinations(range(len(days) + 1), 2), answers, strict=True):
            parts = [item[name] for item in published[start:end] if item[name] is not None]
            assert found["totals"][name] == (sum(parts) if parts else None)
            assert all(part >= LEAST for part in parts)
    for item in published:
        if item["unique_opens"] is not None:
            assert item["opens"] - item["unique_opens"] not in range(1, LEAST)
    other = [data.draw(st.tuples(small, small)) if day[0] < LEAST else day for day in days]
    assert told(other) == answers


# Cells


@pytest.mark.parametrize(
    ("cells", "published"),
    [
        ({}, {}),
        ({"a": 5}, {"a": 5}),
        ({"a": 4}, {}),
        ({"a": 2, "b": 2}, {}),
        ({"a": 2, "b": 3}, {OTHER: 5}),
        ({"a": 9, "b": 2, "c": 3}, {"a": 9, OTHER: 5}),
        ({"a": 9, "b": 1}, {OTHER: 10}),
        ({"a": 9, "b": 6, "c": 1}, {"a": 9, OTHER: 7}),
        ({"b": 6, "a": 6, "c": 1}, {"b": 6, OTHER: 7}),
        ({"a": 9, OTHER: 5}, {"a": 9, OTHER: 5}),
        ({"a": 9, OTHER: 4}, {OTHER: 13}),
        ({"a": 9, OTHER: 4, "b": 1}, {"a": 9, OTHER: 5}),
        ({"a": 9, "b": 0}, {"a": 9}),
    ],
)
def test_disclosure_publish_small_cells_go_to_other(cells, published):
    found = disclosure.publish({name: (2 * n, n) for name, n in cells.items()}, LEAST)
    assert found == {name: (2 * n, n) for name, n in published.items()}


def test_disclosure_publish_views_without_visit_are_small():
    assert disclosure.publish({"a": (9, 9), "b": (1, 0)}, LEAST) == {OTHER: (10, 9)}


@pytest.mark.parametrize(
    ("whole", "published"),
    [
        (15, {"a": 9, "b": 6}),
        (16, {"a": 9, OTHER: 7}),
        (19, {"a": 9, OTHER: 10}),
        (20, {"a": 9, "b": 6}),
        (10, {"a": 9, "b": 6}),  # a visit may count under several names
        (4, {}),
    ],
)
def test_disclosure_publish_small_rest_goes_to_other(whole, published):
    found = disclosure.publish({"a": (9, 9), "b": (6, 6)}, LEAST, (whole, whole))
    assert found == {name: (n, n) for name, n in published.items()}


KIND = {"google": "search", "bing": "search", "mastodon": "social", "blog": "website"}


def test_disclosure_kinds_are_sums_of_published_hosts():
    hosts = {"google": (9, 9), "bing": (3, 3), "mastodon": (6, 6), "blog": (2, 2)}
    found = disclosure.breakdowns({"20260301": {"referrer": hosts}}, {"20260301": (20, 20)}, LEAST, KIND.get)
    assert found["referrer"] == {"google": (9, 9), "mastodon": (6, 6), OTHER: (5, 5)}
    assert found["referrer_kind"] == {"search": (9, 9), "social": (6, 6), OTHER: (5, 5)}


def test_disclosure_publish_withheld_day_has_no_cells():
    pages = {"page": {"/": (4, 4), "/prices": (4, 4)}}  # four visits that saw both
    found = disclosure.breakdowns(
        {"20260301": pages, "20260302": pages}, {"20260302": (8, 5)}, LEAST, KIND.get
    )
    assert found == {"page": {OTHER: (8, 8)}}


def test_disclosure_revealing_dimension_is_403():
    disclosure.check(["page", "country"])
    for dimension in ("system", "browser", "entry", "exit", "language", "new"):
        with pytest.raises(disclosure.Problem) as caught:
            disclosure.check(["page", dimension])
        assert caught.value.status == 403
        day = {"20260301": {dimension: {"a": (9, 9)}, "page": {"a": (9, 9)}}}
        assert disclosure.breakdowns(day, {"20260301": (9, 9)}, LEAST, KIND.get).keys() == {"page"}


def test_disclosure_ranked_shows_most_visits_first():
    cells = {name: (n, n) for name, n in {"a": 5, OTHER: 20, "c": 9, "b": 9}.items()}
    assert disclosure.ranked(cells, 2) == [("b", (9, 9)), ("c", (9, 9)), (OTHER, (25, 25))]
    assert disclosure.ranked({"a": (5, 5)}, 2) == [("a", (5, 5))]


# Computing a withheld cell. No decision depends on views, so each visit here has views that are one bit: the
# views of an answer tell which visits it sums. A withheld cell must not be a combination of such sums.

DAYS = ("20260301", "20260302")
NAMES = {
    "page": ("/", "/prices", OTHER),
    "referrer": tuple(KIND),
    "country": ("SE", "FR"),
    "utm_source": ("letter", None),
}
ATOMS = [dict(zip(("day", *NAMES), names, strict=True)) for names in product(DAYS, *NAMES.values())]
PRIME = 2**61 - 1


def of(atom, dimension):
    return KIND[atom["referrer"]] if dimension == "referrer_kind" else atom[dimension]


def cells_of(visits, day, dimension):
    """Returns {name: (bits, visits)} of a day. A name without a visit is left out."""
    counts = Counter()
    for atom, n in zip(ATOMS, visits, strict=True):
        if atom["day"] == day:
            counts[of(atom, dimension)] += n
    found = {}
    for name, n in counts.items():
        bits = [i for i, atom in enumerate(ATOMS) if atom["day"] == day and of(atom, dimension) == name and n]
        found[name] = (sum(1 << i for i in bits), n)
    return {name: cell for name, cell in found.items() if cell[1]}


def live(visits):
    """Returns the bits that may have visits: a name without visits on a day is known to be empty."""
    every = (1 << len(ATOMS)) - 1
    for dimension in NAMES:
        some = 0
        for day in DAYS:
            some |= sum(bits for bits, _ in cells_of(visits, day, dimension).values())
        every &= some
    return every


def answers(visits):
    """Yields the answer for each range of days: {dimension: {name: (bits, visits)}}, with `total`."""
    some = live(visits)
    days = {
        day: {
            dimension: {
                name: (bits & some, n)
                for name, (bits, n) in cells_of(visits, day, dimension).items()
                if name is not None
            }
            for dimension in NAMES
        }
        for day in DAYS
    }
    whole = {}
    for day in DAYS:
        cells = cells_of(visits, day, "country").values()
        n = sum(n for _, n in cells)
        if n >= LEAST:
            whole[day] = (sum(bits for bits, _ in cells) & some, n)
    for asked in (DAYS[:1], DAYS[1:], DAYS):
        found = disclosure.breakdowns({day: days[day] for day in asked}, whole, LEAST, KIND.get)
        total = disclosure.add_up({"total": whole[day]} for day in asked if day in whole)
        yield {**found, "total": total}


def span(vectors):
    """Returns rows with a leading 1 whose combinations include all of these rows."""
    rows = []
    for bits in vectors:
        row = reduced(bits, rows)
        lead = next((i for i, n in enumerate(row) if n), None)
        if lead is not None:
            inverse = pow(row[lead], -1, PRIME)
            rows.append((lead, [n * inverse % PRIME for n in row]))
    return rows


def reduced(bits, rows):
    row = [bits >> i & 1 for i in range(len(ATOMS))]
    for lead, other in rows:
        if factor := row[lead]:
            row = [(a - factor * b) % PRIME for a, b in zip(row, other, strict=True)]
    return row


def thinned(found):
    """Returns the numbers of visits, with at most one for rare names: small cells beside large ones."""
    visits, rare = found
    return [
        n if n < 2 or rare.isdisjoint(atom.values()) else 0 for atom, n in zip(ATOMS, visits, strict=True)
    ]


some_visits = st.tuples(
    st.lists(st.sampled_from([0, 0, 0, 0, 0, 1, 2, LEAST]), min_size=len(ATOMS), max_size=len(ATOMS)),
    st.sets(st.sampled_from([*DAYS, *(name for names in NAMES.values() for name in names)])),
).map(thinned)


@given(visits=some_visits)
def test_disclosure_combined_answers_reveal_nothing(visits):
    told = list(answers(visits))
    rows = span({cell[0] for found in told for cells in found.values() for cell in cells.values()})
    some = live(visits)
    for day in DAYS:
        for dimension in (*NAMES, "referrer_kind"):
            for bits, n in cells_of(visits, day, dimension).values():
                assert n >= LEAST or any(reduced(bits & some, rows)), (day, dimension)
        n = sum(n for _, n in cells_of(visits, day, "country").values())
        if 0 < n < LEAST:
            whole = sum(bits for bits, _ in cells_of(visits, day, "country").values())
            assert any(reduced(whole & some, rows))


@given(visits=some_visits)
def test_disclosure_totals_less_cells_are_never_small(visits):
    for found in answers(visits):
        total = sum(n for _, n in found["total"].values())
        for dimension in (*NAMES, "referrer_kind"):
            shown = [n for _, n in found.get(dimension, {}).values()]
            assert all(n >= LEAST for n in shown)
            assert total - sum(shown) == 0 or total - sum(shown) >= LEAST


def test_disclosure_breakdowns_are_shared(site, page, clock, count, partner):
    page(identity="own", min_cell=3)
    clock.at("2026-03-01T12:00Z")
    for visitor, name in enumerate("aaaaabbbc"):
        found = site.get("/p/page.gif", params={"v": visitor, "u": f"https://a.example/{name}"})
        assert found.headers["x-pixel"] == "recorded"
    clock.at("2026-03-02T12:00Z")
    site.get("/p/page.gif", params={"v": 1, "u": "https://a.example/today"})
    count(clock.now)
    found = partner("page/breakdowns", by="page,referrer_kind", from_="2026-03-01")
    assert found["by"] == {
        "page": [{"name": "/a", "views": 5, "visits": 5}, {"name": OTHER, "views": 4, "visits": 4}],
        "referrer_kind": [{"name": "(none)", "views": 9, "visits": 9}],
    }
    assert partner("page/breakdowns")["by"].keys() == set(disclosure.DIMENSIONS)
    own = site.get("/api/campaigns/page/breakdowns", params={"by": "page"}).json()["by"]["page"]
    assert [row["name"] for row in own] == ["/a", "/b", "/c", "/today"]


# Permissions


def test_disclosure_shared_calls_are_three():
    assert {call.path for call in routes.CALLS if call.allows_shared_key} == {
        "/api/campaigns/{id}",
        "/api/campaigns/{id}/stats",
        "/api/campaigns/{id}/breakdowns",
    }
    assert all(
        (call.method, call.scope) == ("GET", "read") for call in routes.CALLS if call.allows_shared_key
    )
