"""What a call to a cluster sends to which node, and what it makes of the replies. Without a server."""

from __future__ import annotations

import hypothesis
import pytest
import redis
from hypothesis import strategies as st
from redis.exceptions import AskError, BusyLoadingError, ClusterDownError, MovedError, TryAgainError

from pixel_server.store import cluster_calls, keys
from pixel_server.store.cluster_calls import Call, slot_of_command
from pixel_server.store.slots import SLOTS, SlotMap, SlotRange, slot_of, slot_of_shard
from pixel_server.store.topology import MEMORY_SECONDS, Survey, Topology

A, B, C = (("10.0.0.1", port) for port in (7001, 7002, 7003))
NODES = (A, B, C)
WAITS = (TryAgainError("Multiple keys"), ClusterDownError("The cluster is down"), BusyLoadingError("Loading"))
WHOLE = (0, SLOTS - 1)


def text(address: tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}"


class FakeNode:
    """A node as the others see it. It owns slots, imports slots, and refuses its first commands."""

    def __init__(self, owners: dict[int, tuple[str, int]], asks: dict[int, tuple[str, int]], refuses: list):
        self.owners, self.asks, self.refuses = owners, asks, refuses
        self.done: list[int] = []

    def reply(self, address, words, is_asking):
        _, key, number = words
        slot = slot_of(key)
        if self.refuses:
            return self.refuses.pop()
        if self.owners[slot] != address and not (is_asking and self.asks.get(slot) == address):
            return MovedError(f"{slot} {text(self.owners[slot])}")
        if self.owners[slot] == address and slot in self.asks and self.asks[slot] != address:
            return AskError(f"{slot} {text(self.asks[slot])}")
        self.done.append(number)
        return number


@hypothesis.given(st.data())
@hypothesis.settings(max_examples=100)
def test_call_nodes_redirect_and_refuse_replies_come_in_order_and_nothing_is_done_twice(data: st.DataObject):
    shards = data.draw(st.lists(st.integers(0, 5), max_size=12))
    owners = {slot_of_shard(shard): data.draw(st.sampled_from(NODES)) for shard in range(6)}
    asks = {slot: data.draw(st.sampled_from(NODES)) for slot in owners if data.draw(st.booleans())}
    nodes = {
        address: FakeNode(owners, asks, data.draw(st.lists(st.sampled_from(WAITS), max_size=3)))
        for address in NODES
    }
    slot_map = SlotMap([SlotRange(*WHOLE, data.draw(st.sampled_from(NODES)), (), 1)])
    commands = [(("XADD", keys.hits(shard), number), {}) for number, shard in enumerate(shards)]
    call = Call([cluster_calls.request(command) for command in commands])

    rounds = 0
    while call.is_open:
        rounds += 1
        assert rounds < 50
        for part in call.parts(slot_map):
            replies, is_asking = [], False
            for words, _ in part.commands:
                if words[0] == "ASKING":
                    replies.append(b"OK")
                else:
                    replies.append(nodes[part.address].reply(part.address, words, is_asking))
                is_asking = words[0] == "ASKING"
            call.take(part, replies, slot_map)

    assert call.replies == list(range(len(shards)))
    assert sorted(number for node in nodes.values() for number in node.done) == list(range(len(shards)))


def test_call_command_refused_waits_and_says_which_node_refused():
    slot_map = SlotMap([SlotRange(*WHOLE, A, (), 1)])
    call = Call([cluster_calls.request((("GET", "a"), {}))])
    (part,) = call.parts(slot_map)
    assert call.take(part, [ClusterDownError("The cluster is down")], slot_map)  # the map is out of date
    assert call.must_pause
    assert call.refusal == "node 10.0.0.1:7001: The cluster is down"


def test_call_nodes_name_each_other_pauses_after_some_rounds():
    slot_map = SlotMap([SlotRange(*WHOLE, A, (), 1)])
    call = Call([cluster_calls.request((("GET", "a"), {}))])
    rounds = 0
    while not call.must_pause:
        (part,) = call.parts(slot_map)
        other = B if part.address == A else A
        assert call.take(part, [MovedError(f"{slot_of('a')} {text(other)}")], slot_map)
        rounds += 1
    assert rounds == cluster_calls.MAX_MOVES + 1


def test_call_slot_without_a_node_waits():
    call = Call([cluster_calls.request((("GET", "a"), {}))])
    assert call.parts(SlotMap()) == []
    assert call.must_pause
    assert call.refusal == f"no node of the cluster has slot {slot_of('a')}"


def test_call_transaction_moved_is_sent_again_as_a_whole():
    commands = [(("SET", "{a}1", 1), {}), (("SET", "{a}2", 2), {})]
    slot_map = SlotMap([SlotRange(*WHOLE, A, (), 1)])
    call = Call([cluster_calls.transaction(commands)])
    (part,) = call.parts(slot_map)
    moved = MovedError(f"{slot_of('a')} {text(B)}")
    call.take(part, [b"OK", moved, moved, redis.exceptions.ExecAbortError("aborted")], slot_map)
    (part,) = call.parts(slot_map)
    assert part.address == B
    assert [words[0] for words, _ in part.commands] == ["MULTI", "SET", "SET", "EXEC"]
    call.take(part, [b"OK", b"QUEUED", b"QUEUED", [b"OK", b"OK"]], slot_map)
    assert call.replies == [[b"OK", b"OK"]]


def test_transaction_of_two_tags_is_refused():
    with pytest.raises(redis.DataError, match="one tag"):
        cluster_calls.transaction([(("SET", "{a}1", 1), {}), (("SET", "{b}1", 1), {})])


def test_slot_of_command_is_that_of_its_first_key():
    assert slot_of_command(("GET", "px:{3}:hits")) == slot_of_shard(3)
    assert slot_of_command(("EVAL", "return 1", 2, b"px:{3}:hits", "px:{3}:none")) == slot_of_shard(3)
    assert slot_of_command(("TIME",)) == slot_of(keys.STORE)


@pytest.mark.parametrize(
    "words", [("INFO",), ("CONFIG GET", "maxmemory"), ("EVAL", "return 1", 0), ("SCAN", 0)]
)
def test_slot_of_command_of_one_node_is_refused(words):
    with pytest.raises(redis.DataError, match="one by one"):
        slot_of_command(words)


def test_survey_asks_most_of_the_nodes_it_learns_of():
    survey = Survey([A])
    assert survey.next() == [A]
    ranges = [[0, 99, [b"10.0.0.1", 7001, b"a"]], [100, SLOTS - 1, [b"10.0.0.1", 7002, b"b"]]]
    survey.add(A, ranges, b"a 10.0.0.1:7001@1 master - 0 0 4 connected 0-99\n")
    assert survey.next() == [B]
    survey.fail(B, OSError("away"))
    assert survey.next() == []
    assert [str(error) for error in survey.errors] == ["node 10.0.0.1:7002: away"]


def test_topology_no_node_answers_says_why():
    topology = Topology([A])
    survey = topology.survey()
    for address in survey.next():
        survey.fail(address, redis.ConnectionError("refused"))
    with pytest.raises(redis.ConnectionError, match=r"no node .* answers: node 10.0.0.1:7001: refused"):
        topology.learn(survey, 1.0)


def test_topology_not_a_cluster_passes_the_refusal_on():
    topology = Topology([A])
    survey = topology.survey()
    survey.fail(A, redis.ResponseError("This instance has cluster support disabled"))
    with pytest.raises(redis.ResponseError, match="cluster support disabled"):
        topology.learn(survey, 1.0)


def test_topology_node_failed_is_asked_last():
    topology = Topology([A, B, C])
    topology.note_failed(A)
    assert topology.survey().next() == [B, C]


def named(holder: tuple[str, int], epoch: int) -> Survey:
    """Returns a survey in which one node names the holder of all slots since an epoch."""
    survey = Survey([A, B])
    line = f"x {text(holder)}@1 master - 0 0 {epoch} connected 0-{SLOTS - 1}\n"
    survey.add(A, [[*WHOLE, [holder[0].encode(), holder[1], b"x"]]], line.encode())
    return survey


def test_topology_later_view_of_a_lower_epoch_keeps_the_holder():
    """A node that was cut off tells its old view last, or a survey that began earlier ends later."""
    topology = Topology([A, B])
    topology.learn(named(B, 7), 1.0)
    topology.learn(named(A, 3), 2.0)
    assert topology.slot_map.primaries == (B,)
    topology.learn(named(C, 8), 3.0)
    assert topology.slot_map.primaries == (C,)


def test_topology_holder_failed_or_not_named_for_long_lets_a_lower_epoch_win():
    """A cluster that was made anew has epochs from 1 on."""
    for is_failed, now in ((True, 2.0), (False, 2.0 + MEMORY_SECONDS)):
        topology = Topology([A, B])
        topology.learn(named(B, 7), 1.0)
        if is_failed:
            topology.note_failed(B)
        topology.learn(named(C, 3), now)
        assert topology.slot_map.primaries == (C,)
