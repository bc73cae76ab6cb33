"""The queue of an endpoint: what is claimed, tried again, set aside, dropped and purged."""

from __future__ import annotations

import asyncio

import pytest

from pixel_server.recipients import withdrawals
from pixel_server.store import keys
from pixel_server.store.client import connect_async
from pixel_server.webhooks import deliveries, event, queue, queue_view, storage
from pixel_server.webhooks.deliveries import Delivery
from pixel_server.webhooks.endpoint import EndpointError

ADA, BOB = b"8 bytes!", b"bob12345"
NOW = 1_790_000_000_000
PEOPLE = ("read", "people")


def opened(number, recipient=ADA, campaign="spring"):
    return event.make(f"evt_{number}", event.FIRST_OPEN, NOW + number, campaign, recipient, verdict="person")


def delivery(unit, outcome="delivered", status=200, answer="thanks"):
    return Delivery(NOW, unit.id, "open.first", len(unit.events), unit.tries + 1, status, 12, answer, outcome)


class Case:
    """An endpoint in the emptied store. Its methods run one coroutine each."""

    def __init__(self, settings, secrets, **fields):
        self.settings, self.secrets = settings, secrets
        wanted = {"url": "https://a.example/", "events": ["open.first"], "scopes": PEOPLE, **fields}
        self.endpoint, self.secret = self.run(lambda store: storage.create(store, settings, **wanted))

    def run(self, call):
        async def run():
            store = connect_async(self.settings.redis_url)
            try:
                return await call(store)
            finally:
                await store.aclose()

        return asyncio.run(run())

    def add(self, *events, max_events=1000):
        return self.run(lambda store: queue.add(store, self.secrets, self.endpoint.id, events, max_events))

    def claim(self):
        return self.run(lambda store: queue.claim(store, self.endpoint))

    def fail(self, unit, retry_ms=0, pause_ms=0):
        line = delivery(unit, "retry", 500, "no")
        return self.run(
            lambda store: queue.note_failed(
                store, self.endpoint.id, unit, line, retry_ms=retry_ms, pause_ms=pause_ms
            )
        )

    def deliver(self, unit):
        self.run(lambda store: queue.note_delivered(store, self.endpoint.id, unit, delivery(unit)))

    def length(self):
        return self.run(lambda store: queue.read_length(store, self.endpoint.id))

    def state(self):
        return self.run(lambda store: storage.read_state(store, self.endpoint.id))


@pytest.fixture
def case(settings, secrets):
    return Case(settings, secrets)


@pytest.fixture
def lists(settings, secrets):
    return Case(settings, secrets, events_per_request=3)


def test_queue_event_added_twice_is_claimed_once_until_its_lease_ends(case, client):
    assert case.add(opened(1)) == (1, 0)
    assert case.add(opened(1)) == (0, 0)
    unit = case.claim()
    assert (unit.id, unit.tries, unit.events) == ("evt_1", 0, [opened(1)])
    assert case.claim() is None
    client.zadd(keys.hook_due(case.endpoint.id), {"evt_1": 0})  # its worker died, and the lease has ended
    assert case.claim().id == "evt_1"
    case.deliver(unit)
    assert case.claim() is None
    assert case.length() == (0, 0, 0, None)
    assert case.state().sent == 1


def test_queue_failed_unit_is_tried_again_with_the_same_id_and_events(lists):
    lists.add(*map(opened, range(5)))
    first = lists.claim()
    assert [one.id for one in first.events] == ["evt_0", "evt_1", "evt_2"]
    assert first.id.startswith("list_")
    assert lists.fail(first) == 1
    lists.add(opened(9))
    again = next(unit for unit in iter(lists.claim, None) if unit.id == first.id)
    assert (again.tries, again.events) == (1, first.events)
    assert lists.state().failures == 1


def test_queue_list_claimed_by_a_process_that_died_stays_as_it_was(lists, client):
    lists.add(*map(opened, range(2)))
    first = lists.claim()
    lists.add(opened(7))
    client.zadd(keys.hook_due(lists.endpoint.id), {first.id: 0})
    claimed = [lists.claim(), lists.claim()]
    assert {unit.id for unit in claimed} == {first.id, "evt_7"}
    assert [unit.events for unit in claimed if unit.id == first.id] == [first.events]


def test_queue_pause_ends_with_success_and_brings_waiting_units_forward(case, client):
    case.add(opened(1), opened(2))
    first, second = case.claim(), case.claim()
    case.fail(first, retry_ms=10**8)
    case.fail(second, retry_ms=0, pause_ms=10**8)
    assert case.claim() is None
    client.hset(keys.hook_state(case.endpoint.id), "paused_until", 1)
    case.deliver(case.claim())
    assert case.claim().id == "evt_1"
    assert case.state()[2:6] == (0, 0, 0, 0)


def test_queue_set_aside_is_sent_again_under_its_id(case):
    case.add(opened(1))
    unit = case.claim()
    case.fail(unit, retry_ms=None)
    assert case.length()[:3] == (0, 1, 1)
    [waiting] = case.run(lambda store: queue_view.page(store, case.endpoint.id, is_aside=True))
    assert (waiting.id, waiting.type, waiting.tries) == ("evt_1", "open.first", 1)
    assert queue_view.to_json(waiting)["events"] == ["evt_1"]
    assert case.run(lambda store: queue.send_again(store, case.endpoint.id, ["evt_1", "evt_7"])) == 1
    assert case.claim()[:2] == ("evt_1", 0)


def test_queue_full_drops_what_was_set_aside_first_and_counts(case):
    case.add(opened(1), opened(2))
    case.fail(case.claim(), retry_ms=None)
    assert case.add(*map(opened, range(3, 6)), max_events=3) == (2, 2)
    assert case.state().dropped == 2
    assert case.length()[:3] == (3, 0, 3)


def test_queue_waiting_for_more_than_a_day_is_set_aside_and_later_removed(case, client):
    case.add(opened(1), opened(2))
    client.hset(keys.hook_units(case.endpoint.id), "evt_1", "3 1000 evt_1")
    assert case.run(lambda store: queue.set_old_aside(store, case.endpoint.id, 7)) == 1
    assert case.length()[:3] == (1, 1, 2)
    client.zadd(keys.hook_aside(case.endpoint.id), {"evt_1": 1})
    case.run(lambda store: queue.set_old_aside(store, case.endpoint.id, 7))
    assert case.length()[:3] == (1, 0, 1)
    assert client.hkeys(keys.hook_units(case.endpoint.id)) == [b"evt_2"]


def test_queue_withdrawn_recipient_is_neither_queued_nor_claimed(case, settings, secrets):
    case.add(opened(1), opened(2, BOB))
    case.run(lambda store: withdrawals.withdraw(store, secrets, [ADA], NOW / 1000, settings.shards))
    assert case.length().events == 1, "the event of the recipient is purged"
    assert case.add(opened(3)) == (0, 0)
    assert [unit.id for unit in iter(case.claim, None)] == ["evt_2"]


def test_queue_withdrawal_stored_after_the_purge_has_read_stops_the_claim(case, client, secrets):
    case.add(opened(1))
    client.hset(keys.WITHDRAWN, secrets.withdrawal_mark(ADA), b"1 5-")
    assert case.claim() is None
    assert case.length().events == 0


def test_queue_purge_of_a_campaign_leaves_the_others(case):
    case.add(opened(1), opened(2, campaign="autumn"))
    purged = case.run(lambda store: queue.purge(store, [case.endpoint.id], (), "autumn"))
    assert (purged, case.length().events) == (1, 1)


def test_queue_deleted_endpoint_leaves_no_key(case, client):
    case.add(opened(1))
    unit = case.claim()
    case.run(lambda store: storage.delete(store, case.endpoint.id))
    case.deliver(unit)
    case.fail(unit)
    assert case.add(opened(2)) == (0, 0)
    assert client.keys("px:{all}:hook*") == []


def test_deliveries_log_shows_the_newest_first_and_no_recipient(case):
    case.add(opened(1))
    unit = case.claim()
    case.fail(unit)
    case.deliver(case.claim())
    lines, cursor = case.run(lambda store: deliveries.page(store, case.endpoint.id, None, 1))
    assert (lines[0][1].outcome, lines[0][1].status) == ("delivered", 200)
    [(_, older)], end = case.run(lambda store: deliveries.page(store, case.endpoint.id, cursor, 1))
    assert (older.outcome, older.attempt, older.status, end) == ("retry", 1, 500, None)
    shown = deliveries.shorten("got ada@example.org\r\n and " + ADA.hex(), ["ada@example.org", ADA.hex(), ""])
    assert shown == "got (recipient) and (recipient)"


def test_test_event_is_sent_whatever_the_endpoint_wants(case, settings, secrets):
    test_id = case.run(lambda store: queue.send_test(store, secrets, case.endpoint, 100))
    assert case.claim().events[0].type == "test"
    off = case.run(
        lambda store: storage.change(store, settings, case.endpoint.id, {"is_enabled": False}, "key 1")
    )
    with pytest.raises(queue.DisabledError):
        case.run(lambda store: queue.send_test(store, secrets, off, 100))
    assert test_id.startswith("evt_")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"url": "http://a.example/"}, "url"),
        ({"url": "https://user@a.example/"}, "url"),
        ({"url": "https:///path"}, "url"),
        ({"url": "https://a.example:99999/"}, "url"),
        ({"url": "https://a.example/\r\nHost: b.example"}, "url"),
        ({"events": ["open.last"]}, "events"),
        ({"events": []}, "events"),
        ({"scopes": ["read"]}, "events"),
        ({"campaigns": ["No Slug"]}, "campaigns"),
        ({"events_per_request": 101}, "events_per_request"),
        ({"secret": "whsec_c2hvcnQ="}, "secret"),
        ({"name": "a\nb"}, "name"),
    ],
)
def test_create_unfit_field_is_refused_by_name(settings, secrets, client, fields, field):
    with pytest.raises(EndpointError) as refused:
        Case(settings, secrets, **fields)
    assert refused.value.field == field
    assert client.hlen(keys.WEBHOOKS) == 0


def test_endpoints_are_bounded(settings, secrets):
    case = Case(settings, secrets)
    for _ in range(storage.MAX_ENDPOINTS - 1):
        case.run(
            lambda store: storage.create(
                store, settings, url="https://a.example/", events=["health"], scopes=()
            )
        )
    with pytest.raises(storage.TooManyEndpoints):
        Case(settings, secrets)


def test_rotated_secret_leaves_the_old_one_signing_for_a_while(case):
    new = case.run(lambda store: storage.rotate_secret(store, case.endpoint.id, "key 1"))
    changed = case.run(lambda store: storage.get(store, case.endpoint.id))
    until = changed.secrets[1].until
    assert changed.signing_secrets(until - 1) == [new, case.secret]
    assert changed.signing_secrets(until) == [new]
    case.run(lambda store: storage.rotate_secret(store, case.endpoint.id, "key 1", overlap_seconds=0))
    assert len(case.run(lambda store: storage.get(store, case.endpoint.id)).secrets) == 1
