"""The cache of campaigns in a web process: what it loads, and how soon it learns of changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis

from pixel_server.campaigns import deletion, storage
from pixel_server.campaigns.cache import REFRESH_SECONDS, CampaignCache
from pixel_server.campaigns.campaign import new_campaign
from pixel_server.consent import Consent
from pixel_server.settings import Settings
from pixel_server.store import keys
from pixel_server.store.client import connect_async
from pixel_server.store.protocols import AsyncRedis

Story = Callable[[AsyncRedis], Awaitable[None]]


@pytest.fixture
def run_story(redis_url: str) -> Callable[[Story], None]:
    """Returns a function that runs a story with a client of the empty store."""

    def run(story: Story) -> None:
        async def whole() -> None:
            async with connect_async(redis_url, timeout=30) as client:
                await asyncio.wait_for(story(client), 60)

        asyncio.run(whole())

    return run


async def create(client: AsyncRedis, *names: str) -> None:
    await asyncio.gather(*(storage.create(client, new_campaign(name, name, "web")) for name in names))


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - nothing tells when it knows
        await asyncio.sleep(0.02)


class Line:
    """A client whose connection can be cut."""

    def __init__(self, client: AsyncRedis) -> None:
        self._client = client
        self.cut = False
        self.tries = 0

    def __getattr__(self, name: str) -> Any:
        self.tries += 1
        if self.cut:
            raise redis.ConnectionError("away")
        return getattr(self._client, name)


def test_load_reads_campaigns_and_deleted_campaigns(run_story: Callable[[Story], None]):
    async def story(client: AsyncRedis) -> None:
        await create(client, "one", "two", "three")
        await storage.create(client, new_campaign("mail", "Mail", "email"))
        await deletion.delete(client, "two", 4)
        cache = CampaignCache(client, Consent(Settings()))
        assert not cache.has_loaded
        await cache.load()
        assert cache.has_loaded
        assert cache.kinds == {"one": "web", "three": "web", "mail": "email"}
        assert cache.gone == {"two"}
        assert [cache.is_web(name) for name in ("one", "two", "mail", "none")] == [
            True,
            False,
            False,
            False,
        ]

    run_story(story)


def test_refresh_sees_campaigns_created_and_deleted_elsewhere(run_story: Callable[[Story], None]):
    async def story(client: AsyncRedis) -> None:
        cache = CampaignCache(client, Consent(Settings()))
        await cache.refresh()
        assert (cache.kinds, cache.gone) == ({}, set())
        await create(client, "one", "two")
        await cache.refresh()
        assert set(cache.kinds) == {"one", "two"}
        await deletion.delete(client, "one", 4)
        await create(client, "three")
        await cache.refresh()
        assert (set(cache.kinds), cache.gone) == ({"two", "three"}, {"one"})

    run_story(story)


def test_follow_learns_of_a_change_within_a_second(run_story: Callable[[Story], None]):
    async def story(client: AsyncRedis) -> None:
        cache = CampaignCache(client, Consent(Settings()))
        following = asyncio.create_task(cache.follow())
        await create(client, "one")
        await until(lambda: cache.is_web("one"))
        await deletion.delete(client, "one", 4)
        await until(lambda: "one" in cache.gone)
        assert not cache.is_web("one")
        following.cancel()

    assert REFRESH_SECONDS <= 0.5
    run_story(story)


def test_refresh_many_campaigns_takes_one_request(run_story: Callable[[Story], None]):
    async def story(client: AsyncRedis) -> None:
        await create(client, *(f"c{i}" for i in range(20)))
        line = Line(client)
        cache = CampaignCache(line, Consent(Settings()))
        await cache.load()
        line.tries = 0
        await cache.refresh()
        assert line.tries == 1

    run_story(story)


def test_refresh_trimmed_log_reads_all_campaigns(run_story: Callable[[Story], None]):
    async def story(client: AsyncRedis) -> None:
        await create(client, "one", "two")
        cache = CampaignCache(client, Consent(Settings()))
        await cache.load()
        await deletion.delete(client, "one", 4)
        await create(client, "three")
        await create(client, "four")
        await client.xtrim(keys.CHANGES, maxlen=1, approximate=False)
        await cache.refresh()
        assert (set(cache.kinds), cache.gone) == ({"two", "three", "four"}, {"one"})
        await create(client, "five")
        await client.xtrim(keys.CHANGES, maxlen=0, approximate=False)
        await cache.refresh()
        assert cache.is_web("five")

    run_story(story)


def test_refresh_too_many_changes_reads_all_campaigns(run_story: Callable[[Story], None]):
    async def story(client: AsyncRedis) -> None:
        await create(client, "first")
        cache = CampaignCache(client, Consent(Settings()))
        await cache.load()
        names = [f"c{i}" for i in range(1100)]
        for i in range(0, len(names), 50):
            await create(client, *names[i : i + 50])
        await cache.refresh()
        assert set(cache.kinds) == {"first", *names}

    run_story(story)


def test_refresh_another_store_reads_all_campaigns(run_story: Callable[[Story], None]):
    async def story(client: AsyncRedis) -> None:
        await create(client, "one")
        cache = CampaignCache(client, Consent(Settings()))
        await cache.load()
        await client.flushall()
        await cache.refresh()
        assert cache.kinds == {}
        await create(client, "two")
        await cache.refresh()
        assert set(cache.kinds) == {"two"}

    run_story(story)


def test_follow_redis_away_keeps_what_is_known(
    run_story: Callable[[Story], None], caplog: pytest.LogCaptureFixture
):
    async def story(client: AsyncRedis) -> None:
        await create(client, "one", "two")
        await deletion.delete(client, "two", 4)
        line = Line(client)
        cache = CampaignCache(line, Consent(Settings()))
        await cache.load()
        following = asyncio.create_task(cache.follow())
        line.cut = True
        await create(client, "three")
        before = line.tries
        await until(lambda: line.tries >= before + 3)
        assert (set(cache.kinds), cache.gone) == ({"one"}, {"two"})
        line.cut = False
        await until(lambda: cache.is_web("three"))
        assert not following.done()
        following.cancel()

    with caplog.at_level(logging.WARNING):
        run_story(story)
    assert [record.name for record in caplog.records] == ["pixel_server.campaigns.cache"]


def test_learn_and_forget_take_effect_at_once(run_story: Callable[[Story], None]):
    async def story(client: AsyncRedis) -> None:
        cache = CampaignCache(client, Consent(Settings()))
        await cache.load()
        cache.learn(new_campaign("one", "One", "web"))
        assert cache.is_web("one")
        cache.forget("one")
        assert not cache.is_web("one")
        assert cache.gone == {"one"}

    run_story(story)
