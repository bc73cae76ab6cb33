"""Counting of what mail services report: each recipient once, in any order, however often it is reported."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

import msgspec
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pixel_server.campaigns import purge, retention, storage
from pixel_server.counters.delivery_record import KINDS
from pixel_server.counters.stored_format import NewerFormat
from pixel_server.deliveries import count
from pixel_server.deliveries.event import Delivery
from pixel_server.deliveries.take import Taker
from pixel_server.recipients import erasure, withdrawals
from pixel_server.store import checkpoint, keys
from pixel_server.store.client import connect_async
from pixel_server.store.protocols import AsyncRedis
from tests.conftest import NOW

T = TypeVar("T")
SHARDS = 4


@pytest.fixture
def run(settings) -> Callable[[Callable[[AsyncRedis], Awaitable[T]]], T]:
    """Returns a function that calls another with a store."""

    def run(act: Callable[[AsyncRedis], Awaitable[T]]) -> T:
        async def with_store() -> T:
            store = connect_async(settings.redis_url)
            try:
                return await act(store)
            finally:
                await store.aclose()

        return asyncio.run(with_store())

    return run


@pytest.fixture
def take(run, settings, secrets):
    """Returns a function that takes events, (recipient, kind) or Delivery, and returns what was taken."""

    def take(*events, campaign="mail", now=NOW):
        taker = Taker("", secrets, settings, now, "key test")

        async def act(store):
            taker.store = store
            await taker.take(
                event if isinstance(event, Delivery) else Delivery((campaign,), *event) for event in events
            )

        run(act)
        return taker.taken

    return take


@pytest.fixture
def totals(client):
    """Returns a function that gives the totals of a campaign that are not 0."""

    def totals(campaign="mail"):
        sums = Counter()
        for shard in range(SHARDS):
            for name, value in client.hgetall(keys.total(shard, campaign)).items():
                sums[name.decode()] += int(value)
        return {name: number for name, number in sums.items() if number}

    return totals


def expected_totals(events):
    """Returns the totals by the rule, from all events at once. A second way to the same figures."""
    facts = {}
    for recipient, kind in events:
        facts.setdefault(recipient, set()).add(kind)
    sums = Counter()
    for kinds in facts.values():
        if "bounced_hard" in kinds:
            sums["bounced_hard"] += 1
        elif kinds == {"bounced_soft"}:
            sums["bounced_soft"] += 1
        else:
            sums["delivered"] += 1
        sums["complained"] += "complained" in kinds
        sums["unsubscribed"] += "unsubscribed" in kinds
    return {name: number for name, number in sums.items() if number}


EVENTS = st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from(KINDS)), max_size=14)
_numbers = itertools.count()


@given(events=EVENTS, cuts=st.lists(st.integers(1, 5), max_size=6), replayed=EVENTS)
@example(events=[("a", "bounced_soft"), ("a", "delivered"), ("a", "bounced_hard")], cuts=[1, 1], replayed=[])
@hypothesis_settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_count_any_order_cut_and_replay_gives_the_same_totals(site, take, totals, events, cuts, replayed):
    campaign = f"c{next(_numbers)}"
    site.post("/api/campaigns", json={"id": campaign, "name": campaign, "kind": "email"})
    again = [event for event in replayed if event in events]
    rest = [*events, *again]
    while rest:
        size = cuts.pop() if cuts else len(rest)
        take(*rest[:size], campaign=campaign)
        rest = rest[size:]
    assert totals(campaign) == expected_totals(events)


def test_count_script_repeated_after_a_lost_reply_counts_once(mail, run, secrets, totals):
    mail()
    facts = {secrets.recipient_key("ada"): 1}

    async def act(store):
        first = await count.add(store, secrets, "mail", facts, SHARDS)
        return first, await count.add(store, secrets, "mail", facts, SHARDS)

    assert run(act) == (count.Added(1, 0, 0), count.Added(0, 1, 0))
    assert totals() == {"delivered": 1}


def test_count_withdrawn_recipient_stores_nothing(mail, run, take, totals, secrets, client):
    mail()
    ada = secrets.recipient_key("ada")
    run(lambda store: withdrawals.withdraw(store, secrets, [ada], NOW, SHARDS))
    taken = take(("ada", "delivered"), ("bob", "delivered"))
    assert (taken.new, taken.withdrawn) == (1, 1)
    assert totals() == {"delivered": 1}
    assert not any(client.hexists(name, ada) for name in client.keys("px:*:deliveries:*"))


def test_count_erasure_removes_facts_and_keeps_totals(mail, run, take, totals, secrets, client):
    mail()
    take(("ada", "delivered"), ("bob", "bounced_hard"))
    ada = secrets.recipient_key("ada")
    erased = run(lambda store: erasure.erase(store, secrets, ada, NOW, SHARDS, "key test"))
    assert (erased.removed["deliveries"], erased.campaigns) == (1, ["mail"])
    assert not any(client.hexists(name, ada) for name in client.keys("px:*:deliveries:*"))
    assert take(("ada", "delivered")).withdrawn == 1
    assert totals() == {"delivered": 1, "bounced_hard": 1}


def test_count_generation_raised_meanwhile_reads_anew(mail, run, secrets, totals, monkeypatch):
    # An erasure begins between the reading of the withdrawals and the script: the script does nothing, and
    # the second reading sees the withdrawal.
    mail()
    ada, calls = secrets.recipient_key("ada"), []
    read = withdrawals.withdrawn_now

    async def withdrawn_now(store, secrets, recipients):
        known = await read(store, secrets, recipients)
        if not calls:
            await withdrawals.withdraw(store, secrets, [ada], NOW, SHARDS)
        calls.append(known)
        return known

    monkeypatch.setattr(withdrawals, "withdrawn_now", withdrawn_now)
    added = run(lambda store: count.add(store, secrets, "mail", {ada: 1}, SHARDS))
    assert (added, calls) == (count.Added(0, 0, 1), [set(), {ada}])
    assert totals() == {}


def test_count_deleted_campaign_leaves_no_key(mail, site, take, client):
    mail()
    take(("ada", "delivered"))

    assert site.delete("/api/campaigns/mail").status_code == 204
    assert take(("ada", "delivered")).ignored == {"unknown_campaign": 1}
    assert client.keys("px:*:deliveries:mail:*") == []


def test_count_retention_removes_facts_and_closes(mail, run, take, totals, settings, client):
    mail(sent_at="2026-01-01T00:00:00Z")
    sent_at = 1_767_225_600
    assert take(("ada", "delivered"), now=sent_at + 60).new == 1
    over = sent_at + (settings.keep_recipients + 1) * 86_400
    assert take(("ada", "bounced_hard"), now=over).ignored == {"closed": 1}
    for shard in range(SHARDS):
        run(lambda store, shard=shard: purge.remove_recipients(store, shard, "mail"))
    assert client.keys("px:*:deliveries:mail:*") == []
    assert totals() == {"delivered": 1}


def test_count_first_event_sets_the_time_of_use(mail, run, take):
    # Without any time of sending, retention would never remove the recipients.
    mail()

    def sending_time():
        campaign, uses = run(lambda store: storage.get_uses(store, "mail"))
        return retention.sending_time(campaign, uses)

    assert sending_time() is None
    take(("ada", "delivered"), now=NOW)
    take(("ada", "unsubscribed"), now=NOW + 86_400)
    assert sending_time() == int(NOW)


@pytest.mark.parametrize("mode", ["count", "last", "off"])
def test_count_mode_without_recipients_stores_nothing(mail, take, totals, client, mode):
    mail(mode=mode)
    assert take(("ada", "delivered")).ignored == {"keeps_no_recipients": 1}
    assert (totals(), client.keys("px:*:deliveries:*")) == ({}, [])


def test_count_newer_record_is_left_as_it_is(mail, take, totals, secrets, client):
    mail()
    take(("ada", "delivered"))
    name = client.keys("px:*:deliveries:mail:*")[0]
    client.hset(name, secrets.recipient_key("ada"), b"\x02\x01\x07")
    with pytest.raises(NewerFormat):
        take(("ada", "bounced_hard"))
    assert client.hget(name, secrets.recipient_key("ada")) == b"\x02\x01\x07"
    assert totals() == {"delivered": 1}


def test_take_tags_first_campaign_that_takes_events_is_used(mail, site, take, totals):
    mail()
    site.post("/api/campaigns", json={"id": "shop", "name": "Shop", "kind": "web"})
    taken = take(
        Delivery(("vip", "shop", "mail"), "ada", "delivered"),
        Delivery(("vip", "Not A Slug"), "bob", "delivered"),
        Delivery((), "cy", "delivered"),
        Delivery(("vip", "shop"), "dee", "delivered"),
    )
    assert taken.new == 1
    assert taken.ignored == {"unknown_campaign": 1, "no_campaign": 1, "keeps_no_recipients": 1}
    assert totals() == {"delivered": 1}


@pytest.mark.parametrize(
    ("setting", "expected"),
    [("none", []), ("complained", ["ada"]), ("unsubscribed", ["ada", "bob"])],
)
def test_take_withdraws_by_setting(mail, run, secrets, settings, totals, setting, expected):
    mail()
    chosen, learned = replace(settings, withdraw_on=setting), []

    async def act(store):
        taker = Taker(store, secrets, chosen, NOW, "key test", learned.append)
        await taker.take(
            [
                Delivery(("mail",), "ada", "complained", NOW),
                Delivery(("mail",), "bob", "unsubscribed", NOW),
                Delivery(("mail",), "cy", "bounced_hard", NOW),
            ]
        )
        people = [secrets.recipient_key(name) for name in ("ada", "bob", "cy")]
        return await withdrawals.withdrawn_now(store, secrets, people)

    people = {secrets.recipient_key(name) for name in expected}
    assert run(act) == people == set(learned)
    # What withdrew them is counted all the same.
    assert totals() == {"delivered": 2, "bounced_hard": 1, "complained": 1, "unsubscribed": 1}


def test_take_complaint_from_before_the_recipient_allowed_again_does_not_withdraw(
    mail, run, secrets, settings
):
    mail()
    chosen, ada = replace(settings, withdraw_on="complained"), secrets.recipient_key("ada")
    complaint = Delivery(("mail",), "ada", "complained", NOW)

    async def act(store):
        await Taker(store, secrets, chosen, NOW, "key test").take([complaint])
        await withdrawals.allow(store, secrets, [ada], NOW + 60)
        await Taker(store, secrets, chosen, NOW + 120, "key test").take([complaint])
        after_replay = await withdrawals.withdrawn_now(store, secrets, [ada])
        await Taker(store, secrets, chosen, NOW + 180, "key test").take([complaint._replace(time=NOW + 150)])
        return after_replay, await withdrawals.withdrawn_now(store, secrets, [ada])

    assert run(act) == (set(), {ada})


def test_count_merged_values_follow(mail, take, client):
    # In a store with many shards, figures are read from merged values: each change is noted for the merge.
    mail()
    for shard in range(SHARDS):
        client.zadd(keys.changed(shard), {"=mark": 0})
    take(("ada", "delivered"))
    noted = [name for shard in range(SHARDS) for name in client.zrange(keys.changed(shard), 0, -1)]
    assert b"total:mail" in noted


def test_count_memory_of_a_recipient_is_small(mail, run, secrets, client):
    # 61 recipients in one hash are what a million in four shards gives.
    mail()
    facts = {b"keyk\x00\x00" + n.to_bytes(2, "big"): 1 for n in range(61)}
    run(lambda store: count.add(store, secrets, "mail", facts, 1))
    name = client.keys("px:{0}:deliveries:mail:*")[0]
    assert client.hlen(name) == 61
    assert client.memory_usage(name, samples=0) / 61 <= 24


def test_count_checkpoint_is_not_raised(mail, run, take):
    # A provider's many small requests must not keep the roll-up from committing.
    mail()

    async def read(store):
        return [await checkpoint.read_generation(store, shard) for shard in range(SHARDS)]

    before = run(read)
    take(("ada", "delivered"))
    assert run(read) == before


def test_count_reopens_recipients_that_came_back(mail, run, take):
    # The mode was lowered and raised again: retention had removed the recipients.
    mail()

    async def mark(store):
        def edit(campaign):
            gone = msgspec.structs.replace(campaign.gone, recipients=True)
            leaving = msgspec.structs.replace(campaign.leaving, recipients=True)
            return msgspec.structs.replace(campaign, gone=gone, leaving=leaving)

        await storage.amend(store, "mail", edit)

    run(mark)
    assert take(("ada", "delivered")).new == 1
    campaign = run(lambda store: storage.get(store, "mail"))
    assert not campaign.gone.recipients
    assert not campaign.leaving.recipients
