"""The Redis of the job queue holds nothing that is needed: emptied, it costs no hit."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flood import Flood
from tests.sentinels import Program
from tests.stack import Stack, until


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Program]:
    queue = Program(tmp_path)
    yield queue
    queue.kill()


@pytest.fixture
def stack(queue: Program) -> Iterator[Stack]:
    data = Path(tempfile.mkdtemp(prefix="px-"))
    stack = Stack(data, PIXEL_QUEUE_URL=f"redis://127.0.0.1:{queue.port}")
    stack.start()
    yield stack
    stack.stop()
    shutil.rmtree(stack.data)
    stack.log.unlink(missing_ok=True)


def test_queue_emptied_again_and_again_counts_each_hit_once(queue: Program, stack: Stack):
    assert stack.call("POST", "/api/campaigns", {"id": "site", "kind": "web", "name": "Site"})[0] == 201
    flood = Flood(stack)
    with queue.client() as client:
        for _ in range(20):
            until(client.dbsize)
            client.flushall()
    flood.stop()
    assert flood.answers.keys() == {(200, "recorded")}
    sent = flood.answers.total()
    until(lambda: stack.totals("site")["hits"] >= sent)
    assert stack.totals("site")["hits"] == sent
    assert "traceback=" not in stack.output()
