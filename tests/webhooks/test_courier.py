"""The courier: events reach their endpoints under one id, whatever fails, is killed, or has changed since."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest
import redis

from pixel_server.api import store_numbers
from pixel_server.campaigns import deletion
from pixel_server.campaigns import storage as campaigns
from pixel_server.campaigns.campaign import new_campaign
from pixel_server.copying.copier import Copier
from pixel_server.counters import recipient_record
from pixel_server.recipients import erasure, withdrawals
from pixel_server.store import keys, replication
from pixel_server.store.client import connect, connect_async
from pixel_server.store.nodes import answers_of_nodes
from pixel_server.store.shards import shard_of
from pixel_server.store.store_mark import StoreMark
from pixel_server.verification import store_check
from pixel_server.webhooks import deliveries, event, outbox, queue, report, request, storage
from tests.properties.crashing_rollup import Killed
from tests.webhooks import receiver as receivers
from workers import courier, maintenance, webhook_delivery
from workers.courier import Courier

ADA, BOB = b"ada45678", b"bob45678"
NOW_MS = int(time.time() * 1000)


def opened(number, recipient=ADA, campaign="spring"):
    return event.make(
        *(f"evt_{number:032x}", event.FIRST_OPEN, NOW_MS, campaign, recipient),
        verdict="person",
        client=None,
    )


class Wire:
    """A client for asyncio that raises Killed before or after its command of a number."""

    def __init__(self, client, number=0, is_after=False):
        self._client, self._number, self._is_after, self.commands = client, number, is_after, 0

    @property
    def __class__(self):  # for those who ask whether the store is a cluster
        return type(self._client)

    def __getattr__(self, name):
        attribute = getattr(self._client, name)
        if name == "pipeline":
            return self._pipeline
        if not callable(attribute):
            return attribute
        return lambda *args, **options: self._send(lambda: attribute(*args, **options))

    def _pipeline(self, **options):
        pipe = self._client.pipeline(**options)
        execute = pipe.execute
        pipe.execute = lambda **more: self._send(lambda: execute(**more))
        return pipe

    async def _send(self, call):
        self.commands += 1
        if self.commands == self._number and not self._is_after:
            raise Killed
        result = await call()
        if self.commands == self._number:
            raise Killed
        return result


class Case:
    """A store with the campaign `spring`, and a receiver. Methods are called from `run`."""

    def __init__(self, settings, secrets, receiver):
        self.settings, self.secrets, self.receiver = settings, secrets, receiver

    async def __aenter__(self):
        self.store = connect_async(self.settings.redis_url)
        await campaigns.create(self.store, new_campaign("spring", "Spring", "email", mode="identified"))
        return self

    async def __aexit__(self, *exception):
        await self.store.aclose()

    async def endpoint(self, **fields):
        """Returns (endpoint, secret)."""
        wanted = {"url": self.receiver.url, "events": ["open.first"], "scopes": ["people"], **fields}
        return await storage.create(self.store, self.settings, **wanted)

    async def put(self, *events):
        """Puts events into the outboxes of their recipients' shards."""
        for made in events:
            shard = shard_of(made.recipient, self.settings.shards) if made.recipient else 0
            for command in outbox.commands(self.secrets, shard, [made], [], 0, self.settings.shards):
                await self.store.execute_command(*command)

    def courier(self, store=None):
        return Courier(store or self.store, self.settings, self.secrets, StoreMark())

    async def send(self, one=None):
        """Lets a courier do all that is due now."""
        one = one or self.courier()
        for _ in range(6):
            await one.step()
            await one.finish()
        return one

    async def length(self, endpoint):
        return await queue.read_length(self.store, endpoint.id)

    async def lines(self, endpoint):
        return [line for _, line in (await deliveries.page(self.store, endpoint.id))[0]]


@pytest.fixture
def receiver():
    with receivers.running() as receiver:
        yield receiver


@pytest.fixture
def run(settings, secrets, receiver, client) -> Callable:
    """Returns a function that runs a coroutine function with a Case."""

    def run(story):
        async def told():
            async with Case(replace(settings, webhook_private=1), secrets, receiver) as case:
                return await story(case)

        return asyncio.run(told())

    return run


def test_courier_event_is_signed_by_all_secrets_and_sent_once(run, receiver):
    async def story(case):
        endpoint, old = await case.endpoint()
        new = await storage.rotate_secret(case.store, endpoint.id, "key 1")
        await case.put(opened(1))
        await case.send()
        [got] = receiver.requests
        assert got.verify(old) == got.verify(new)
        assert got.content == {
            "type": "open.first",
            "timestamp": event.payload(opened(1))["timestamp"],
            "data": {"campaign": "spring", "key": ADA.hex(), "verdict": "person", "client": None},
        }
        assert got.headers["webhook-id"] == opened(1).id
        assert await case.length(endpoint) == (0, 0, 0, None)
        [line] = await case.lines(endpoint)
        assert (line.outcome, line.status, line.answer, line.attempt) == ("delivered", 200, "thanks", 1)

    run(story)


def test_courier_killed_at_each_command_loses_no_event_and_sends_none_under_two_ids(run, receiver, client):
    """The courier is killed before and after each command. Another begins when the leases have ended."""

    async def story(case):
        single, _ = await case.endpoint()
        lists, _ = await case.endpoint(events_per_request=100, url=receiver.url + "/lists")
        number, expected, wire = 0, [], Wire(case.store)
        while number == 0 or wire.commands >= number:
            number += 1
            for is_after in (False, True):
                events = [opened(4 * number + 2 * is_after + n, b"%08d" % n) for n in range(2)]
                expected += [made.id for made in events]
                await case.put(*events)
                wire = Wire(case.store, number, is_after)
                dying = case.courier(wire)
                with contextlib.suppress(Killed):
                    await dying.step()
                    await dying.finish()
                await asyncio.gather(*dying._tasks(), return_exceptions=True)
                for endpoint in (single, lists):
                    key = keys.hook_due(endpoint.id)
                    for unit in client.zrange(key, 0, -1):
                        client.zadd(key, {unit: 0})
                    client.hdel(keys.hook_state(endpoint.id), "paused_until")
                await case.send()
        assert number > 10
        by_path = {
            path: [got for got in receiver.requests if got.path == path] for path in ("/hook", "/hook/lists")
        }
        single_ids = [got.headers["webhook-id"] for got in by_path["/hook"]]
        assert set(single_ids) == set(expected)
        sent: dict[str, set[str]] = {}
        for got in by_path["/hook/lists"]:
            for item in got.content["data"]:
                sent.setdefault(item["id"], set()).add(got.headers["webhook-id"])
        assert set(sent) == set(expected)
        assert {len(ids) for ids in sent.values()} == {1}, "each event was in one list, however often sent"
        assert await case.length(single) == await case.length(lists) == (0, 0, 0, None)
        assert not any(client.xlen(keys.outbox(shard)) for shard in range(case.settings.shards))

    run(story)


def test_courier_hanging_endpoint_holds_up_no_other(run, receiver, monkeypatch):
    defaults = {**request.post.__kwdefaults__, "timeout_seconds": 0.3}
    monkeypatch.setattr(request.post, "__kwdefaults__", defaults)
    is_over = threading.Event()

    def answer(got):
        if got.path == "/hangs":
            is_over.wait()
        return receivers.OK

    receiver.answer = answer

    async def story(case):
        hanging, _ = await case.endpoint(url=receiver.url.replace("/hook", "/hangs"))
        good, _ = await case.endpoint()
        await case.put(*(opened(n, b"%08d" % n) for n in range(20)))
        one = case.courier()
        while (await case.length(good)).units or not await case.lines(hanging):
            await one.step()
            assert len(one._running.get(hanging.id, ())) <= courier.MAX_REQUESTS
            await asyncio.sleep(0.01)
        await one.finish()
        lines = await case.lines(hanging)
        assert {(line.outcome, line.status, line.answer) for line in lines} == {
            ("retry", None, "no answer within 0 s")
        }
        assert (await case.length(hanging)).units == 20
        assert (await storage.read_state(case.store, hanging.id)).failures == len(lines)
        is_over.set()

    run(story)


def test_courier_redirect_is_a_failure_and_is_not_followed(run, receiver):
    receiver.answer = lambda got: (302, {"location": receiver.url + "/inside"}, "")

    async def story(case):
        endpoint, _ = await case.endpoint()
        await case.put(opened(1))
        await case.send()
        assert [got.path for got in receiver.requests] == ["/hook"]
        [line] = await case.lines(endpoint)
        assert (line.outcome, line.status) == ("retry", 302)
        assert "redirects are not followed" in line.answer

    run(story)


def test_courier_address_refused_by_this_server_is_noted_as_not_sent(run, receiver):
    async def story(case):
        endpoint, _ = await case.endpoint()
        case.settings = replace(case.settings, webhook_private=0)
        await case.put(opened(1))
        await case.send()
        assert receiver.requests == []
        [line] = await case.lines(endpoint)
        assert (line.outcome, line.status, line.was_sent) == ("retry", None, False)
        error = (await storage.read_state(case.store, endpoint.id)).error
        assert error == deliveries.failure(line) == f"not sent, because {line.answer}"

    run(story)


def test_courier_410_disables_the_endpoint_and_keeps_what_waits(run, receiver):
    receiver.answer = lambda got: (410, {}, "")

    async def story(case):
        endpoint, _ = await case.endpoint()
        await case.put(opened(1))
        await case.send()
        gone = await storage.get(case.store, endpoint.id)
        assert (gone.is_enabled, gone.disabled_because) == (False, "answered 410 Gone")
        await case.put(opened(2))
        await case.send()
        assert (await case.length(endpoint)).events == 1
        receiver.answer = lambda got: receivers.OK
        await storage.change(case.store, case.settings, endpoint.id, {"is_enabled": True}, "key 1")
        await queue.send_again(case.store, endpoint.id, [opened(1).id])
        await case.send()
        assert [got.headers["webhook-id"] for got in receiver.requests] == [opened(1).id] * 2

    run(story)


def test_courier_events_are_sent_as_the_campaign_allows_now(run, receiver, client):
    async def story(case):
        await case.endpoint()
        shard, bucket = shard_of(ADA, case.settings.shards), recipient_record.people_bucket(ADA)
        packed = msgspec.msgpack.encode((1, "ada@example.org", "Ada"))
        client.hset(keys.names(shard, "spring", bucket), ADA, packed)
        receiver.answer = lambda got: (500, {}, f"cannot take ada@example.org ({ADA.hex()})")
        [endpoint] = await storage.list_all(case.store)
        await case.put(opened(1))
        await case.send()
        assert receiver.requests[-1].content["data"]["recipient"] == "ada@example.org"
        assert receiver.requests[-1].content["data"]["name"] == "Ada"
        [line] = await case.lines(endpoint)
        assert line.answer == "cannot take (recipient) ((recipient))"
        stored = b"".join(client.hvals(keys.hook_events(endpoint.id)))
        assert b"ada@" not in stored
        await campaigns.change(case.store, "spring", {"mode": "pseudonymous"}, "key 1")
        await queue.send_again(case.store, endpoint.id, [opened(1).id])
        await case.send()
        assert "recipient" not in receiver.requests[-1].content["data"]
        await campaigns.change(case.store, "spring", {"mode": "last"}, "key 1")
        await queue.send_again(case.store, endpoint.id, [opened(1).id])
        await case.send()
        assert len(receiver.requests) == 2
        assert await case.length(endpoint) == (0, 0, 0, None)

    run(story)


def test_courier_deleted_campaign_and_erased_recipient_leave_nothing(run, receiver, client):
    receiver.answer = lambda got: (500, {}, "not now")

    async def story(case):
        endpoint, _ = await case.endpoint(events=["open.first", "withdrawal"])
        await campaigns.create(case.store, new_campaign("autumn", "Autumn", "email"))
        await case.put(opened(1), opened(2, BOB, "autumn"))
        await case.send()
        await case.put(opened(3))
        shards = case.settings.shards
        await deletion.delete(case.store, "autumn", shards)
        erased = await erasure.erase(case.store, case.secrets, ADA, time.time(), shards, "key 1")
        assert erased.campaigns == []
        assert client.hlen(keys.hook_events(endpoint.id)) == 0
        assert not any(client.xlen(keys.outbox(shard)) for shard in range(case.settings.shards))
        assert int(client.hget(keys.REWRITE, "asked")) == 2
        receiver.answer = lambda got: receivers.OK
        await queue.send_again(case.store, endpoint.id, ["none"])
        client.hdel(keys.hook_state(endpoint.id), "paused_until")
        await case.send()
        assert receiver.requests[-1].content["type"] == "withdrawal"
        assert receiver.requests[-1].content["data"] == {"key": ADA.hex(), "state": "erased"}
        assert (await case.length(endpoint)).events == 0

    run(story)


def test_courier_withdrawal_and_return_are_told_once_each(run, receiver):
    async def story(case):
        await case.endpoint(events=["withdrawal"])
        await case.endpoint(events=["health"], scopes=[])
        shards = case.settings.shards
        for _ in range(2):
            await withdrawals.withdraw(case.store, case.secrets, [ADA, BOB], 1000.0, shards)
        for _ in range(2):
            await withdrawals.allow(case.store, case.secrets, [BOB], 2000.0)
        await case.send()
        told = [(got.content["data"]["key"], got.content["data"]["state"]) for got in receiver.requests]
        assert sorted(told) == sorted(
            [(ADA.hex(), "withdrawn"), (BOB.hex(), "withdrawn"), (BOB.hex(), "allowed")]
        )

    run(story)


def test_courier_milestones_are_told_once_even_if_sent_changes(run, receiver, client):
    async def story(case):
        await case.endpoint(events=["campaign.milestone"], scopes=[])
        one = await case.send()
        client.hset(keys.total(0, "spring"), "unique_opens_person", 20)
        client.hset(keys.total(1, "spring"), "unique_opens_person", 10)
        await campaigns.change(case.store, "spring", {"sent": 100}, "key 1")
        one._next_look = 0.0
        await case.send(one)
        await campaigns.change(case.store, "spring", {"sent": 1000}, "key 1")
        one._next_look = 0.0
        await case.send(one)
        client.hset(keys.total(1, "spring"), "unique_opens_person", 480)
        client.xadd(keys.outbox(1), {"look": "spring"})
        await case.send(one)
        await campaigns.create(case.store, new_campaign("reported", "Reported", "email"))
        client.hset(keys.total(0, "reported"), mapping={"delivered": 8, "unique_opens_person": 4})
        client.hset(keys.campaign("reported"), "sealed", int(time.time()))
        client.xadd(keys.outbox(1), {"look": "reported"})
        await case.send(one)  # tells nothing: the mail service may still be sending
        told = [got.content["data"] for got in receiver.requests]
        assert sorted(told, key=lambda data: data["percent"]) == [
            {"campaign": "spring", "percent": 10, "opened": 30, "sent": 100},
            {"campaign": "spring", "percent": 25, "opened": 30, "sent": 100},
            {"campaign": "spring", "percent": 50, "opened": 500, "sent": 1000},
        ]

    run(story)


def test_courier_trouble_is_told_when_it_begins_and_when_it_is_over(run, receiver, client):
    async def story(case):
        await case.endpoint(events=["health"], scopes=[])
        client.set(keys.stop(2), "dead letters are full")
        client.xadd(keys.hits(1), {"1": b"x"}, id="1-1")
        one = await case.send()
        one._next_look = 0.0
        await case.send(one)
        client.delete(keys.stop(2))
        client.delete(keys.hits(1))
        one._next_look = 0.0
        await case.send(one)
        told = [got.content["data"] for got in receiver.requests]
        assert sorted((data["problem"], data["state"], data.get("shard")) for data in told) == [
            ("backlog", "begun", None),
            ("backlog", "over", None),
            ("shard_stopped", "begun", 2),
            ("shard_stopped", "over", 2),
        ]
        assert "shard 2 stands still: dead letters are full" in [data.get("text") for data in told]

    run(story)


def test_report_names_each_endpoint_that_needs_attention(run, receiver, client):
    receiver.answer = lambda got: (500, {}, "no room")

    async def story(case):
        endpoint, _ = await case.endpoint()
        await case.endpoint(events=["health"])
        await case.put(opened(1), opened(2))
        await case.send()
        now = time.time()
        assert report.warnings(await report.read(case.store, now)) == []
        state = keys.hook_state(endpoint.id)
        client.hset(state, "failing_since", int((now - 7200) * 1000))
        client.zadd(keys.hook_aside(endpoint.id), {"evt_7": 1})
        reports = await report.read(case.store, now + 500)
        [failing] = [one for one in reports if one.endpoint.id == endpoint.id]
        assert report.warnings(reports) == [
            f"webhook {endpoint.id} has failed for 2 h: answered 500: no room; what it does not take within "
            "a day is set aside",
            f"webhook {endpoint.id}: 1 requests are set aside; send them again, or delete it",
            f"webhook {endpoint.id}: a request is {failing.late_seconds:.0f} s late, no worker sends it",
        ]
        numbers = await store_numbers.read(case.store, case.settings.shards, now)
        assert numbers["pixel_webhook_waiting"][endpoint.id] == 2
        assert numbers["pixel_webhook_tries_failed_total"][endpoint.id] >= 1

        settings = case.settings
        await case.put(opened(3))
        assert [fault async for fault in store_check.verify(case.store, settings)] == []
        client.hset(keys.hook_events(endpoint.id), "evt_x", bytes(8) + b"?")
        client.xadd(keys.NOTICES, {"event": b"?"})
        faults = [fault async for fault in store_check.verify(case.store, settings)]
        assert sorted(fault.split(" ")[0] for fault in faults) == [
            keys.hook_events(endpoint.id),
            keys.NOTICES,
        ]

    run(story)


def test_courier_queue_that_no_replica_has_is_moved_again_and_queued_once(run, receiver, monkeypatch):
    async def refuse(store, shards=0):
        raise replication.NotReplicatedError

    async def story(case):
        endpoint, _ = await case.endpoint(url="https://127.0.0.1:1/")
        await case.put(opened(1))
        with monkeypatch.context() as patched:
            patched.setattr(replication, "confirm", refuse)
            for _ in range(2):
                one = case.courier()
                await one.step()
                await one.finish()
        assert (await case.length(endpoint)).events == 1
        assert (await outbox.read(case.store, case.settings.shards)) != {}
        await case.send()
        assert (await outbox.read(case.store, case.settings.shards)) == {}
        assert (await case.length(endpoint)).events == 1

    run(story)


def test_answers_of_nodes_that_are_away_are_left_out():
    away, refused = redis.ConnectionError("away"), redis.ResponseError("WRONGTYPE")
    assert answers_of_nodes([1, away, [2]]) == [1, None, [2]]
    for replies, error in (([away, away], away), ([1, away, refused], refused)):
        with pytest.raises(type(error)):
            answers_of_nodes(replies)


def test_courier_endpoints_all_deleted_empties_the_outboxes(run, receiver, settings):
    async def story(case):
        endpoint, _ = await case.endpoint()
        await case.put(opened(1))
        await storage.delete(case.store, endpoint.id)
        with connect(settings.redis_url) as client:
            assert maintenance.has_undelivered(client, settings)
            assert not await case.courier().step()
            assert not maintenance.has_undelivered(client, settings)
        assert receiver.requests == []

    run(story)


@pytest.mark.one_redis
def test_copy_takes_along_what_waits(run, receiver, settings):
    receiver.answer = lambda got: (500, {}, "not now")

    async def story(case):
        endpoint, _ = await case.endpoint()
        await case.put(opened(1))
        await case.send()
        await case.put(opened(2), opened(3, BOB))
        target = connect_async(settings.redis_url.replace("db=0", "db=1"))
        try:
            copier = Copier(case.store, target, (settings.shards, 2), "mark", lambda copied: None)
            await copier.begin()
            await copier.copy()
            found = [entry.event.id for of_key in (await outbox.read(target, 2)).values() for entry in of_key]
            assert sorted(found) == [opened(2).id, opened(3, BOB).id]
            assert await storage.list_all(target) == await storage.list_all(case.store)
            for kind in (keys.hook_events, keys.hook_units):
                assert await target.hgetall(kind(endpoint.id)) == await case.store.hgetall(kind(endpoint.id))
            assert (await queue.read_length(target, endpoint.id)) == await case.length(endpoint)
            assert len((await deliveries.page(target, endpoint.id))[0]) == 1
        finally:
            await target.execute_command("FLUSHDB")
            await target.aclose()

    run(story)


def test_courier_one_at_a_time_has_the_lease(run):
    async def story(case):
        first, second = case.courier(), case.courier()
        assert await first._has_lease()
        assert not await second._has_lease()
        assert await first._has_lease()

    run(story)


def test_judge_retries_grow_and_end_after_a_day():
    unit = queue.Unit("evt_1", 0, NOW_MS, NOW_MS, [])
    waits = []
    while (verdict := webhook_delivery.judge("no answer", unit, len(waits))).retry_ms is not None:
        waits.append(verdict.retry_ms / 1000)
        unit = unit._replace(tries=unit.tries + 1, claimed=unit.claimed + verdict.retry_ms)
    assert waits[:4] == [2, 8, 32, 128]
    assert max(waits) == webhook_delivery.MAX_RETRY_SECONDS
    assert sum(waits) == queue.MAX_AGE_SECONDS


@pytest.mark.parametrize(
    ("value", "pause_ms"),
    [
        ("120", 120_000),
        ("Thu, 01 Jan 1970 00:02:00 GMT", 119_000),
        ("soon", 1000),
        ("-5", 1000),
        ("9999999999", 6 * 3600 * 1000),
    ],
)
def test_judge_retry_after_is_honoured_within_bounds(value, pause_ms):
    unit = queue.Unit("evt_1", 0, 0, 1000, [])
    verdict = webhook_delivery.judge(request.Answer(503, "busy", value), unit, 0)
    assert verdict.pause_ms == pause_ms
    assert verdict.retry_ms >= min(pause_ms, 2000)
