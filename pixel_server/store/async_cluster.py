"""A client of a cluster for asyncio. It has the methods of redis-py's plain client.

Each node has a plain client of its own. A call is sent to all of its nodes at once, so it takes as long as
the slowest node. See `cluster_calls` for what is sent where, and what is sent again.

Every failure is a redis.ConnectionError or redis.TimeoutError that names the node. A call ends within its
timeout.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import redis
from redis import asyncio as aioredis
from redis.commands import AsyncCoreCommands
from redis.exceptions import BusyLoadingError, ResponseError

from pixel_server import tasks
from pixel_server.store import cluster_calls, topology
from pixel_server.store.cluster_calls import Call, Part, QueuedCommands, Request
from pixel_server.store.slots import SlotMap, slot_of
from pixel_server.store.topology import Survey, Topology
from pixel_server.store_url import Address

MakeAsyncNode = Callable[[Address, float, float], aioredis.Redis]
"""Makes a plain client of a node. Takes its address, and the timeouts of a command and of connecting (s)."""


class AsyncClusterRedis(AsyncCoreCommands):
    """seeds: nodes to ask for the slot map first. timeout: seconds that a call may take."""

    _event_dispatcher: Any = None  # the type of AsyncCoreCommands names it

    def __init__(self, seeds: Sequence[Address], make_node: MakeAsyncNode, timeout: float) -> None:
        self._make_node = make_node
        self._timeout = timeout
        self._topology = Topology(seeds)
        self._nodes: dict[Address, aioredis.Redis] = {}
        self._refreshing: asyncio.Task[None] | None = None
        self.callbacks: Any = self.node(seeds[0]).response_callbacks

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        if self._refreshing is not None:
            self._refreshing.cancel()
        while self._nodes:
            await self._nodes.popitem()[1].aclose()

    async def execute_command(self, *words: Any, **options: Any) -> Any:
        command = words, options
        (reply,) = await self.run([cluster_calls.request(command)])
        return cluster_calls.parse(reply, command, self.callbacks)

    def pipeline(self, *, transaction: bool = True) -> AsyncClusterPipeline:
        return AsyncClusterPipeline(self, transaction)

    async def nodes(self, *, replicas: bool = False) -> list[aioredis.Redis]:
        """Returns the plain client of each primary, and of each replica, by a map that is a few seconds old.

        Raises redis.ConnectionError if no node answers and the slots are not known yet.
        """
        is_old = self._topology.is_old(time.monotonic())
        slot_map = await self.refresh() if is_old else self._topology.slot_map
        return [self.node(address) for address in slot_map.primaries + replicas * slot_map.all_replicas]

    async def node_of(self, key: str) -> aioredis.Redis:
        """Returns the plain client of the primary that has a key. Raises redis.ConnectionError."""
        slot = slot_of(key)
        address = self.slot_map.primary(slot) or (await self.refresh()).primary(slot)
        if address is None:
            raise redis.ConnectionError(f"no node of the cluster has slot {slot}")
        return self.node(address)

    @property
    def slot_map(self) -> SlotMap:
        """Returns the map that is known now. It is empty until the first call."""
        return self._topology.slot_map

    async def refresh(self) -> SlotMap:
        """Asks several nodes for the slot map. Callers at the same time share the answer.

        Raises redis.ConnectionError if no node answers and there is no map yet.
        """
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._ask())
            self._refreshing.add_done_callback(tasks.retrieve_exception)
        await asyncio.shield(self._refreshing)
        return self._topology.slot_map

    async def run(self, requests: Sequence[Request]) -> list[Any]:
        """Carries out requests. Returns their replies.

        An error is a value in the list, also the error of a node that did not answer. Raises
        redis.ConnectionError if no node answers and the slots are not known yet.
        """
        deadline = asyncio.get_running_loop().time() + self._timeout
        call = Call(requests)
        has_retried = False  # with the map after a node that took no connection
        while call.is_open:
            slot_map = await self._map()
            parts = call.parts(slot_map)
            if len(parts) == 1:  # spares a task
                outcomes = [await self._exchange(parts[0], deadline)]
            else:
                outcomes = await asyncio.gather(*(self._exchange(part, deadline) for part in parts))
            for part, outcome in zip(parts, outcomes, strict=True):
                if outcome.error is None:
                    if call.take(part, outcome.replies, slot_map):
                        self._topology.note_outdated()
                    continue
                self._topology.note_failed(part.address)
                if outcome.is_sent or has_retried:
                    call.fail(part, outcome.error)
                else:
                    call.reopen(part)
            has_retried = has_retried or any(outcome.error for outcome in outcomes)
            if call.must_pause:
                if asyncio.get_running_loop().time() + cluster_calls.PAUSE_SECONDS > deadline:
                    call.give_up()
                else:
                    await asyncio.sleep(cluster_calls.PAUSE_SECONDS)
        return call.replies

    async def _exchange(self, part: Part, deadline: float) -> _Outcome:
        """Sends a node its part of a call, and reads the replies."""
        pool: Any = self.node(part.address).connection_pool
        connection: Any = None
        is_sent = False
        replies: list[Any] = []
        try:
            async with asyncio.timeout_at(deadline):  # the only timeout
                connection = await pool.get_connection()
                is_sent = True
                words = [words for words, _ in part.commands]
                await connection.send_packed_command(connection.pack_commands(words))
                for _ in part.commands:
                    try:
                        reply = await connection.read_response(timeout=math.inf, disconnect_on_error=False)
                    except (ResponseError, BusyLoadingError) as refusal:
                        reply = refusal
                    replies.append(reply)
        except BaseException as error:
            if connection is not None:
                await connection.disconnect(nowait=True)
            if isinstance(error, TimeoutError):
                error = redis.TimeoutError(f"no answer within {self._timeout:g} s")
            if not isinstance(error, redis.RedisError | OSError):
                raise
            return _Outcome(replies, is_sent, topology.named(part.address, error))
        finally:
            if connection is not None:
                await pool.release(connection)
        return _Outcome(replies, is_sent)

    async def _map(self) -> SlotMap:
        if self._topology.is_due(time.monotonic()):
            await self.refresh()
        return self._topology.slot_map

    async def _ask(self) -> None:
        """Asks several nodes for their view of the slots."""
        survey = self._topology.survey()
        while addresses := survey.next():
            await asyncio.gather(*(self._ask_node(address, survey) for address in addresses))
        self._topology.learn(survey, time.monotonic())

    async def _ask_node(self, address: Address, survey: Survey) -> None:
        seconds = topology.view_seconds(self._timeout)
        node: Any = self._make_node(address, seconds, seconds)
        try:
            async with asyncio.timeout(seconds):
                slots = await node.execute_command("CLUSTER", "SLOTS")
                survey.add(address, slots, await node.execute_command("CLUSTER", "NODES"))
        except (redis.RedisError, OSError) as error:  # TimeoutError is an OSError
            survey.fail(address, error)
        finally:
            await node.aclose()

    def node(self, address: Address) -> aioredis.Redis:
        """Returns the plain client of a node."""
        node = self._nodes.get(address)
        if node is None:
            node = self._nodes[address] = self._make_node(address, self._timeout, self._timeout / 2)
        return node


class AsyncClusterPipeline(QueuedCommands, AsyncCoreCommands):  # type: ignore[misc]  # bases of redis-py
    """A pipeline of a cluster. The keys of a transaction must have one tag."""

    _event_dispatcher: Any = None

    def __init__(self, client: AsyncClusterRedis, is_transaction: bool) -> None:
        super().__init__(is_transaction)
        self._client = client

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Sends all commands at once. Returns their replies in order.

        If `raise_on_error` is False, an error is a value in the list, also the error of a node that did not
        answer.
        """
        commands = self.take()
        if not commands:
            return []
        replies = await self._client.run(self.requests(commands))
        return self.parse(replies, commands, self._client, raise_on_error)


class _Outcome(NamedTuple):
    """Outcome of a part of a call. error: why it failed. is_sent: whether it left."""

    replies: list[Any]
    is_sent: bool
    error: redis.RedisError | None = None
