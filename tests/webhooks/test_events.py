"""The events that a roll-up puts into its shard's outbox, in the commit that counts the hits."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest

from pixel_server import hit
from pixel_server.campaigns import storage as campaigns
from pixel_server.campaigns.campaign import new_campaign
from pixel_server.counters import recipient_record
from pixel_server.hit import Hit
from pixel_server.store import keys
from pixel_server.store.client import connect_async
from pixel_server.tokens import SENDING, TEST, Mode, Token
from pixel_server.webhooks import event, outbox, storage
from tests.properties.crashing_rollup import Killed, Wire, kill
from tests.stack import READER
from workers.rollup_pass import Outcome, Rollup

ADA, BOB = b"ada45678", b"bob45678"
SENT = 1_790_000_000
NOW = SENT + 5000.0
GATEWAYS = [bytes([8, 8, 8, n]) for n in (1, 2, 3)]


def opened(seconds, recipient=ADA, mode=Mode.PSEUDONYMOUS, **fields):
    """Returns an open by a person's mail program, so many seconds after sending."""
    flags = fields.pop("flags", 0) | Token("mail", 0, recipient, mode).flags
    key = recipient if mode > Mode.COUNT else b""
    defaults = {"address": b"\x08\x08\x08\x08", "agent": READER}
    return Hit(
        *((SENT + seconds) * 1000, "mail", hit.EMAIL, "GET", flags, SENT, key), **{**defaults, **fields}
    )


class Shard:
    """Shard 0 of a store with one campaign, whose endpoints want the given events."""

    def __init__(self, client, settings, secrets):
        self.client, self.settings, self.secrets = client, settings, secrets

        async def make():
            store = connect_async(settings.redis_url)
            await campaigns.create(store, new_campaign("mail", "mail", "email"))
            await store.aclose()

        asyncio.run(make())

    def want(self, *events, **fields):
        async def make():
            store = connect_async(self.settings.redis_url)
            wanted = {"url": "https://a.example/", "events": events, "scopes": ["people"], **fields}
            await storage.create(store, self.settings, **wanted)
            await store.aclose()

        asyncio.run(make())

    def store(self, *hits):
        self.client.xadd(keys.hits(0), {"1": hit.encode_batch([hit.encode(each) for each in hits])})

    def count(self, *hits):
        """Counts these hits in one pass. Returns the new events."""
        before = self.events()
        self.store(*hits)
        assert Rollup(self.client, self.settings, self.secrets, 0).run_pass(NOW) is Outcome.COUNTED
        return self.events()[len(before) :]

    def events(self):
        entries = self.client.xrange(keys.outbox(0))
        return [event.decode(fields[b"event"]) for _, fields in entries if b"event" in fields]

    def looks(self):
        return [fields[b"look"] for _, fields in self.client.xrange(keys.outbox(0)) if b"look" in fields]


@pytest.fixture
def shard(client, settings, secrets):
    return Shard(client, settings, secrets)


def test_rollup_first_open_by_a_person_makes_one_event(shard):
    shard.want("open.first")
    [made] = shard.count(opened(700), opened(900))
    assert (made.type, made.time, made.campaign, made.recipient) == (
        *("open.first", (SENT + 700) * 1000),
        *("mail", ADA),
    )
    assert made.details == {
        **{"verdict": "person", "rule": "mail-client"},
        **{"client": "Thunderbird", "country": "US"},
    }
    assert shard.count(opened(1000), opened(20)) == []
    [other] = shard.count(opened(1000, BOB))
    assert other.id != made.id


def test_rollup_each_open_makes_an_event_of_its_own(shard):
    shard.want("open.each")
    made = shard.count(opened(700), opened(700), opened(900))
    assert [one.time for one in made] == [(SENT + 700) * 1000] * 2 + [(SENT + 900) * 1000]
    assert len({one.id for one in made}) == 3


@pytest.mark.parametrize(
    "given",
    [
        opened(700, mode=Mode.COUNT),
        opened(700, mode=Mode.LAST),
        opened(700, flags=TEST),
        opened(700, gpc="1"),
        opened(700, agent="curl/8.5.0"),
        opened(2, flags=SENDING),  # by a scanner: too soon
    ],
)
def test_rollup_open_of_nobody_who_may_be_known_makes_no_event(shard, given):
    shard.want("open.first", "open.each")
    assert shard.count(given) == []


def test_rollup_only_wanted_events_are_made(shard):
    assert shard.count(opened(700)) == []
    shard.want("health", "withdrawal")
    shard.want("open.first", campaigns=["other"])
    shard.want("campaign.milestone", scopes=[])
    assert shard.count(opened(700, BOB)) == []
    assert shard.looks() == [b"mail"]


def test_rollup_burst_in_one_pass_makes_no_event(shard):
    shard.want("open.first", "open.each")
    assert shard.count(*(opened(700 + n, address=GATEWAYS[n]) for n in range(3))) == []
    [first, each] = shard.count(opened(2000))
    assert (first.type, each.type) == ("open.first", "open.each")


def test_rollup_burst_that_takes_opens_back_makes_a_correction(shard):
    shard.want("open.first", "open.each")
    early = shard.count(opened(700, address=GATEWAYS[0]))
    early += shard.count(opened(701, address=GATEWAYS[1]))
    [correction] = shard.count(opened(702, address=GATEWAYS[2]))
    assert [one.type for one in early] == ["open.first", "open.each", "open.each"]
    assert correction.type == "open.correction"
    assert sorted(correction.details["corrects"]) == sorted(one.id for one in early)
    assert correction.details["opens_taken_back"] == 2
    assert correction.details["first_open"] is None
    [first, _] = shard.count(opened(3000))
    assert first.type == "open.first"
    assert first.id not in correction.details["corrects"]


def test_rollup_burst_that_leaves_a_later_open_names_it(shard):
    shard.want("open.first")
    [early] = shard.count(opened(700, address=GATEWAYS[0]), opened(790))
    shard.count(opened(701, address=GATEWAYS[1]))
    [correction] = [one for one in shard.count(opened(702, address=GATEWAYS[2])) if one]
    assert correction.details["corrects"] == [early.id]
    assert correction.details["first_open"] == "2026-09-21T14:26:30.000Z"


@pytest.mark.parametrize("seed", range(12))
def test_rollup_events_tell_who_has_opened_however_bursts_come_and_passes_are_cut(shard, seed, client):
    """Who follows the events knows after each pass which recipients have an open by a person."""
    shard.want("open.first")
    draw = random.Random(seed)
    has_opened = dict.fromkeys((ADA, BOB), False)
    held = set()
    for _ in range(12):
        hits = [
            opened(700 + draw.randrange(200), recipient, address=draw.choice(GATEWAYS))
            for recipient in draw.choices([ADA, BOB], k=draw.randrange(1, 4))
        ]
        for made in shard.count(*hits):
            if made.type == "open.first":
                assert made.id not in held
                held.add(made.id)
                has_opened[made.recipient] = True
            else:
                has_opened[made.recipient] = made.details["first_open"] is not None
        for recipient, is_known in has_opened.items():
            bucket = recipient_record.people_bucket(recipient)
            record = recipient_record.unpack(client.hget(keys.people(0, "mail", bucket), recipient))
            assert bool(record.person) == is_known


def test_rollup_killed_at_each_command_makes_each_event_once(shard, client):
    """The roll-up is killed before and after each command, and a new one begins."""
    shard.want("open.first", "open.each")
    wire, killed, expected = Wire(client, {}), 0, []
    while killed == 0 or wire.commands >= killed:
        killed += 1
        for is_after in (False, True):
            recipient = b"%08d" % (2 * killed + is_after)
            shard.store(opened(700, recipient), opened(900, recipient))
            wire = Wire(client, {(killed, is_after): kill})
            with contextlib.suppress(Killed):
                Rollup(wire, shard.settings, shard.secrets, 0).run_pass(NOW)
            while Rollup(client, shard.settings, shard.secrets, 0).run_pass(NOW) is Outcome.COUNTED:
                pass
            expected += [("open.first", recipient), *[("open.each", recipient)] * 2]
    made = shard.events()
    assert killed > 4
    assert [(one.type, one.recipient) for one in made] == expected
    assert len({one.id for one in made}) == len(made)


def test_rollup_commit_that_the_store_lost_makes_the_same_ids_again(shard, client):
    shard.want("open.first", "open.each")
    given = [opened(700), opened(800, BOB)]
    names = [name.decode() for name in client.keys("px:{0}:*")]
    made = shard.count(*given)
    client.delete(*set(client.keys("px:{0}:*")) - set(names))
    assert [one.id for one in shard.count(*given)] == [one.id for one in made]


def test_rollup_full_outbox_drops_events_and_counts_hits(shard, client, monkeypatch):
    monkeypatch.setattr(outbox, "MAX_ENTRIES", 4)  # two of each shard
    shard.want("open.first")
    shard.count(*(opened(700, b"%08d" % n) for n in range(5)))
    assert len(shard.events()) == 2
    assert [fields[b"lost"] for _, fields in client.xrange(keys.outbox(0)) if b"lost" in fields] == [b"3"]
    assert client.hget(keys.total(0, "mail"), "unique_opens_person") == b"5"
