"""A client of a cluster that blocks. It has the methods of redis-py's plain client.

Each node has a plain client of its own. A call is sent to all of its nodes before the first reply is read, so
it takes as long as the slowest node. See `cluster_calls` for what is sent where, and what is sent again.

Every failure is a redis.ConnectionError or redis.TimeoutError that names the node. A call ends within its
timeout; while several nodes accept no connection, it takes at most half as long again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Self

import redis
from redis.commands import CoreCommands
from redis.exceptions import BusyLoadingError, ResponseError

from pixel_server.store import cluster_calls, topology
from pixel_server.store.cluster_calls import Call, Part, QueuedCommands, Request
from pixel_server.store.slots import SlotMap
from pixel_server.store.topology import Topology
from pixel_server.store_url import Address

MakeNode = Callable[[Address, float, float], redis.Redis]
"""Makes a plain client of a node. Takes its address, and the timeouts of a command and of connecting (s)."""


class ClusterRedis(CoreCommands):
    """seeds: nodes to ask for the slot map first. timeout: seconds that a call may take."""

    _event_dispatcher: Any = None  # the type of CoreCommands names it

    def __init__(self, seeds: Sequence[Address], make_node: MakeNode, timeout: float) -> None:
        self._make_node = make_node
        self._timeout = timeout
        self._topology = Topology(seeds)
        self._nodes: dict[Address, redis.Redis] = {}
        self.callbacks = self._node(seeds[0]).response_callbacks

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        while self._nodes:
            self._nodes.popitem()[1].close()

    def execute_command(self, *words: Any, **options: Any) -> Any:
        command = words, options
        (reply,) = self.run([cluster_calls.request(command)])
        return cluster_calls.parse(reply, command, self.callbacks)

    def pipeline(self, *, transaction: bool = True) -> ClusterPipeline:
        return ClusterPipeline(self, transaction)

    def nodes(self, *, replicas: bool = False) -> list[redis.Redis]:
        """Returns the plain client of each primary, and of each replica, by a map that is a few seconds old.

        Raises redis.ConnectionError if no node answers and the slots are not known yet.
        """
        now = time.monotonic()
        if self._topology.is_old(now):
            self._refresh(now + self._timeout)
        slot_map = self._topology.slot_map
        return [self._node(address) for address in slot_map.primaries + replicas * slot_map.all_replicas]

    def run(self, requests: Sequence[Request]) -> list[Any]:
        """Carries out requests. Returns their replies.

        An error is a value in the list, also the error of a node that did not answer. Raises
        redis.ConnectionError if no node answers and the slots are not known yet.
        """
        deadline = time.monotonic() + self._timeout
        call = Call(requests)
        has_retried = False  # with the map after a node that took no connection
        while call.is_open:
            slot_map = self._map(deadline)
            flights = [_Flight(part, self._node(part.address)) for part in call.parts(slot_map)]
            for flight in flights:
                flight.send(deadline)
            for flight in flights:
                flight.receive(deadline)
            for flight in flights:
                if flight.error is None:
                    if call.take(flight.part, flight.replies, slot_map):
                        self._topology.note_outdated()
                    continue
                self._topology.note_failed(flight.part.address)
                if flight.is_sent or has_retried:
                    call.fail(flight.part, flight.error)
                else:
                    call.reopen(flight.part)
            has_retried = has_retried or any(flight.error for flight in flights)
            if call.must_pause:
                if time.monotonic() + cluster_calls.PAUSE_SECONDS > deadline:
                    call.give_up()
                else:
                    time.sleep(cluster_calls.PAUSE_SECONDS)
        return call.replies

    def _map(self, deadline: float) -> SlotMap:
        if self._topology.is_due(time.monotonic()):
            self._refresh(deadline)
        return self._topology.slot_map

    def _refresh(self, deadline: float) -> None:
        """Asks several nodes for their view of the slots. Raises redis.ConnectionError if there is no map."""
        survey = self._topology.survey()
        while addresses := survey.next():
            for address in addresses:
                left_seconds = deadline - time.monotonic()
                seconds = max(0.01, min(topology.view_seconds(self._timeout), left_seconds))
                try:
                    with self._make_node(address, seconds, seconds) as node:
                        slots = node.execute_command("CLUSTER", "SLOTS")
                        survey.add(address, slots, node.execute_command("CLUSTER", "NODES"))
                except (redis.RedisError, OSError) as error:
                    survey.fail(address, error)
        self._topology.learn(survey, time.monotonic())

    def _node(self, address: Address) -> redis.Redis:
        node = self._nodes.get(address)
        if node is None:
            node = self._make_node(address, self._timeout, self._timeout / 2)
            node = self._nodes.setdefault(address, node)
        return node


class ClusterPipeline(QueuedCommands, CoreCommands):
    """A pipeline of a cluster. The keys of a transaction must have one tag."""

    _event_dispatcher: Any = None

    def __init__(self, client: ClusterRedis, is_transaction: bool) -> None:
        super().__init__(is_transaction)
        self._client = client

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Sends all commands at once. Returns their replies in order.

        If `raise_on_error` is False, an error is a value in the list, also the error of a node that did not
        answer.
        """
        commands = self.take()
        if not commands:
            return []
        replies = self._client.run(self.requests(commands))
        return self.parse(replies, commands, self._client, raise_on_error)


class _Flight:
    """A part of a call on its way to a node and back. error: why it failed. is_sent: whether it left."""

    def __init__(self, part: Part, node: redis.Redis) -> None:
        self.part = part
        self.replies: list[Any] = []
        self.error: redis.RedisError | None = None
        self.is_sent = False
        self._pool: Any = node.connection_pool
        self._connection: Any = None

    def send(self, deadline: float) -> None:
        try:
            if time.monotonic() > deadline:
                raise redis.TimeoutError("no time was left to connect")
            self._connection = connection = self._pool.get_connection()
            self.is_sent = True
            words = [words for words, _ in self.part.commands]
            connection.send_packed_command(connection.pack_commands(words))
        except (redis.RedisError, OSError) as error:
            self._end(error)

    def receive(self, deadline: float) -> None:
        connection = self._connection
        if connection is None:
            return
        try:
            for _ in self.part.commands:
                left_seconds = max(deadline - time.monotonic(), 0.001)
                try:
                    reply = connection.read_response(timeout=left_seconds, disconnect_on_error=False)
                except (ResponseError, BusyLoadingError) as refusal:
                    reply = refusal
                self.replies.append(reply)
        except (redis.RedisError, OSError) as error:
            self._end(error)
        else:
            self._end()

    def _end(self, error: Exception | None = None) -> None:
        """Gives the connection back, closed after an error."""
        connection, self._connection = self._connection, None
        if connection is not None:
            if error is not None:
                connection.disconnect()
            self._pool.release(connection)
        if error is not None:
            self.error = topology.named(self.part.address, error)
