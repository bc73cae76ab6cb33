"""The spool against a model, while it is written, torn, damaged, restarted and drained in any order.

Two processes share one directory. Each acknowledged batch is drained in its producer's order, still waits, or
was damaged and set aside. No other batch is ever drained.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pixel_server import hit
from pixel_server.collect.batch import Batch
from pixel_server.collect.spool import spool as spool_module
from pixel_server.collect.spool.spool import Spool
from pixel_server.collect.spool.status import SpoolStatus, read_status
from pixel_server.hit import Hit
from pixel_server.store import producer
from tests.conftest import NOW
from tests.properties import examples

LIMIT, SEGMENT = 6000, 600
MARKER = b"\xffHIT"

who = st.integers(0, 1)
groups = st.lists(st.integers(0, 1), min_size=1, max_size=4)


class Killed(BaseException):
    """The process was killed: it carries out nothing more."""


class Process:
    """A process that writes to the spool and drains it. It first repeats a group that failed, unchanged."""

    def __init__(self, home: Path, clock: Callable[[], float], opens: bool = False) -> None:
        self.spool = Spool(home, LIMIT, clock=clock, segment_bytes=SEGMENT)
        if opens:
            self.spool.open()
        self.producer = producer.new_id(NOW)
        self.sequence = {0: 0, 1: 0}
        self.pending: list[Batch] = []

    def group(self, shards: list[int]) -> list[Batch]:
        if not self.pending:
            for shard in shards:
                number = self.sequence[shard] = self.sequence[shard] + 1
                one = hit.encode(Hit(number, f"{self.producer}-{shard}", hit.EMAIL, "GET"))
                self.pending.append(Batch(shard, self.producer, number, hit.encode_batch([one])))
        return self.pending

    def die(self) -> None:
        """Closes all files, which releases the locks, as the kernel does."""
        spool = self.spool
        files = [*spool._locks.held.values(), *spool._reserve.descriptors, spool._directory_file, spool._file]
        for file in files:
            if file >= 0:
                os.close(file)


@contextmanager
def writing(keep: int, hole: bool, error: BaseException, cuts: bool) -> Iterator[None]:
    """Lets `keep` bytes of the next write reach the disk, then raises the error.

    hole: whether the first half of these bytes are zeros. cuts: whether the file can be cut back afterwards.
    """
    pwrite, sync = os.pwrite, spool_module.sync_data
    failed = False

    def part(file: int, data: memoryview, offset: int) -> int:
        kept = bytes(data[:keep])
        if hole:
            kept = bytes(len(kept) // 2) + kept[len(kept) // 2 :]
        pwrite(file, kept, offset)
        if keep < len(data):
            fail()
        return len(data)

    def fail(*_: object) -> None:
        nonlocal failed
        failed = True
        raise error

    def sync_or_fail(file: int) -> None:
        sync(file) if cuts and failed else fail()

    with patch.object(os, "pwrite", part), patch.object(spool_module, "sync_data", sync_or_fail):
        if cuts:
            yield
        else:
            with patch.object(os, "ftruncate", fail), patch.object(os, "unlink", fail):
                yield


class SpoolMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="px-spool-"))
        self.home = self.root / "spool"
        self.now = NOW
        self.given: dict[tuple[str, int, int], Batch] = {}
        self.promised: dict[Batch, tuple[str, int, int]] = {}
        """Returns for each acknowledged batch its segment, and where its record begins and ends."""
        self.stored: set[Batch] = set()
        self.seen: dict[tuple[str, int], int] = {}
        self.images: dict[str, bytes] = {}
        self.damaged: dict[str, set[int]] = {}
        self.processes = [Process(self.home, self.clock, opens) for opens in (False, True)]

    def clock(self) -> float:
        self.now += 0.3
        return self.now

    def give(self, process: Process, shards: list[int]) -> list[Batch]:
        batches = process.group(shards)
        self.given.update({(one.producer, one.shard, one.sequence): one for one in batches})
        return batches

    @rule(of=who, shards=groups)
    def append(self, of: int, shards: list[int]) -> None:
        process = self.processes[of]
        batches = self.give(process, shards)
        try:
            process.spool.append(batches)
        except spool_module.SpoolFull:
            assert read_status(self.home).bytes > LIMIT / 2
            return
        process.pending = []
        current = process.spool._current
        assert current is not None
        data = (self.home / current.name).read_bytes()
        for one in batches:
            at = data.index(one.data)
            self.promised[one] = current.name, data.rindex(MARKER, 0, at), at + len(one.data)

    @rule(of=who, shards=groups, keep=st.integers(0, 500), cuts=st.booleans())
    def fail_to_append(self, of: int, shards: list[int], keep: int, cuts: bool) -> None:
        process = self.processes[of]
        with writing(keep, False, OSError("broken"), cuts), pytest.raises(OSError, match=r"broken|limit"):
            process.spool.append(self.give(process, shards))

    @rule(of=who, shards=groups, keep=st.integers(0, 500), hole=st.booleans())
    def crash_in_a_write(self, of: int, shards: list[int], keep: int, hole: bool) -> None:
        process = self.processes[of]
        with writing(keep, hole, Killed(), False), pytest.raises((Killed, spool_module.SpoolFull)):
            process.spool.append(self.give(process, shards))
        self.crash(of)

    @rule(of=who)
    def crash(self, of: int) -> None:
        self.processes[of].die()
        self.processes[of] = Process(self.home, self.clock, opens=of == 1)

    @rule(of=who)
    def restart(self, of: int) -> None:
        self.processes[of].spool.close()
        self.processes[of] = Process(self.home, self.clock, opens=of == 1)

    @rule(of=who)
    def seal(self, of: int) -> None:
        self.processes[of].spool.seal()

    @rule(of=who, cuts=st.booleans())
    def drain(self, of: int, cuts: bool) -> None:
        spool = self.processes[of].spool
        with nullcontext() if cuts else patch.object(os, "ftruncate", side_effect=OSError("broken")):
            for segment in spool.drainable_segments():
                for one in spool.read(segment):
                    self.store(one)
                spool.delete(segment)
            assert spool.drainable_segments() == []

    @rule(of=who, after=st.integers(1, 6), dies=st.booleans())
    def break_off_a_drain(self, of: int, after: int, dies: bool) -> None:
        spool = self.processes[of].spool
        for segment in spool.drainable_segments():
            for one in spool.read(segment):
                self.store(one)
                after -= 1
                if not after:
                    break
            if not after:
                break
            spool.delete(segment)
        if dies:
            self.crash(of)

    @rule()
    def two_drainers_do_not_meet(self) -> None:
        one, two = (process.spool.drainable_segments() for process in self.processes)
        assert not set(one) & set(two)

    def closed(self) -> list[Path]:
        growing = {process.spool._current for process in self.processes}
        names = {segment.name for segment in growing if segment}
        return [path for path in sorted(self.home.glob("*.seg")) if path.name not in names]

    @precondition(lambda self: any(path.stat().st_size for path in self.closed()))
    @rule(data=st.data(), bits=st.integers(1, 255))
    def damage(self, data: st.DataObject, bits: int) -> None:
        path = data.draw(st.sampled_from([path for path in self.closed() if path.stat().st_size]), "segment")
        content = bytearray(path.read_bytes())
        at = data.draw(st.integers(0, len(content) - 1), "offset")
        hurt = self.damaged.setdefault(path.name, set())
        if at not in hurt:
            hurt.add(at)
            content[at] ^= bits
            path.write_bytes(content)
            self.images[path.name] = bytes(content)

    def store(self, one: Batch) -> None:
        """Accepts each number of a producer once, as Redis does. Asserts that no number is overtaken."""
        assert self.given.get((one.producer, one.shard, one.sequence)) == one
        seen = self.seen.get((one.producer, one.shard), 0)
        if one.sequence > seen:
            for number in range(seen + 1, one.sequence):
                passed = self.given[one.producer, one.shard, number]
                assert passed not in self.promised or self.is_aside(passed)
            self.seen[one.producer, one.shard] = one.sequence
            self.stored.add(one)

    def is_aside(self, one: Batch) -> bool:
        """Returns whether the batch's record was damaged, and all its bytes were set aside unchanged."""
        name, start, end = self.promised[one]
        if self.damaged.get(name, set()).isdisjoint(range(start, end)):
            return False
        for path in self.home.glob(f"aside/{name}-*.bad"):
            offset, content = int(path.stem.rpartition("-")[2]), path.read_bytes()
            whole = content == self.images[name][offset : offset + len(content)]
            if whole and offset <= start and end <= offset + len(content):
                return True
        return False

    @invariant()
    def what_was_promised_is_somewhere(self) -> None:
        for one, (name, _, _) in self.promised.items():
            assert one in self.stored or (self.home / name).exists() or self.is_aside(one)

    @invariant()
    def status_sees_what_is_there(self) -> None:
        sizes = [path.stat().st_size for path in self.home.glob("*.seg")]
        found = [size for size in sizes if size]  # an empty segment counts for nothing
        seen = read_status(self.home)
        assert (seen.segments, seen.bytes) == (len(found), sum(found))

    def teardown(self) -> None:
        try:
            self.what_a_last_drain_leaves()
        finally:
            shutil.rmtree(self.root)

    def what_a_last_drain_leaves(self) -> None:
        for of in range(2):
            self.crash(of)
        self.drain(0, True)
        for one in self.promised:
            assert one in self.stored or self.is_aside(one)
        for process in self.processes:
            process.spool.close()
        left = read_status(self.home)
        assert left == SpoolStatus(0, 0, 0, None, left.aside)
        assert [*self.home.glob("*.lock"), *self.home.glob("aside/*.part")] == []


TestSpool = SpoolMachine.TestCase
TestSpool.settings = settings(max_examples=examples(60), stateful_step_count=40, deadline=None)
