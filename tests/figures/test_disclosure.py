"""Disclosure control: what a partner's key is shown, and that no withheld figure follows from answers."""

from __future__ import annotations

from collections import Counter
from datetime import date, datetime, timedelta
from itertools import combinations, product

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pixel_server.api import routes
from pixel_server.campaigns.campaign import Campaign
from pixel_server.counters.labels import OTHER
from pixel_server.figures import (
    disclosure,
    published_cells,
    ranges,
    shared_breakdowns,
    shared_open_rate,
    shared_stats,
    stats,
)
from pixel_server.figures.published_cells import Day
from pixel_server.figures.shared_breakdowns import Month, Week
from tests.figures.linear_span import follows, span
from tests.figures.test_stats_opens import PHONE
from tests.properties import examples

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
    frame = {"campaign", "from", "to", "interval", "time_zone", "as_of"}
    frame |= {"min_cell", "totals", "series", "estimates"}
    rate = {"sent_at", "sent", "delivered", "open_rate", "covered"}
    for campaign, more, figures in (
        ("page", set(), {"views", "visits", "unique_visitors"}),
        ("mail", {"opens_person_by", *rate}, {"opens", "unique_opens"}),
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


def test_disclosure_mail_shows_clients_of_closed_weeks(mail, opened, site, clock, partner):
    clock.at("2026-03-01T08:00Z")
    mail(min_cell=3)
    for day in ("03", "04", "06"):  # one open by a phone a day: withheld by day, shown by week
        for who in "abcd":
            opened(f"2026-03-{day}T12:00Z", who)
        agent, site.headers["User-Agent"] = site.headers["User-Agent"], PHONE
        opened(f"2026-03-{day}T12:00Z", f"phone-{day}")
        site.headers["User-Agent"] = agent
    clock.at("2026-03-08T12:00Z")
    assert partner("mail/stats", from_="2026-03-02")["opens_person_by"] == {"client": []}
    clock.at("2026-03-09T12:00Z")
    found = partner("mail/stats", from_="2026-03-02")
    assert found["covered"] == {"from": "2026-03-02", "to": "2026-03-09"}
    assert sorted(row["opens"] for row in found["opens_person_by"]["client"]) == [3, 12]
    assert {row["name"]: row["share"] for row in found["opens_person_by"]["client"]}["Chrome"] in (0.2, 0.8)
    assert partner("mail/stats", from_="2026-03-03")["covered"] is None, "a week is shown whole or not at all"
    assert partner("mail/stats")["opens_person_by"] is None


def test_disclosure_mail_clients_count_no_opens_by_machines(mail, opened, site, clock, partner):
    clock.at("2026-03-01T08:00Z")
    mail(min_cell=3)
    for week in ("03", "10"):
        for n, who in enumerate("abcd"):
            opened(f"2026-03-{week}T12:0{n}Z", who)
        agent = site.headers["User-Agent"]
        for n, other in enumerate((PHONE, PHONE, "Mozilla/5.0")):  # the last is Apple's machine
            site.headers["User-Agent"] = other
            opened(f"2026-03-{week}T13:0{n}Z", f"{week}-{n}")
        site.headers["User-Agent"] = agent
    clock.at("2026-03-17T12:00Z")
    shared = partner("mail/stats", from_="2026-03-02", to="2026-03-16")
    own = site.get("/api/campaigns/mail/stats").json()
    by_people = sum(row["opens"] for row in own["opens_person_by"]["client"])
    shared_rows = {row["name"]: row["opens"] for row in shared["opens_person_by"]["client"]}
    assert (by_people, own["totals"]["opens"]) == (12, 14)
    assert sum(shared_rows.values()) == 8, "the phones are withheld together with the machine"
    assert OTHER not in shared_rows


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


@settings(max_examples=examples(100))
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


def published(cells, whole=None):
    """Returns the published cells of a week with one day."""
    day = Day(cells, disclosure.add_cells(cells.values()) if whole is None else whole)
    return published_cells.publish([day], LEAST, adds_uncounted=True).cells()


@pytest.mark.parametrize(
    ("cells", "shown"),
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
def test_disclosure_publish_small_cells_go_to_other(cells, shown):
    found = published({name: (2 * n, n) for name, n in cells.items()})
    assert found == {name: (2 * n, n) for name, n in shown.items()}


def test_disclosure_publish_views_without_visit_are_small():
    assert published({"a": (9, 9), "b": (1, 0)}) == {OTHER: (10, 9)}


@pytest.mark.parametrize(
    ("whole", "shown"),
    [
        (15, {"a": 9, "b": 6}),
        (16, {"a": 9, OTHER: 7}),
        (19, {"a": 9, OTHER: 10}),
        (20, {"a": 9, "b": 6}),
        (10, {"a": 9, "b": 6}),  # a visit may count under several names
        (4, {}),
    ],
)
def test_disclosure_publish_small_rest_goes_to_other(whole, shown):
    found = published({"a": (9, 9), "b": (6, 6)}, (whole, whole))
    assert found == {name: (n, n) for name, n in shown.items()}


KIND = {"google": "search", "bing": "search", "mastodon": "social", "blog": "website"}


def week(first, whole):
    return Week(first, first, {first: whole})


def test_disclosure_kinds_are_sums_of_published_hosts():
    hosts = {"google": (9, 9), "bing": (3, 3), "mastodon": (6, 6), "blog": (2, 2)}
    month = Month((week("20260302", (20, 20)),), False)
    found = shared_breakdowns.breakdowns([month], {"20260302": {"referrer": hosts}}, LEAST, KIND.get)
    assert found["referrer"].cells == {"google": (9, 9), "mastodon": (6, 6), OTHER: (5, 5)}
    assert found["referrer_kind"].cells == {"search": (9, 9), "social": (6, 6), OTHER: (5, 5)}
    assert found["referrer"].withheld == found["referrer_kind"].withheld == (5, 5)


def test_disclosure_revealing_dimension_is_403():
    disclosure.check(["page", "country"], disclosure.DIMENSIONS["web"])
    for dimension in ("system", "browser", "entry", "exit", "language", "new"):
        with pytest.raises(disclosure.Problem) as caught:
            disclosure.check(["page", dimension], disclosure.DIMENSIONS["web"])
        assert caught.value.status == 403
        cells = {"20260302": {dimension: {"a": (9, 9)}, "page": {"a": (9, 9)}}}
        month = Month((week("20260302", (9, 9)),), False)
        assert shared_breakdowns.breakdowns([month], cells, LEAST, KIND.get).keys() == {"page"}


def test_disclosure_ranked_shows_most_visits_first():
    cells = {name: (n, n) for name, n in {"a": 5, OTHER: 20, "c": 9, "b": 9}.items()}
    assert disclosure.ranked(cells, 2) == [("b", (9, 9)), ("c", (9, 9)), (OTHER, (25, 25))]
    assert disclosure.ranked({"a": (5, 5)}, 2) == [("a", (5, 5))]


# Computing a withheld cell. No decision depends on views, so each visit here has views that are one bit: the
# views of an answer tell which visits it sums. A withheld cell must not be a combination of such sums.

WEEKS = ("20260302", "20260309")
NAMES = {
    "page": ("/", "/prices", OTHER),
    "referrer": tuple(KIND),
    "country": ("SE", "FR"),
    "utm_source": ("letter", None),
}
ATOMS = [dict(zip(("week", *NAMES), names, strict=True)) for names in product(WEEKS, *NAMES.values())]


def of(atom, dimension):
    return KIND[atom["referrer"]] if dimension == "referrer_kind" else atom[dimension]


def cells_of(visits, week, dimension):
    """Returns {name: (bits, visits)} of a week. A name without a visit is left out."""
    counts = Counter()
    for atom, n in zip(ATOMS, visits, strict=True):
        if atom["week"] == week:
            counts[of(atom, dimension)] += n
    found = {}
    for name, n in counts.items():
        bits = [
            i for i, atom in enumerate(ATOMS) if atom["week"] == week and of(atom, dimension) == name and n
        ]
        found[name] = (sum(1 << i for i in bits), n)
    return {name: cell for name, cell in found.items() if cell[1]}


def live(visits):
    """Returns the bits that may have visits: a name without visits in a week is known to be empty."""
    every = (1 << len(ATOMS)) - 1
    for dimension in NAMES:
        some = 0
        for week in WEEKS:
            some |= sum(bits for bits, _ in cells_of(visits, week, dimension).values())
        every &= some
    return every


def answers(visits):
    """Yields the answer for each range of weeks: {dimension: {name: (bits, visits)}}, with `total`.

    Both weeks together are answered as parts of a month, and as a whole month.
    """
    some = live(visits)
    cells = {
        week: {
            dimension: {
                name: (bits & some, n)
                for name, (bits, n) in cells_of(visits, week, dimension).items()
                if name is not None
            }
            for dimension in NAMES
        }
        for week in WEEKS
    }
    weeks = []
    for name in WEEKS:
        countries = cells_of(visits, name, "country").values()
        n = sum(n for _, n in countries)
        if n >= LEAST:  # a week of small days counts none of its visits
            weeks.append(week(name, (sum(bits for bits, _ in countries) & some, n)))
    ranges_of_weeks = [((one,), False) for one in weeks]
    if len(weeks) == len(WEEKS):
        ranges_of_weeks += [(tuple(weeks), False), (tuple(weeks), True)]
    for asked, is_whole in ranges_of_weeks:
        found = shared_breakdowns.breakdowns([Month(asked, is_whole)], cells, LEAST, KIND.get)
        told = {dimension: {**each.cells, "withheld": each.withheld} for dimension, each in found.items()}
        yield {**told, "total": {"total": disclosure.add_cells(one.whole for one in asked)}}


def thinned(found):
    """Returns the numbers of visits, with at most one for rare names: small cells beside large ones."""
    visits, rare = found
    return [
        n if n < 2 or rare.isdisjoint(atom.values()) else 0 for atom, n in zip(ATOMS, visits, strict=True)
    ]


some_visits = st.tuples(
    st.lists(st.sampled_from([0, 0, 0, 0, 0, 1, 2, 3, 4, LEAST]), min_size=len(ATOMS), max_size=len(ATOMS)),
    st.sets(st.sampled_from([*WEEKS, *(name for names in NAMES.values() for name in names)])),
).map(thinned)


@settings(max_examples=examples(100))
@given(visits=some_visits)
def test_disclosure_combined_answers_reveal_nothing(visits):
    told = list(answers(visits))
    rows = span({cell[0] for found in told for cells in found.values() for cell in cells.values()})
    some = live(visits)
    for dimension in (*NAMES, "referrer_kind"):
        both = Counter(), Counter()
        for name in WEEKS:
            for value, (bits, n) in cells_of(visits, name, dimension).items():
                both[0][value] += bits & some
                both[1][value] += n
                assert n >= LEAST or not follows(bits & some, rows), (name, dimension)
        for value, bits in both[0].items():
            assert both[1][value] >= LEAST or not follows(bits, rows), dimension
    for name in WEEKS:
        countries = cells_of(visits, name, "country").values()
        if 0 < sum(n for _, n in countries) < LEAST:
            assert not follows(sum(bits for bits, _ in countries) & some, rows)


@settings(max_examples=examples(100))
@given(visits=some_visits)
def test_disclosure_totals_less_cells_are_never_small(visits):
    for found in answers(visits):
        total = sum(n for _, n in found["total"].values())
        for dimension in (*NAMES, "referrer_kind"):
            shown = [n for name, (_, n) in found.get(dimension, {}).items() if name != "withheld"]
            assert all(n >= LEAST for n in shown)
            if dimension in found:
                named = [n for name, (_, n) in found[dimension].items() if name not in (OTHER, "withheld")]
                assert total - sum(named) == found[dimension]["withheld"][1]
            assert total - sum(shown) == 0 or total - sum(shown) >= LEAST


def test_disclosure_month_shows_names_that_each_week_withholds():
    weeks = [week(f"202603{first:02}", (30, 30)) for first in (2, 9, 16)]
    cells = {
        one.first: {"device": {"desktop": (20, 20), "phone": (3, 3), "tablet": (1, 1), "watch": (6, 6)}}
        for one in weeks
    }

    def shown(is_whole, least=LEAST):
        month = Month(tuple(weeks), is_whole)
        return shared_breakdowns.breakdowns([month], cells, least, KIND.get)["device"].cells

    assert shown(False) == {"desktop": (60, 60), OTHER: (30, 30)}, "watch hides the small rest"
    for one in cells.values():
        one["device"]["console"] = (4, 4)
    weeks = [week(one.first, (34, 34)) for one in weeks]
    assert shown(False) == {"desktop": (60, 60), "watch": (18, 18), OTHER: (24, 24)}
    month = {"desktop": (60, 60), "watch": (18, 18), "phone": (9, 9), OTHER: (15, 15)}
    assert shown(True) == month, "with console too, less than 5 visits of a week would be left"
    for one in cells.values():
        one["device"]["book"] = (4, 4)
    weeks = [week(one.first, (38, 38)) for one in weeks]
    assert shown(True) == {**month, "book": (12, 12)}
    assert shown(False) == {"desktop": (60, 60), "watch": (18, 18), OTHER: (36, 36)}


# Computing a withheld day or cell from answers of many ranges, and of many times


FORTNIGHT = [date(2026, 3, 2) + timedelta(n) for n in range(14)]
DEVICES = ("desktop", "phone")
NUMBERS = {day.strftime("%Y%m%d"): n for n, day in enumerate(FORTNIGHT)}
RANGES = {
    (start, end): ranges.parse(
        {"from": str(FORTNIGHT[0] + timedelta(start)), "to": str(FORTNIGHT[0] + timedelta(end))}, "UTC", 0
    )
    for start, end in combinations(range(len(FORTNIGHT) + 1), 2)
}
"""All ranges of the fortnight, by the number of the first day and of the day after the last."""
some_days = st.lists(st.tuples(st.integers(0, 2 * LEAST), st.integers(0, LEAST)), min_size=14, max_size=14)


@example(days=[(0, 0)] * 12 + [(3, 5), (5, 0)])  # Saturday less the phones of the week is 3
@settings(max_examples=examples(50))
@given(days=some_days)
def test_disclosure_answers_of_many_ranges_and_times_reveal_nothing(days):
    web = campaign(kind="web")
    bit = {(n, device): 1 << (2 * n + k) for n in range(14) for k, device in enumerate(DEVICES)}
    vectors, seen = set(), []
    for now, ((start, end), wanted) in product(range(15), RANGES.items()):
        series = [
            {
                "start": f"{FORTNIGHT[n]}T00:00:00+00:00",
                "views": bit[n, "desktop"] * bool(days[n][0]) + bit[n, "phone"] * bool(days[n][1]),
                "visits": sum(days[n]),
                "unique_visitors": None,
            }
            for n in range(start, end)
        ]
        until = datetime.fromisoformat(f"{FORTNIGHT[0]}T01:00Z").timestamp() + now * 86400
        shown = disclosure.figures({"series": series, "estimates": {}}, web, wanted, until)
        vectors |= {item["views"] for item in shown["series"] if item["views"] is not None}
        months = shared_breakdowns.closed_months(series, web, wanted, until)
        if months in seen:
            continue
        seen.append(months)
        cells = {
            day: {
                "device": {
                    device: (bit[NUMBERS[day], device], days[NUMBERS[day]][k])
                    for k, device in enumerate(DEVICES)
                    if days[NUMBERS[day]][k]
                }
            }
            for month in months
            for day in month.days()
        }
        found = shared_breakdowns.breakdowns(months, cells, LEAST, KIND.get)
        if "device" in found:
            vectors |= {views for views, _ in [*found["device"].cells.values(), found["device"].withheld]}
        vectors.add(disclosure.add_cells(one.whole for month in months for one in month.weeks)[0])
    rows = span(vectors)
    for n, counts in enumerate(days):
        for k, device in enumerate(DEVICES):
            assert not 0 < counts[k] < LEAST or not follows(bit[n, device], rows)
        whole = sum(bit[n, device] for k, device in enumerate(DEVICES) if counts[k])
        assert not 0 < sum(counts) < LEAST or not follows(whole, rows)
    for first in (0, 7):
        for k, device in enumerate(DEVICES):
            used = [n for n in range(first, first + 7) if days[n][k]]
            assert not 0 < sum(days[n][k] for n in used) < LEAST or not follows(
                sum(bit[n, device] for n in used), rows
            )


first_opens = st.lists(
    st.tuples(st.integers(0, 2 * LEAST), st.integers(0, 2 * LEAST), st.integers(0, LEAST)), max_size=20
)


@settings(max_examples=examples(100))
@given(counts=first_opens)
def test_disclosure_open_rate_grows_in_steps_that_are_never_small(counts):
    mailing = campaign(kind="email")
    days = [
        {"opens": again + person + machine, "unique_opens": person + machine, "unique_opens_person": person}
        for again, person, machine in counts
    ]
    before = shared_open_rate.FirstOpens(0, 0, 0)
    for today in range(len(days) + 1):
        now = shared_open_rate.count_first_opens(days[:today], mailing)
        step = now.opened - before.opened, now.person - before.person
        for grown in (*step, step[0] - step[1]):
            assert grown == 0 or grown >= LEAST
        shown = [disclosure.shown_day(day, mailing)["unique_opens"] for day in days[: now.day_count]]
        rest = now.opened - sum(number for number in shown if number is not None)
        assert rest == 0 or rest >= LEAST
        before = now


def test_disclosure_mailing_shows_open_rate_and_sent(mail, opened, clock, partner):
    clock.at("2026-03-02T08:00Z")
    mail(min_cell=3, sent=20, bounced=0)
    for who in "ab":
        opened("2026-03-02T09:00Z", who)
    clock.at("2026-03-03T12:00Z")
    first = partner("mail/stats", from_="2026-03-02")
    assert (first["sent"], first["delivered"], first["open_rate"]) == (20, 20, None), "only two have opened"
    for who in "cd":
        opened("2026-03-03T13:00Z", who)
    clock.at("2026-03-04T12:00Z")
    opened("2026-03-04T11:00Z", "today")
    rate = partner("mail/stats", from_="2026-03-03")["open_rate"]
    assert rate == {"low": 0.2, "high": 0.2, "until": "2026-03-04T00:00:00+00:00"}
    clock.at("2026-03-05T12:00Z")
    assert partner("mail/stats")["open_rate"] == rate, "one more is not a step"


@pytest.mark.parametrize(
    ("sent", "openers", "shown"), [(8, 6, False), (9, 6, True), (6, 6, True), (5, 6, False)]
)
def test_disclosure_open_rate_with_few_unopened_mails_is_withheld(
    mail, opened, clock, partner, sent, openers, shown
):
    clock.at("2026-03-02T08:00Z")
    mail(min_cell=3, sent=sent)
    for who in range(openers):
        opened("2026-03-02T09:00Z", str(who))
    clock.at("2026-03-03T12:00Z")
    assert (partner("mail/stats")["open_rate"] is not None) == shown


def exact(share):
    return {"share": share, "share_low": share, "share_high": share}


def test_disclosure_shares_with_withheld_visits_are_limits(site, page, clock, count, partner):
    """In the first week `/b` is withheld, so its number in the second week is not all that it has."""
    page(identity="own", min_cell=3)
    for day, names in ((2, "aaaaaabbc"), (9, "aaabbb")):
        clock.at(f"2026-03-0{day}T12:00Z")
        for visitor, name in enumerate(names):
            site.get("/p/page.gif", params={"v": f"{day}{visitor}", "u": f"https://a.example/{name}"})
        count(clock.now)
    clock.at("2026-03-16T12:00Z")
    unknown = dict.fromkeys(("share", "share_low", "share_high"))
    assert partner("page/breakdowns", by="page", from_="2026-03-02")["by"]["page"] == [
        {"name": "/a", "views": 9, "visits": 9, "share": None, "share_low": 0.6, "share_high": 0.8},
        {"name": "/b", "views": 3, "visits": 3, "share": None, "share_low": 0.2, "share_high": 0.4},
        {"name": OTHER, "views": 3, "visits": 3, **unknown},
    ]
    alone = partner("page/breakdowns", by="page", from_="2026-03-09")["by"]["page"]
    assert [row["share"] for row in alone] == [0.5, 0.5], "nothing is withheld in this week"


def test_disclosure_limits_of_shares_are_rounded_away_from_each_other(site, page, clock, count, partner):
    page(identity="own", min_cell=3)
    clock.at("2026-03-02T12:00Z")
    for visitor, name in enumerate("aaabcde"):
        site.get("/p/page.gif", params={"v": str(visitor), "u": f"https://a.example/{name}"})
    count(clock.now)
    clock.at("2026-03-09T12:00Z")
    row, _ = partner("page/breakdowns", by="page", from_="2026-03-02")["by"]["page"]
    assert (row["share_low"], row["share_high"]) == (0.4285, 1.0)
    assert row["share_low"] < 3 / 7


def test_disclosure_breakdowns_are_shared_by_closed_week(site, page, clock, count, partner):
    page(identity="own", min_cell=3)
    for day in (2, 3, 4):  # a page that one visitor sees each day is withheld by day, and shown by week
        clock.at(f"2026-03-0{day}T12:00Z")
        for visitor, name in enumerate("aaaab"):
            found = site.get("/p/page.gif", params={"v": f"{day}{visitor}", "u": f"https://a.example/{name}"})
            assert found.headers["x-pixel"] == "recorded"
        count(clock.now)
    clock.at("2026-03-09T12:00Z")
    site.get("/p/page.gif", params={"v": 1, "u": "https://a.example/today"})
    count(clock.now)
    found = partner("page/breakdowns", by="page,referrer_kind", from_="2026-03-02")
    assert found["by"] == {
        "page": [
            {"name": "/a", "views": 12, "visits": 12, **exact(0.8)},
            {"name": "/b", "views": 3, "visits": 3, **exact(0.2)},
        ],
        "referrer_kind": [{"name": "(none)", "views": 15, "visits": 15, **exact(1.0)}],
    }
    assert (found["covered"], found["visits"]) == ({"from": "2026-03-02", "to": "2026-03-09"}, 15)
    cut = partner("page/breakdowns", by="page", from_="2026-03-03")
    assert (cut["by"], cut["covered"], cut["visits"]) == ({"page": []}, None, 0)
    assert partner("page/breakdowns")["by"].keys() == set(disclosure.DIMENSIONS["web"])
    own = site.get("/api/campaigns/page/breakdowns", params={"by": "page"}).json()["by"]["page"]
    assert [row["name"] for row in own] == ["/a", "/b", "/today"]


def test_disclosure_mail_breakdowns_show_clients_of_the_last_days(mail, opened, clock, partner):
    mail(min_cell=3)
    for who in "abc":
        opened("2026-03-02T09:00Z", who)
    clock.at("2026-03-09T12:00Z")
    found = partner("mail/breakdowns")
    assert found["by"] == {"client": [{"name": "Thunderbird", "opens": 3, **exact(1.0)}]}
    assert (found["from"][:10], found["covered"]["to"]) == ("2026-02-06", "2026-03-09")
    assert partner("mail/breakdowns", by="client", from_="2026-03-02")["by"] == found["by"]
    partner("mail/breakdowns", status=403, by="device")


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
