"""Roll-up, erasure, upload and retention race command by command: nothing of an erased person comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from pixel_server import hit
from pixel_server.campaigns import storage
from pixel_server.campaigns.campaign import new_campaign
from pixel_server.counters import recipient_record
from pixel_server.hit import Hit
from pixel_server.recipients import erasure, lists
from pixel_server.recipients.lists import ListEntry
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import keys
from pixel_server.store.client import connect, connect_async
from pixel_server.store.shards import shard_of
from pixel_server.tokens import Mode, Part, Token
from tests.conftest import ANY_YEAR, NOW
from tests.properties import examples
from workers.retention import sweep
from workers.rollup_pass import Outcome, Rollup

DAY = 86_400
ERASED, OTHER = "erased@example.org", "other@example.org"
"""The recipient who is erased, and a recipient who is not."""


class Killed(BaseException):
    """The process was killed."""


class Race:
    """Lets actors send their commands one at a time.

    turns: (actor, number of commands in a row). deaths: the command before which an actor is killed.
    """

    def __init__(self, turns: list[tuple[str, int]], deaths: dict[str, int]) -> None:
        self._order = [name for name, commands in turns for _ in range(commands)]
        self._deaths = deaths
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._moved = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def gate(self, name: str) -> None:
        """Waits until the actor may send a command. Raises Killed if the actor dies before it."""
        self._deaths[name] = self._deaths.get(name, 0) - 1
        if self._deaths[name] == 0:
            raise Killed
        waits = self._waiting[name] = self._loop.create_future()
        self._moved.set()
        await waits

    async def run(self, actors: dict[str, Awaitable[None]]) -> set[str]:
        """Runs the actors until all have ended. Returns the actors that were not killed."""
        tasks = {name: asyncio.ensure_future(actor) for name, actor in actors.items()}
        for task in tasks.values():
            task.add_done_callback(lambda _: self._moved.set())
        while any(not task.done() for task in tasks.values()):
            self._moved.clear()
            live = [name for name, task in tasks.items() if not task.done()]
            if all(name in self._waiting for name in live):
                while self._order and self._order[0] not in live:
                    del self._order[0]
                name = self._order.pop(0) if self._order else live[0]
                self._waiting.pop(name).set_result(None)
                continue
            await asyncio.wait_for(self._moved.wait(), 60)
        ended = set()
        for name, task in tasks.items():
            try:
                await task
                ended.add(name)
            except Killed:
                pass
        return ended

    def client(self, url: str, name: str) -> Any:
        """Returns an asyncio client whose commands wait at the gate."""
        client = connect_async(url)
        race = self

        class Gated(AsyncRedis):
            async def execute_command(self, *args: Any, **options: Any) -> Any:
                await race.gate(name)
                return await AsyncRedis.execute_command(self, *args, **options)

            def pipeline(self, *args: Any, **options: Any) -> Any:
                pipe = AsyncRedis.pipeline(self, *args, **options)
                execute = pipe.execute

                async def gated() -> Any:
                    await race.gate(name)
                    return await execute()

                pipe.execute = gated
                return pipe

        client.__class__ = Gated
        return client

    def sync_client(self, url: str, name: str) -> Any:
        """Returns a client for a thread whose commands wait at the gate."""
        client = connect(url)
        race = self

        def wait() -> None:
            asyncio.run_coroutine_threadsafe(race.gate(name), race._loop).result(10)

        class Gated(Redis):
            def execute_command(self, *args: Any, **options: Any) -> Any:
                wait()
                return Redis.execute_command(self, *args, **options)

            def pipeline(self, *args: Any, **options: Any) -> Any:
                pipe = Redis.pipeline(self, *args, **options)
                execute = pipe.execute

                def gated() -> Any:
                    wait()
                    return execute()

                pipe.execute = gated
                return pipe

        client.__class__ = Gated
        return client


def opened(secrets: Secrets, who: str, hours_ago: int) -> Hit:
    key = secrets.recipient_key(who)
    flags = Token("mail", 0, key, Mode.IDENTIFIED, Part.SINGLE).flags
    ms = int(NOW * 1000) - hours_ago * 3_600_000
    return Hit(ms, "mail", hit.EMAIL, "GET", flags, int(NOW) - 5 * DAY, key, b"", b"\x0a\0\0\1")


async def play(
    url: str,
    secrets: Secrets,
    own: Settings,
    story: list[tuple[str, int]],
    turns: list[tuple[str, int]],
    deaths: dict[str, int],
) -> set[str]:
    race = Race(turns, dict(deaths))
    direct = connect_async(url)
    campaign = new_campaign("mail", "Mail", "email", mode="identified", sent_at=int(NOW) - 5 * DAY)
    await storage.create(direct, campaign)
    for who, hours in story:
        opening = opened(secrets, who, hours)
        shard = shard_of(opening.recipient, own.shards)
        await direct.xadd(keys.hits(shard), {str(hit.FORMAT): hit.encode_batch([hit.encode(opening)])})

    def roll_up() -> None:
        client = race.sync_client(url, "roll-up")
        for shard in range(own.shards):
            rollup = Rollup(client, own, secrets, shard, max_entries=2, max_ahead_ms=ANY_YEAR)
            while rollup.run_pass(NOW) in (Outcome.COUNTED, Outcome.NOT_COMMITTED):
                pass

    async def erase() -> None:
        client = race.client(url, "erasure")
        await erasure.erase(client, secrets, secrets.recipient_key(ERASED), NOW, own.shards, "x")

    async def upload() -> None:
        client = race.client(url, "upload")
        try:
            # The upload begins a moment before the campaign's time is over.
            await lists.begin(client, "mail", True, own, NOW - 1)
            rows = [ListEntry(ERASED, "Name of the erased"), ListEntry(OTHER, "Name of the other")]
            await lists.put(client, secrets, "mail", rows, own.shards, True)
        except lists.ListClosed:
            pass

    async def sweep_once() -> None:
        await sweep(race.client(url, "retention"), own, NOW, float("inf"))

    actors: dict[str, Callable[[], Awaitable[None]]] = {
        "erasure": erase,
        "retention": sweep_once,
        "roll-up": lambda: asyncio.to_thread(roll_up),
        "upload": upload,
    }
    taking_part = {name for name, _ in turns} | {"erasure", "upload"}
    ended = await race.run({name: actors[name]() for name in sorted(taking_part)})
    # What was cut off is done again, as a server would do it.
    if "erasure" not in ended:
        await erasure.erase(direct, secrets, secrets.recipient_key(ERASED), NOW, own.shards, "x")
    await sweep(direct, own, NOW, float("inf"))
    await direct.aclose()
    return ended


names = st.sampled_from(["erasure", "retention", "roll-up", "upload"])


@settings(
    max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    story=st.lists(st.tuples(st.sampled_from([ERASED, OTHER]), st.integers(0, 100)), min_size=1, max_size=8),
    turns=st.lists(st.tuples(names, st.integers(1, 9)), max_size=12),
    deaths=st.dictionaries(names, st.integers(1, 40), max_size=2),
    closes=st.sampled_from([400, 400, 5]),
)
def test_erasure_any_race_leaves_nothing_of_the_person(
    valkey_url: str,
    secrets: Secrets,
    story: list[tuple[str, int]],
    turns: list[tuple[str, int]],
    deaths: dict[str, int],
    closes: int,
):
    client = connect(valkey_url)
    client.flushall()
    own = Settings(redis_url=valkey_url, shards=2, keep_recipients=closes)
    own = replace(own, keep_names=min(own.keep_names, closes))
    ended = asyncio.run(play(valkey_url, secrets, own, story, turns, deaths))
    for shard in range(own.shards):
        rollup = Rollup(client, own, secrets, shard, max_ahead_ms=ANY_YEAR)
        while rollup.run_pass(NOW) is Outcome.COUNTED:
            pass

    everything = b"".join(name + client.dump(name) for name in client.keys("px:*"))
    for trace in (secrets.recipient_key(ERASED), ERASED.encode(), b"Name of the erased"):
        assert trace not in everything
    other = secrets.recipient_key(OTHER)
    shard, bucket = shard_of(other, own.shards), recipient_record.people_bucket(other)
    opens = sum(who == OTHER for who, _ in story)
    kept = recipient_record.unpack(client.hget(keys.people(shard, "mail", bucket), other))
    totals = [client.hgetall(keys.total(n, "mail")) for n in range(own.shards)]
    if closes == 5:
        assert [name for kind in ("people", "listed", "names") for name in client.keys(f"*:{kind}:*")] == []
    else:
        assert kept.opens == opens
        unique = sum(int(total.get(b"unique_opens", 0)) for total in totals)
        assert (opens > 0) <= unique <= (opens > 0) + 1
        if "upload" in ended:
            assert client.hexists(keys.listed(shard, "mail", bucket), other)
            name = client.hget(keys.names(shard, "mail", bucket), other)
            assert lists.unpack(name) == ListEntry(OTHER, "Name of the other")
    counted = sum(int(total.get(b"opens", 0)) for total in totals)
    assert opens <= counted <= len(story)
    client.close()
