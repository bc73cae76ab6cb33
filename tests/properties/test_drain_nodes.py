"""The drain of a store with several nodes: each shard in order, whichever nodes are away or fail."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections import Counter, deque
from collections.abc import Hashable, Sequence, Set
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pixel_server.collect.batch import Batch
from pixel_server.collect.spool.drain import Drain
from pixel_server.collect.spool.spool import Spool
from pixel_server.collect.spool.status import read_status
from tests.collect.spool.batches import batch, files
from tests.properties import examples

SHARDS, NODES = 4, 3


class ModelNodes:
    """Nodes that are present, away or failing, and a sink over them that checks the order of each shard.

    away: known to be away. failing: tried, and the try fails. stored: the last number of each shard.
    meanwhile: changes, each of which happens during a call of `append`.
    """

    def __init__(self) -> None:
        self.places = {shard: shard % NODES for shard in range(SHARDS)}
        self.away: set[int] = set()
        self.failing: set[int] = set()
        self.stored: Counter[int] = Counter()
        self.meanwhile: deque[tuple[str, Any]] = deque()

    def change(self, change: tuple[str, Any]) -> None:
        match change:
            case ("move", (shard, node)):
                self.places[shard] = node
            case ("leave", node):
                self.away.add(node)
            case ("fail", node):
                self.failing.add(node)
            case ("return", node):
                self.away.discard(node)
                self.failing.discard(node)

    def node_of(self, shard: int) -> Hashable:
        return self.places[shard]

    def present(self) -> Set[Hashable]:
        return set(range(NODES)) - self.away

    async def append(self, batches: Sequence[Batch]) -> list[int]:
        await asyncio.sleep(0)
        seen = []
        for each in batches:
            if self.places[each.shard] in self.failing | self.away:
                raise ConnectionError("the node is away")
            seen.append(self.stored[each.shard])
            assert each.sequence <= self.stored[each.shard] + 1, "an earlier batch was left behind"
            self.stored[each.shard] = max(each.sequence, self.stored[each.shard])
        if self.meanwhile:
            self.change(self.meanwhile.popleft())
        return seen


SHARD, NODE = st.integers(0, SHARDS - 1), st.integers(0, NODES - 1)
CHANGE = st.one_of(
    st.tuples(st.sampled_from(["leave", "fail", "return"]), NODE),
    st.tuples(st.just("move"), st.tuples(SHARD, NODE)),
)
STEP = st.one_of(
    st.tuples(st.just("append"), st.lists(SHARD, min_size=1, max_size=4, unique=True)),
    CHANGE,
    st.tuples(st.just("drain"), st.lists(CHANGE, max_size=3)),
)


@settings(
    max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=st.lists(STEP, max_size=40))
@example([("leave", 1), ("append", [0, 1]), ("append", [1]), ("append", [0]), ("drain", [("move", (1, 0))])])
@example(  # the first segment is known to wait when the shard moves
    [
        *(("leave", 1), ("append", [0, 1]), ("append", [0]), ("drain", [])),
        *(("append", [0]), ("append", [1]), ("append", [0]), ("drain", [("move", (1, 0))])),
    ]
)
def test_drain_nodes_leave_and_return_keeps_the_order_of_each_shard(
    monkeypatch: pytest.MonkeyPatch, steps: list[tuple[str, Any]]
):
    monkeypatch.setattr("pixel_server.collect.spool.drain.PAUSE_SECONDS", 0.0)
    nodes, spooled = ModelNodes(), Counter[int]()
    drained: list[int] = []

    async def story(directory: Path) -> None:
        spool = Spool(directory, 1 << 20, segment_bytes=150)
        drain = Drain(
            spool,
            nodes,
            nodes=nodes,
            is_redis_away=lambda: bool(nodes.away | nodes.failing),
            spooled_groups=spooled.total,
            on_drained=drained.append,
        )

        async def drain_once(meanwhile: Sequence[tuple[str, Any]]) -> None:
            nodes.meanwhile = deque(meanwhile)
            with contextlib.suppress(ConnectionError):
                await drain.drain()
            for shard, last in spooled.items():
                if nodes.places[shard] in nodes.present() - nodes.failing and not meanwhile:
                    assert nodes.stored[shard] == last, "a shard waits although its node is present"
            if drained:
                assert drained.pop() == nodes.stored.total()

        for kind, value in steps:
            if kind == "append":
                spooled.update(value)
                spool.append([batch(spooled[shard], shard=shard) for shard in value])
            elif kind == "drain":
                await drain_once(value)
            else:
                nodes.change((kind, value))
        nodes.away, nodes.failing = set(), set()
        await drain_once([])
        assert nodes.stored == spooled
        spool.close()
        assert read_status(directory).hits == 0
        assert files(directory) == []

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(story(Path(directory) / "spool"))
