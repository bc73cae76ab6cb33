"""Roll-up, erasure, upload and retention race, command by command: nothing of an erased person comes back."""

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
from workers import retention as run
from workers.rollup_pass import Outcome, Rollup

DAY = 86_400
GONE, STAYS = "gone@example.org", "stays@example.org"


class Killed(BaseException):
    """The process is gone."""


class Race:
    """Some actors, of whom one at a time sends one command. bursts: (who, how many in a row)."""

    def __init__(self, bursts: list[tuple[str, int]], deaths: dict[str, int]) -> None:
        self._order = [name for name, commands in bursts for _ in range(commands)]
        self._deaths = deaths
        self._at_the_gate: dict[str, asyncio.Future[None]] = {}
        self._moved = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def gate(self, name: str) -> None:
        """Called before each command. Killed: it does not come that far."""
        self._deaths[name] = self._deaths.get(name, 0) - 1
        if self._deaths[name] == 0:
            raise Killed
        waits = self._at_the_gate[name] = self._loop.create_future()
        self._moved.set()
        await waits

    async def run(self, actors: dict[str, Awaitable[None]]) -> set[str]:
        """Until all have ended. Who came to the end of what they did."""
        tasks = {name: asyncio.ensure_future(actor) for name, actor in actors.items()}
        for task in tasks.values():
            task.add_done_callback(lambda _: self._moved.set())
        while any(not task.done() for task in tasks.values()):
            self._moved.clear()
            live = [name for name, task in tasks.items() if not task.done()]
            if all(name in self._at_the_gate for name in live):
                while self._order and self._order[0] not in live:
                    del self._order[0]
                name = self._order.pop(0) if self._order else live[0]
                self._at_the_gate.pop(name).set_result(None)
                continue
            await asyncio.wait_for(self._moved.wait(), 10)
        ended = set()
        for name, task in tasks.items():
            try:
                await task
                ended.add(name)
            except Killed:
                pass
        return ended

    def client(self, url: str, name: str) -> Any:
        """An asyncio client whose commands wait at the gate."""
        made = connect_async(url)
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

        made.__class__ = Gated
        return made

    def sync_client(self, url: str, name: str) -> Any:
        """The same for one that runs in a thread."""
        made = connect(url)
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

        made.__class__ = Gated
        return made


def opened(secrets: Secrets, who: str, hours_ago: int) -> Hit:
    key = secrets.recipient_key(who)
    flags = Token("mail", 0, key, Mode.IDENTIFIED, Part.SINGLE).flags
    ms = int(NOW * 1000) - hours_ago * 3_600_000
    return Hit(ms, "mail", hit.EMAIL, "GET", flags, int(NOW) - 5 * DAY, key, b"", b"\x0a\0\0\1")


async def play(
    url: str,
    secrets: Secrets,
    wanted: Settings,
    story: list[tuple[str, int]],
    bursts: list[tuple[str, int]],
    deaths: dict[str, int],
) -> set[str]:
    race = Race(bursts, dict(deaths))
    direct = connect_async(url)
    made = new_campaign("mail", "Mail", "email", mode="identified", sent_at=int(NOW) - 5 * DAY)
    await storage.create(direct, made)
    for who, hours in story:
        one = opened(secrets, who, hours)
        shard = shard_of(one.recipient, wanted.shards)
        await direct.xadd(keys.hits(shard), {str(hit.FORMAT): hit.encode_batch([hit.encode(one)])})

    def roll_up() -> None:
        client = race.sync_client(url, "roll-up")
        for shard in range(wanted.shards):
            rollup = Rollup(client, wanted, secrets, shard, max_entries=2, max_ahead_ms=ANY_YEAR)
            while rollup.step(NOW) in (Outcome.COUNTED, Outcome.MOVED):
                pass

    async def erase() -> None:
        client = race.client(url, "erasure")
        await erasure.erase(client, secrets, secrets.recipient_key(GONE), NOW, wanted.shards, "x")

    async def upload() -> None:
        client = race.client(url, "upload")
        try:
            # It begins a moment before the campaign's time is over.
            await lists.begin(client, "mail", True, wanted, NOW - 1)
            rows = [ListEntry(GONE, "One who goes"), ListEntry(STAYS, "One who stays")]
            await lists.put(client, secrets, "mail", rows, wanted.shards, True)
        except lists.ListClosed:
            pass

    async def sweep() -> None:
        await run.sweep(race.client(url, "retention"), wanted, NOW, float("inf"))

    actors: dict[str, Callable[[], Awaitable[None]]] = {
        "erasure": erase,
        "retention": sweep,
        "roll-up": lambda: asyncio.to_thread(roll_up),
        "upload": upload,
    }
    taking_part = {name for name, _ in bursts} | {"erasure", "upload"}
    ended = await race.run({name: actors[name]() for name in sorted(taking_part)})
    # What was cut off is done again, as it would be.
    if "erasure" not in ended:
        await erasure.erase(direct, secrets, secrets.recipient_key(GONE), NOW, wanted.shards, "x")
    await run.sweep(direct, wanted, NOW, float("inf"))
    await direct.aclose()
    return ended


names = st.sampled_from(["erasure", "retention", "roll-up", "upload"])


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    story=st.lists(st.tuples(st.sampled_from([GONE, STAYS]), st.integers(0, 100)), min_size=1, max_size=8),
    bursts=st.lists(st.tuples(names, st.integers(1, 9)), max_size=12),
    deaths=st.dictionaries(names, st.integers(1, 40), max_size=2),
    closes=st.sampled_from([400, 400, 5]),
)
def test_nothing_of_an_erased_person_comes_back(
    valkey_url: str,
    secrets: Secrets,
    story: list[tuple[str, int]],
    bursts: list[tuple[str, int]],
    deaths: dict[str, int],
    closes: int,
):
    client = connect(valkey_url)
    client.flushall()
    wanted = Settings(redis_url=valkey_url, shards=2, keep_recipients=closes)
    wanted = replace(wanted, keep_names=min(wanted.keep_names, closes))
    ended = asyncio.run(play(valkey_url, secrets, wanted, story, bursts, deaths))
    for shard in range(wanted.shards):
        rollup = Rollup(client, wanted, secrets, shard, max_ahead_ms=ANY_YEAR)
        while rollup.step(NOW) is Outcome.COUNTED:
            pass

    everything = b"".join(name + client.dump(name) for name in client.keys("px:*"))
    for trace in (secrets.recipient_key(GONE), GONE.encode(), b"One who goes"):
        assert trace not in everything
    stays = secrets.recipient_key(STAYS)
    shard, bucket = shard_of(stays, wanted.shards), recipient_record.people_bucket(stays)
    opens = sum(who == STAYS for who, _ in story)
    kept = recipient_record.unpack(client.hget(keys.people(shard, "mail", bucket), stays))
    totals = [client.hgetall(keys.total(n, "mail")) for n in range(wanted.shards)]
    if closes == 5:
        assert [name for kind in ("people", "listed", "names") for name in client.keys(f"*:{kind}:*")] == []
    else:
        assert kept.opens == opens
        unique = sum(int(total.get(b"unique_opens", 0)) for total in totals)
        assert (opens > 0) <= unique <= (opens > 0) + 1
        if "upload" in ended:
            assert client.hexists(keys.listed(shard, "mail", bucket), stays)
            name = client.hget(keys.names(shard, "mail", bucket), stays)
            assert lists.unpack(name) == ListEntry(STAYS, "One who stays")
    counted = sum(int(total.get(b"opens", 0)) for total in totals)
    assert opens <= counted <= len(story)
    client.close()
