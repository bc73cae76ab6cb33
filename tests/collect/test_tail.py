"""The tail, and the confirmations of replicas, without a Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pixel_server.collect.batch import Batch
from pixel_server.collect.replica_watch import DOUBT_SECONDS, ReplicaWatch
from pixel_server.collect.tail import OVERHEAD_BYTES, Tail
from pixel_server.store.role import Role, parse_identity, parse_role

PRODUCER = "0" * 28


class Node:
    """A node that knows the last sequence number of each producer and shard, as `producer.APPEND` does."""

    def __init__(self, **last: int) -> None:
        self.last = {(0, producer): sequence for producer, sequence in last.items()}
        self.stored: list[tuple[str, int]] = []

    async def send(self, batches: Sequence[Batch]) -> list[int]:
        seen = []
        for batch in batches:
            key = batch.shard, batch.producer
            seen.append(self.last.get(key, 0))
            if batch.sequence > seen[-1]:
                self.last[key] = batch.sequence
                self.stored.append((batch.producer, batch.sequence))
        return seen


def batch(sequence: int, producer: str = "p", data: bytes = b"\x90") -> Batch:
    return Batch(0, producer, sequence, data)


def kept(tail: Tail) -> list[int]:
    """Returns the sequence numbers that a node without data would get."""
    node = Node()
    asyncio.run(tail.repeat("empty", node.send))
    return [sequence for _, sequence in node.stored]


def new_tail(seconds: float = 30, max_bytes: int = 1 << 20) -> tuple[Tail, list[tuple[int, int]]]:
    gaps: list[tuple[int, int]] = []
    tail = Tail(1, seconds, max_bytes, lambda batch, seen: gaps.append((batch.sequence, seen)))
    tail.begin()
    return tail, gaps


def test_tail_repeat_sends_only_what_the_node_may_lack_in_order_of_numbers():
    tail, gaps = new_tail()
    tail.keep("a", [batch(1), batch(2)], [0, 1], 1.0)
    tail.keep("b", [batch(4), batch(3)], [3, 3], 2.0)  # the reply to 3 was lost, so 3 was sent twice
    assert not tail.has_all("b", [batch(5)])
    node = Node(p=0)
    asyncio.run(tail.repeat("b", node.send))
    assert node.stored == [("p", 1), ("p", 2)]
    assert tail.has_all("b", [batch(5)])
    node.stored.clear()
    asyncio.run(tail.repeat("b", node.send))
    assert node.stored == []
    assert (kept(tail), gaps) == ([1, 2, 3, 4], [])


def test_tail_batch_not_accepted_is_not_kept():
    tail, _ = new_tail()
    tail.keep("a", [batch(1)._replace(after=1), batch(2)], [0, -5], 1.0)
    assert kept(tail) == []


def test_tail_above_its_bytes_drops_the_oldest_and_reports_them_if_lost():
    tail, gaps = new_tail(max_bytes=2 * (OVERHEAD_BYTES + 10))
    for sequence in range(1, 5):
        tail.keep("a", [batch(sequence, data=bytes(10))], [sequence - 1], 1.0)
    node = Node(p=1)
    asyncio.run(tail.repeat("b", node.send))
    assert node.stored == [("p", 3), ("p", 4)]
    assert gaps == [(3, 1)]


def test_tail_forget_keeps_what_is_recent_or_not_confirmed():
    tail, _ = new_tail(seconds=30)
    for sequence, now in ((1, 10.0), (2, 20.0), (3, 50.0)):
        tail.keep("a", [batch(sequence)], [sequence - 1], now)
    tail.forget("a", confirmed_before=15.0, now=60.0)
    tail.forget("b", confirmed_before=60.0, now=99.0)
    assert tail.keeps_after("p", 0, 2)
    assert not tail.keeps_after("p", 0, 3)
    tail.forget("a", confirmed_before=60.0, now=60.0)
    assert kept(tail) == [3]


def test_replica_watch_offsets_of_replicas_confirm_what_was_written_before():
    watch = ReplicaWatch()
    watch.note("a", Role(True, 100, (90,)), 1.0)
    assert watch.confirmed_before == float("-inf")
    watch.note("a", Role(True, 150, (99,)), 2.0)
    assert not watch.is_doubtful(2.0)
    assert watch.is_doubtful(1.1 + DOUBT_SECONDS)
    watch.note("a", Role(True, 200, (100,)), 5.0)
    assert watch.confirmed_before == 1.0
    assert not watch.is_doubtful(5.0)
    watch.note("a", Role(True, 200, ()), 6.0)
    assert watch.is_doubtful(6.0)


def test_role_and_identity_are_parsed():
    assert parse_role([b"master", 42, [[b"10.0.0.2", b"6379", b"40"]]]) == Role(True, 42, (40,))
    assert parse_role([b"slave", b"10.0.0.1", 6379, b"connected", 42]) == Role(False)
    info = b"# Server\r\nrun_id:0a1b\r\nport:1\r\n# Replication\r\nmaster_replid:2c3d\r\nmaster_replid2:0\r\n"
    assert parse_identity(info) == "0a1b 2c3d"
    assert parse_identity(b"run_id:0a1b\r\n") == ""
