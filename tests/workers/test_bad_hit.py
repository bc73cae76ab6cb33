"""Whatever raises an exception for one hit: that hit becomes a dead letter, and its shard goes on."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as options
from hypothesis import strategies as st

from pixel_server import hit, times
from pixel_server.campaigns import storage
from pixel_server.campaigns.campaign import new_campaign
from pixel_server.classify.judge import load_judge
from pixel_server.classify.rule_file import NO_RULE
from pixel_server.classify.rules import Rules, Verdict
from pixel_server.counters import web_breakdown, web_names
from pixel_server.hit import Hit
from pixel_server.settings import Settings
from pixel_server.store import keys
from pixel_server.store.client import connect, connect_async
from pixel_server.tokens import Mode
from workers import fold_mail, fold_web
from workers.rollup_pass import Outcome, Rollup

BAD = "raises"
"""Text of the hit whose parts raise an exception in these tests."""
NOW = 1_790_000_000
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
MAILED = Hit(
    *(NOW * 1000, "mail", hit.EMAIL, "GET", int(Mode.PSEUDONYMOUS), NOW, b"8 bytes!"),
    address=b"\x08\x08\x08\x08",
    agent=AGENT,
)
VIEWED = Hit(
    *(NOW * 1000, "page", hit.WEB, "GET"),
    address=b"\x08\x08\x08\x08",
    agent=AGENT,
    page="https://shop.example/",
)


@pytest.fixture(autouse=True)
def fresh_judge():
    load_judge.cache_clear()
    yield
    load_judge.cache_clear()


@pytest.fixture
def there(redis_url, client):
    """The store, with a mail campaign and a web campaign."""
    asyncio.run(make(redis_url))
    return client


async def make(url):
    made = connect_async(url)
    await storage.create(made, new_campaign("mail", "mail", "email"))
    await storage.create(made, new_campaign("page", "page", "web"))
    await made.aclose()


def raising(function):
    """The function, which raises ZeroDivisionError if an argument has BAD in it, or is 7.7.7.7."""

    def call(*arguments):
        for one in arguments:
            if BAD in one if isinstance(one, str) else one == b"\x07\x07\x07\x07":
                raise ZeroDivisionError(one)
        return function(*arguments)

    return call


def of_no_class(rules, agent, *more):
    found = Rules_verdict(rules, agent, *more)
    return Verdict("robot", NO_RULE, False, None, ()) if agent == BAD else found


Rules_verdict = Rules.verdict
PARTS = [
    ("dimension of a page", web_names, "page", VIEWED, {"page": BAD}),
    ("dimension of a language", web_names, "language", VIEWED, {"language": BAD}),
    ("referrer parser", web_names, "source", VIEWED, {"page_referrer": BAD}),
    ("agent parser", fold_web, "reader", VIEWED, {"agent": f"{AGENT} {BAD}"}),
    ("country of a view", fold_web, "country_label", VIEWED, {"address": b"\x07\x07\x07\x07"}),
    ("country of an open", fold_mail, "country_label", MAILED, {"address": b"\x07\x07\x07\x07", "gpc": ""}),
    ("classifier of mail", Rules, "verdict", MAILED, {"agent": BAD}),
    ("classifier of pages", Rules, "verdict", VIEWED, {"agent": BAD}),
]


@pytest.mark.parametrize(("name", "owner", "part", "good", "fields"), PARTS, ids=[one[0] for one in PARTS])
def test_rollup_part_raises_for_one_hit_sets_that_hit_aside(
    there, settings, secrets, monkeypatch, name, owner, part, good, fields
):
    monkeypatch.setattr(owner, part, raising(getattr(owner, part)))
    bad = replace_hit(good, **{"gpc": "1"} | fields)
    assert roll_up(there, settings, secrets, [bad, good, bad, good]) == 4
    assert dead_letters(there) == [(b"cannot be counted: ZeroDivisionError", hit.encode(bad))] * 2
    totals = there.hgetall(keys.total(0, good.campaign))
    assert totals[b"hits"] == b"2"
    assert b"hits_gpc" not in totals
    assert there.hgetall(keys.drops(0)) == {}


@pytest.mark.parametrize("good", [MAILED, VIEWED], ids=["mail", "page"])
def test_rollup_verdict_without_a_position_sets_the_hit_aside(there, settings, secrets, monkeypatch, good):
    monkeypatch.setattr(Rules, "verdict", of_no_class)
    bad = replace_hit(good, agent=BAD)
    assert roll_up(there, settings, secrets, [bad, good]) == 2
    assert dead_letters(there) == [(b"cannot be counted: KeyError", hit.encode(bad))]
    assert there.hget(keys.total(0, good.campaign), "hits") == b"1"


def test_rollup_day_of_a_hit_raises_sets_the_hit_aside(there, settings, secrets, monkeypatch):
    day = times.local_day
    monkeypatch.setattr(times, "local_day", lambda start, zone: day(start, zone) if start else 1 // 0)
    bad = [replace_hit(MAILED, time=1), replace_hit(VIEWED, time=1)]
    assert roll_up(there, settings, secrets, [*bad, MAILED, VIEWED]) == 4
    assert [data for _, data in dead_letters(there)] == [hit.encode(one) for one in bad]


def test_reader_fields_are_the_dimensions_that_are_stored():
    counted = web_breakdown.DayCounts()
    who = web_breakdown.Reader(
        country="DE", browser="Firefox", system="Linux", device="desktop", language="de"
    )
    counted.readers[who] = [3, 1]
    found = web_breakdown.by_dimension(counted)
    assert {name: names for name, names in found.items() if names} == {
        "country": {"DE": [3, 1]},
        "browser": {"Firefox": [3, 1]},
        "system": {"Linux": [3, 1]},
        "device": {"desktop": [3, 1]},
        "language": {"de": [3, 1]},
    }


numbers = st.integers(-(2**63), 2**64 - 1) | st.sampled_from([0, -1, NOW, NOW * 1000])
instants = numbers | st.integers(0, NOW * 1000 + 86_400_000)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
short = st.binary(max_size=20) | st.binary(min_size=8, max_size=8) | st.binary(min_size=4, max_size=4)
any_hits = st.builds(
    Hit,
    time=instants,
    campaign=st.sampled_from(["mail", "page", "new"]) | text,
    kind=st.sampled_from([hit.EMAIL, hit.WEB]) | text,
    method=st.sampled_from(["GET", "HEAD", "POST"]) | text,
    flags=st.integers(0, 255) | numbers,
    token_time=numbers,
    **dict.fromkeys(("recipient", "visitor", "address", "view"), short),
    **dict.fromkeys(Hit.__struct_fields__[9:17], text),
    spent=numbers,
    visits=numbers,
    is_new=st.booleans(),
)


@options(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(any_hits, min_size=1, max_size=30))
def test_rollup_any_hits_are_counted_dropped_or_set_aside(valkey_url, secrets, hits):
    with connect(valkey_url) as client:
        client.flushall()
        asyncio.run(make(valkey_url))
        assert roll_up(client, Settings(redis_url=valkey_url, shards=1), secrets, hits) == len(hits)
        dropped = sum(int(n) for n in client.hvals(keys.drops(0)))
        names = [name.decode() for name in client.zrange(keys.CAMPAIGNS, 0, -1)]
        counted = sum(int(client.hget(keys.total(0, name), "hits") or 0) for name in names)
        assert counted + dropped + client.xlen(keys.dead(0)) == len(hits)


def replace_hit(one, **fields):
    return Hit(**{name: getattr(one, name) for name in Hit.__struct_fields__} | fields)


def roll_up(client, settings, secrets, hits):
    client.xadd(keys.hits(0), {"1": hit.encode_batch([hit.encode(one) for one in hits])})
    rollup = Rollup(client, replace(settings, keep_buckets=3650), secrets, 0)
    assert rollup.step(min(NOW + 60, time.time())) is Outcome.COUNTED
    assert client.xlen(keys.hits(0)) == 0
    return rollup.counted


def dead_letters(client):
    return [(fields[b"reason"], fields[b"data"]) for _, fields in client.xrange(keys.dead(0))]
