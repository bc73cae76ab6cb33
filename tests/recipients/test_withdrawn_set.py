"""The withdrawn set of a web process: changes by itself and by others, and its memory."""

from __future__ import annotations

import asyncio
import random

import pytest

from pixel_server.recipients import withdrawals
from pixel_server.recipients.withdrawn_set import WithdrawnSet
from pixel_server.store import keys
from pixel_server.store.client import connect_async
from tests.stack import until


def person(n):
    return random.Random(n).randbytes(8)


@pytest.fixture
def run_story(redis_url):
    """Returns a function that runs a story with an asyncio client."""

    def run_story(story):
        async def run():
            client = connect_async(redis_url)
            try:
                await story(client)
            finally:
                await client.aclose()

        asyncio.run(run())

    return run_story


async def withdraw(client, secrets, *numbers, now=100.0):
    await withdrawals.withdraw(client, secrets, [person(n) for n in numbers], now, 4)


def test_refresh_sees_changes_made_elsewhere(run_story, secrets):
    async def story(client):
        known = WithdrawnSet(client, secrets)
        await known.refresh()
        assert person(1) not in known
        await withdraw(client, secrets, 1, 2)
        await known.refresh()
        assert [person(n) in known for n in range(4)] == [False, True, True, False]
        await withdrawals.allow(client, secrets, [person(1)], 200)
        await known.refresh()
        assert [person(n) in known for n in range(4)] == [False, False, True, False]
        again = WithdrawnSet(client, secrets)
        await again.load()
        assert [person(n) in again for n in range(4)] == [False, False, True, False]

    run_story(story)


def test_follow_wrong_type_in_the_store_is_not_called_a_silent_redis(run_story, secrets, caplog):
    async def story(client):
        await client.set(keys.WITHDRAWN, "text")
        following = asyncio.create_task(WithdrawnSet(client, secrets).follow())
        await asyncio.to_thread(until, lambda: caplog.messages)
        following.cancel()
        [message] = caplog.messages
        assert "cannot be read" in message
        assert "WRONGTYPE" in message

    run_story(story)


def test_refresh_trimmed_log_reads_all_withdrawals(run_story, secrets):
    async def story(client):
        await withdraw(client, secrets, 1)
        known = WithdrawnSet(client, secrets)
        await known.load()
        await withdraw(client, secrets, 2)
        await client.xtrim(keys.WITHDRAWAL_CHANGES, maxlen=0, approximate=False)
        await withdraw(client, secrets, 3)
        await known.refresh()
        assert [person(n) in known for n in range(5)] == [False, True, True, True, False]

    run_story(story)


def test_refresh_reads_any_number_of_changes(run_story, secrets):
    async def story(client):
        known = WithdrawnSet(client, secrets)
        await known.load()
        await withdraw(client, secrets, *range(2500))
        await known.refresh()
        assert all(person(n) in known for n in range(2500))

    run_story(story)


def test_learn_many_changes_keeps_each_recipient(secrets):
    known = WithdrawnSet(None, secrets)
    for n in range(25_000):
        known.learn(person(n), True)
        if n % 3 == 0:
            known.learn(person(n), False)
    assert all((person(n) in known) == (n % 3 != 0) for n in range(0, 30_000, 7) if n < 25_000)
    assert not any(person(n) in known for n in range(25_000, 26_000))


def test_load_a_million_marks_takes_at_most_16_mb(secrets):
    draw = random.Random(1)
    people = [draw.randbytes(8) for _ in range(1000)]
    marks = [secrets.withdrawal_mark(recipient) for recipient in people] + [
        draw.randbytes(8) for _ in range(999_000)
    ]

    class Store:
        async def hmget(self, *_):
            return [None, None]

        async def xrevrange(self, *_):
            return []

        async def hscan(self, _, cursor, count):
            part = marks[cursor * 10_000 : (cursor + 1) * 10_000]
            return (cursor + 1) % 100, dict.fromkeys(part, b"1 5-")

    known = WithdrawnSet(Store(), secrets)
    asyncio.run(known.load())
    assert known.size <= 16 << 20
    assert all(recipient in known for recipient in people)
    assert sum(draw.randbytes(8) in known for _ in range(10_000)) == 0
