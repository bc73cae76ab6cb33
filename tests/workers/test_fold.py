"""A hit that raises an exception becomes a dead letter, and its shard goes on."""

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
from pixel_server.counters import web_names
from pixel_server.hit import Hit
from pixel_server.settings import Settings
from pixel_server.store import keys
from pixel_server.store.client import connect_async
from pixel_server.tokens import Mode
from tests.cluster_nodes import client_of
from workers import fold_mail, fold_web
from workers.rollup_pass import Outcome, Rollup

BAD = "raises"
"""Text in the hit for which a part raises an exception."""
NOW = 1_790_000_000
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
MAIL_HIT = Hit(
    *(NOW * 1000, "mail", hit.EMAIL, "GET", int(Mode.PSEUDONYMOUS), NOW, b"8 bytes!"),
    address=b"\x08\x08\x08\x08",
    agent=AGENT,
)
WEB_HIT = Hit(
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
def store(redis_url, client):
    """Returns a store with a mail campaign and a web campaign."""
    asyncio.run(create_campaigns(redis_url))
    return client


async def create_campaigns(url):
    store = connect_async(url)
    await storage.create(store, new_campaign("mail", "mail", "email"))
    await storage.create(store, new_campaign("page", "page", "web"))
    await store.aclose()


def raising(function):
    """Returns the function, changed to raise ZeroDivisionError if an argument contains BAD or is 7.7.7.7."""

    def call(*arguments, **options):
        for argument in arguments:
            if BAD in argument if isinstance(argument, str) else argument == b"\x07\x07\x07\x07":
                raise ZeroDivisionError(argument)
        return function(*arguments, **options)

    return call


rules_verdict = Rules.verdict


def verdict_of_no_class(rules, agent, *more):
    """Returns a verdict of an unknown class, for the agent BAD."""
    verdict = rules_verdict(rules, agent, *more)
    return Verdict("robot", NO_RULE, False, None, ()) if agent == BAD else verdict


PARTS = [
    ("dimension of a page", web_names, "page", WEB_HIT, {"page": BAD}),
    ("dimension of a language", web_names, "language", WEB_HIT, {"language": BAD}),
    ("referrer parser", web_names, "source", WEB_HIT, {"page_referrer": BAD}),
    ("agent parser", fold_web, "visitor_facets", WEB_HIT, {"agent": f"{AGENT} {BAD}"}),
    ("country of a view", fold_web, "country_label", WEB_HIT, {"address": b"\x07\x07\x07\x07"}),
    ("country of an open", fold_mail, "country_label", MAIL_HIT, {"address": b"\x07\x07\x07\x07", "gpc": ""}),
    ("classifier of mail", Rules, "verdict", MAIL_HIT, {"agent": BAD}),
    ("classifier of pages", Rules, "verdict", WEB_HIT, {"agent": BAD}),
]


@pytest.mark.parametrize(("name", "owner", "part", "good", "fields"), PARTS, ids=[part[0] for part in PARTS])
def test_fold_part_raises_for_one_hit_makes_it_a_dead_letter(
    store, settings, secrets, monkeypatch, name, owner, part, good, fields
):
    monkeypatch.setattr(owner, part, raising(getattr(owner, part)))
    bad = replace_hit(good, **{"gpc": "1"} | fields)
    assert roll_up(store, settings, secrets, [bad, good, bad, good]) == 4
    assert dead_letters(store) == [(b"cannot be counted: ZeroDivisionError", hit.encode(bad))] * 2
    totals = store.hgetall(keys.total(0, good.campaign))
    assert totals[b"hits"] == b"2"
    assert b"hits_gpc" not in totals
    assert store.hgetall(keys.drops(0)) == {}


@pytest.mark.parametrize("good", [MAIL_HIT, WEB_HIT], ids=["mail", "page"])
def test_fold_verdict_without_a_position_makes_it_a_dead_letter(store, settings, secrets, monkeypatch, good):
    monkeypatch.setattr(Rules, "verdict", verdict_of_no_class)
    bad = replace_hit(good, agent=BAD)
    assert roll_up(store, settings, secrets, [bad, good]) == 2
    assert dead_letters(store) == [(b"cannot be counted: KeyError", hit.encode(bad))]
    assert store.hget(keys.total(0, good.campaign), "hits") == b"1"


def test_fold_day_of_a_hit_raises_makes_it_a_dead_letter(store, settings, secrets, monkeypatch):
    day = times.local_day
    monkeypatch.setattr(times, "local_day", lambda start, zone: day(start, zone) if start else 1 // 0)
    bad = [replace_hit(MAIL_HIT, time=1), replace_hit(WEB_HIT, time=1)]
    assert roll_up(store, settings, secrets, [*bad, MAIL_HIT, WEB_HIT]) == 4
    assert [data for _, data in dead_letters(store)] == [hit.encode(one_hit) for one_hit in bad]


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
    spent_ms=numbers,
    visits=numbers,
    is_new=st.booleans(),
)


@options(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(any_hits, min_size=1, max_size=30))
def test_fold_any_hits_are_counted_dropped_or_dead_letters(valkey_url, secrets, hits):
    with client_of(valkey_url) as client:
        client.flushall()
        asyncio.run(create_campaigns(valkey_url))
        assert roll_up(client, Settings(redis_url=valkey_url, shards=1), secrets, hits) == len(hits)
        dropped = sum(int(n) for n in client.hvals(keys.drops(0)))
        names = [name.decode() for name in client.zrange(keys.CAMPAIGNS, 0, -1)]
        counted = sum(int(client.hget(keys.total(0, name), "hits") or 0) for name in names)
        assert counted + dropped + client.xlen(keys.dead(0)) == len(hits)


def replace_hit(original, **fields):
    return Hit(**{name: getattr(original, name) for name in Hit.__struct_fields__} | fields)


def roll_up(client, settings, secrets, hits):
    client.xadd(keys.hits(0), {"1": hit.encode_batch([hit.encode(one_hit) for one_hit in hits])})
    rollup = Rollup(client, replace(settings, keep_buckets=3650), secrets, 0)
    assert rollup.run_pass(min(NOW + 60, time.time())) is Outcome.COUNTED
    assert client.xlen(keys.hits(0)) == 0
    return rollup.counted


def dead_letters(client):
    return [(fields[b"reason"], fields[b"data"]) for _, fields in client.xrange(keys.dead(0))]
