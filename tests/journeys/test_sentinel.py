"""A whole server with sentinels: the primary is replaced while hits arrive, and no hit is lost."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flood import Flood
from tests.sentinels import Program, Watched
from tests.stack import Stack, until


@pytest.fixture
def watched() -> Iterator[Watched]:
    watched = Watched()
    yield watched
    watched.remove()


@pytest.fixture
def stack(watched: Watched) -> Iterator[Stack]:
    stack = Stack(Path(tempfile.mkdtemp(prefix="px-")), REDIS_URL=watched.url)
    stack.start()
    yield stack
    stack.stop()
    shutil.rmtree(stack.data)
    stack.log.unlink(missing_ok=True)


def test_sentinel_primary_replaced_thrice_loses_no_hit(watched: Watched, stack: Stack):
    assert stack.call("POST", "/api/campaigns", {"id": "site", "kind": "web", "name": "Site"})[0] == 201
    flood = Flood(stack)

    watched.fail_over()
    _wait_until_written(watched.primary)
    watched.wait_for_replica()

    old = watched.primary
    watched.cut_off()
    watched.wait_for_failover(old)
    _wait_until_written(watched.primary)
    until(lambda: _is_left(old, watched.primary))
    assert old.client().role()[0] == b"master"
    watched.rejoin(old)
    watched.wait_for_replica()

    old = watched.primary
    old.kill()
    watched.wait_for_failover(old)
    _wait_until_written(watched.primary)

    flood.stop()
    assert flood.answers.keys() == {(200, "recorded")}
    sent = flood.answers.total()
    until(lambda: stack.totals("site")["hits"] >= sent)
    assert stack.totals("site")["hits"] == sent
    assert stack.call("GET", "/readyz")[1]["losses"]["hits"] == 0


def _wait_until_written(program: Program) -> None:
    """Returns when hits are stored in a Valkey and roll-ups count them."""
    before = _scripts(program)
    until(lambda: all(now > then + 3 for now, then in zip(_scripts(program), before, strict=True)))


def _is_left(old: Program, new: Program) -> bool:
    """Returns whether nothing is written to an old primary while hits are stored in the new primary."""
    before = _scripts(old)
    _wait_until_written(new)
    return _scripts(old) == before


def _scripts(program: Program) -> list[int]:
    """Returns how often a Valkey ran the script that stores hits, and scripts that roll-ups use."""
    with program.client() as client:
        stats = client.info("commandstats")
    return [stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("evalsha", "eval")]
