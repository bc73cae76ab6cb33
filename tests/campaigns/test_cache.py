"""What a web process knows of the campaigns, and how soon it learns of others' changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis

from pixel_server.campaigns import storage
from pixel_server.campaigns.cache import REFRESH, Directory
from pixel_server.campaigns.campaign import new_campaign
from pixel_server.consent import Consent
from pixel_server.settings import Settings
from pixel_server.store import keys
from pixel_server.store.client import connect_async
from pixel_server.store.protocols import AsyncRedis

Story = Callable[[AsyncRedis], Awaitable[None]]


@pytest.fixture
def tell(redis_url: str) -> Callable[[Story], None]:
    """Runs a story on a client of the empty store."""

    def run(story: Story) -> None:
        async def whole() -> None:
            async with connect_async(redis_url, timeout=30) as client:
                await asyncio.wait_for(story(client), 60)

        asyncio.run(whole())

    return run


async def create(client: AsyncRedis, *names: str) -> None:
    await asyncio.gather(*(storage.create(client, new_campaign(name, name, "web")) for name in names))


async def until(found: Callable[[], bool]) -> None:
    while not found():  # noqa: ASYNC110 - nothing tells when it knows
        await asyncio.sleep(0.02)


class Line:
    """A client whose line can be cut."""

    def __init__(self, client: AsyncRedis) -> None:
        self._client = client
        self.cut = False
        self.tries = 0

    def __getattr__(self, name: str) -> Any:
        self.tries += 1
        if self.cut:
            raise redis.ConnectionError("away")
        return getattr(self._client, name)


def test_it_loads_what_there_is_and_what_is_gone(tell: Callable[[Story], None]):
    async def story(client: AsyncRedis) -> None:
        await create(client, "one", "two", "three")
        await storage.create(client, new_campaign("mail", "Mail", "email"))
        await storage.delete(client, "two", 4)
        directory = Directory(client, Consent(Settings()))
        assert not directory.loaded
        await directory.load()
        assert directory.loaded
        assert directory.kinds == {"one": "web", "three": "web", "mail": "email"}
        assert directory.gone == {"two"}
        assert [directory.is_web(name) for name in ("one", "two", "mail", "none")] == [
            True,
            False,
            False,
            False,
        ]

    tell(story)


def test_one_look_sees_what_was_made_and_deleted_elsewhere(tell: Callable[[Story], None]):
    async def story(client: AsyncRedis) -> None:
        directory = Directory(client, Consent(Settings()))
        await directory.refresh()
        assert (directory.kinds, directory.gone) == ({}, set())
        await create(client, "one", "two")
        await directory.refresh()
        assert set(directory.kinds) == {"one", "two"}
        await storage.delete(client, "one", 4)
        await create(client, "three")
        await directory.refresh()
        assert (set(directory.kinds), directory.gone) == ({"two", "three"}, {"one"})

    tell(story)


def test_it_looks_more_than_once_a_second_by_itself(tell: Callable[[Story], None]):
    async def story(client: AsyncRedis) -> None:
        directory = Directory(client, Consent(Settings()))
        following = asyncio.create_task(directory.follow())
        await create(client, "one")
        await until(lambda: directory.is_web("one"))
        await storage.delete(client, "one", 4)
        await until(lambda: "one" in directory.gone)
        assert not directory.is_web("one")
        following.cancel()

    assert REFRESH <= 0.5
    tell(story)


def test_a_look_asks_redis_once_however_many_campaigns_there_are(tell: Callable[[Story], None]):
    async def story(client: AsyncRedis) -> None:
        await create(client, *(f"c{i}" for i in range(20)))
        line = Line(client)
        directory = Directory(line, Consent(Settings()))
        await directory.load()
        line.tries = 0
        await directory.refresh()
        assert line.tries == 1

    tell(story)


def test_it_reads_everything_again_when_the_log_was_trimmed(tell: Callable[[Story], None]):
    async def story(client: AsyncRedis) -> None:
        await create(client, "one", "two")
        directory = Directory(client, Consent(Settings()))
        await directory.load()
        await storage.delete(client, "one", 4)
        await create(client, "three")
        await create(client, "four")
        await client.xtrim(keys.CHANGES, maxlen=1, approximate=False)
        await directory.refresh()
        assert (set(directory.kinds), directory.gone) == ({"two", "three", "four"}, {"one"})
        await create(client, "five")
        await client.xtrim(keys.CHANGES, maxlen=0, approximate=False)
        await directory.refresh()
        assert directory.is_web("five")

    tell(story)


def test_it_reads_everything_again_when_too_much_has_changed(tell: Callable[[Story], None]):
    async def story(client: AsyncRedis) -> None:
        await create(client, "first")
        directory = Directory(client, Consent(Settings()))
        await directory.load()
        names = [f"c{i}" for i in range(1100)]
        for i in range(0, len(names), 50):
            await create(client, *names[i : i + 50])
        await directory.refresh()
        assert set(directory.kinds) == {"first", *names}

    tell(story)


def test_another_store_in_its_place_is_read_anew(tell: Callable[[Story], None]):
    async def story(client: AsyncRedis) -> None:
        await create(client, "one")
        directory = Directory(client, Consent(Settings()))
        await directory.load()
        await client.flushall()
        await directory.refresh()
        assert directory.kinds == {}
        await create(client, "two")
        await directory.refresh()
        assert set(directory.kinds) == {"two"}

    tell(story)


def test_while_redis_is_away_it_goes_by_what_it_knew(
    tell: Callable[[Story], None], caplog: pytest.LogCaptureFixture
):
    async def story(client: AsyncRedis) -> None:
        await create(client, "one", "two")
        await storage.delete(client, "two", 4)
        line = Line(client)
        directory = Directory(line, Consent(Settings()))
        await directory.load()
        following = asyncio.create_task(directory.follow())
        line.cut = True
        await create(client, "three")
        before = line.tries
        await until(lambda: line.tries >= before + 3)
        assert (set(directory.kinds), directory.gone) == ({"one"}, {"two"})
        line.cut = False
        await until(lambda: directory.is_web("three"))
        assert not following.done()
        following.cancel()

    with caplog.at_level(logging.WARNING):
        tell(story)
    assert [record.name for record in caplog.records] == ["pixel_server.campaigns.cache"]


def test_what_this_process_does_it_knows_at_once(tell: Callable[[Story], None]):
    async def story(client: AsyncRedis) -> None:
        directory = Directory(client, Consent(Settings()))
        await directory.load()
        directory.learn(new_campaign("one", "One", "web"))
        assert directory.is_web("one")
        directory.forget("one")
        assert not directory.is_web("one")
        assert directory.gone == {"one"}

    tell(story)
