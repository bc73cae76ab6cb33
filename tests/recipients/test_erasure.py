"""Erasures: a recipient is removed from all campaigns, and nothing brings the recipient back."""

from __future__ import annotations

import asyncio

import pytest

from pixel_server.campaigns import storage
from pixel_server.campaigns.campaign import new_campaign
from pixel_server.counters import recipient_record
from pixel_server.recipients import erasure, withdrawals
from pixel_server.store import keys
from pixel_server.store.client import connect_async
from pixel_server.store.shards import shard_of
from pixel_server.tokens import Mode
from tests.privacy_form import DAY, actions, store_bytes


def test_erasure_recipient_is_in_no_key(mail, link, press, site, stats, client, secrets, clock):
    mail()
    ada, last = link(), link(mode=Mode.LAST)
    site.get(ada.url)
    site.get(last.url)
    stats("mail")
    key = secrets.recipient_key("ada")
    assert key in store_bytes(client)
    site.get(ada.url)  # waits in the stream
    clock.at(f"{DAY}T09:00Z")
    assert 'value="allow"' in press(ada, "erase").text
    assert 'value="erase"' not in site.get(ada.privacy_url).text
    totals = stats("mail")["totals"]
    # The sums from before stay; the waiting hit is dropped.
    assert (totals["opens"], totals["unique_opens"]) == (2, 1)
    assert key not in store_bytes(client)
    assert secrets.withdrawal_mark(key) in store_bytes(client)
    clock.at(f"{DAY}T10:00Z")
    press(ada, "allow")
    clock.at(f"{DAY}T10:00:01Z")
    site.get(ada.url)
    assert stats("mail")["totals"]["opens"] == 3


def test_erasure_during_a_roll_up_prevents_its_commit(
    mail, link, press, site, client, secrets, settings, monkeypatch, count, clock
):
    from workers import apply

    mail()
    site.get(link().url)
    read_stored = apply.read_stored

    def erased_meanwhile(*arguments):
        stored = yield from read_stored(*arguments)
        monkeypatch.setattr(apply, "read_stored", read_stored)
        press(link(), "erase")
        return stored

    monkeypatch.setattr(apply, "read_stored", erased_meanwhile)
    count(clock.now)
    assert apply.read_stored is read_stored  # the erasure happened meanwhile
    count(clock.now)
    assert secrets.recipient_key("ada") not in store_bytes(client)


@pytest.mark.parametrize(("action", "rewrites"), [("stop", 0), ("erase", 2)])
def test_erasure_waiting_hit_leaves_the_disk_too(
    mail, link, press, site, client, count, clock, action, rewrites
):
    """The append-only file is rewritten after the roll-up has dropped the hit, not only after the erasure."""
    mail()
    clock.now += 60
    assert site.get(link().url).headers["x-pixel"] == "recorded"
    clock.now -= 60
    press(link(), action)
    before = int(client.hget(keys.REWRITE, "asked") or 0)
    assert count(clock.now) == 1
    assert int(client.hget(keys.REWRITE, "asked") or 0) == before + rewrites
    drops = sum(int(client.hget(keys.drops(shard), "withdrawn") or 0) for shard in range(4))
    assert drops == 1


def test_erasure_campaign_created_meanwhile_keeps_nothing(mail, link, press, client, secrets, monkeypatch):
    mail()
    key = secrets.recipient_key("ada")
    real_withdraw = withdrawals.withdraw
    records = keys.people(shard_of(key, 4), "other", recipient_record.people_bucket(key))

    async def withdraw(store, *args, **options):
        # A roll-up has just counted a hit of the recipient.
        await storage.create(store, new_campaign("other", "Other", "email"))
        await store.hset(records, key, recipient_record.pack(recipient_record.from_open(1, 0, "person")))
        return await real_withdraw(store, *args, **options)

    monkeypatch.setattr(withdrawals, "withdraw", withdraw)
    press(link(), "erase")
    assert key not in store_bytes(client)


def test_erasure_repeated_leaves_no_trace(mail, link, press, site, client):
    mail()
    for _ in range(5):
        assert "Your data is erased" in press(link(), "erase").text
    assert "recipient.erased" not in client.dump(keys.AUDIT).decode("latin-1")
    assert [line["what"] for line in actions(site)["items"]] == ["recipient.erased"]
    assert not client.exists(keys.REWRITE)  # there were no data to remove from the disk
    assert not client.exists(keys.OWED_ERASURES)


def run_owed(settings, secrets, clock):
    """Does the owed erasures that are due, and returns their number."""

    async def run():
        client = connect_async(settings.redis_url)
        try:
            return await erasure.run_owed(client, secrets, clock.now, settings.shards)
        finally:
            await client.aclose()

    return asyncio.run(run())


def test_erasure_second_request_within_an_hour_is_owed(
    mail, link, press, site, stats, client, secrets, settings, clock
):
    """Data from after the first erasure are removed when the hour is over. Until then nothing is recorded."""
    mail()
    ada, key = link(), secrets.recipient_key("ada")
    assert "Your data is erased" in press(ada, "erase").text
    clock.now += 60
    press(ada, "allow")
    clock.now += 60
    assert site.get(ada.url).headers["x-pixel"] == "recorded"
    stats("mail")
    assert key in store_bytes(client)
    clock.now += 60
    assert "Your data is being erased" in press(ada, "erase").text
    assert site.get(ada.url).headers["x-pixel"] == "ignored; reason=withdrawn"
    assert run_owed(settings, secrets, clock) == 0
    assert "Your data is being erased" in press(ada, "erase").text
    assert key in store_bytes(client)
    clock.now += erasure.INTERVAL_SECONDS
    assert run_owed(settings, secrets, clock) == 1
    assert key not in store_bytes(client)
    assert "Your data is erased" in site.get(ada.privacy_url).text
    assert int(client.hget(keys.REWRITE, "asked")) == 2
    clock.now += erasure.INTERVAL_SECONDS + 60
    assert run_owed(settings, secrets, clock) == 0
    assert not client.keys("px:{all}:eras*")


def lookups(client):
    """Returns how often Redis looked for a recipient in a campaign, or for campaigns, also inside scripts."""
    stats = client.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("hexists", "zrangebylex"))


def test_erasure_many_campaigns_costs_the_page_no_more(
    mail, link, press, site, stats, client, secrets, settings, clock
):
    """The workers erase later."""
    mail()
    site.get(link("eve").url)
    stats("mail")
    for n in range(1000):
        client.zadd(keys.CAMPAIGNS, {f"c{n}": 0})
    before = lookups(client)
    assert "Your data is being erased" in press(link("nobody"), "erase").text
    assert "Your data is being erased" in press(link("eve"), "erase").text
    assert lookups(client) == before
    key = secrets.recipient_key("eve")
    assert key in store_bytes(client)
    assert run_owed(settings, secrets, clock) == 2
    assert key not in store_bytes(client)


def test_erasure_hit_from_a_clock_ahead_is_no_dead_letter(mail, link, press, site, stats, clock, client):
    mail()
    clock.at("2025-06-20T08:00Z")
    site.get(link().url)  # the clock is days ahead
    clock.at(f"{DAY}T09:00Z")
    press(link(), "erase")
    stats("mail")
    assert sum(client.xlen(keys.dead(shard)) for shard in range(4)) == 0
