"""Fixtures of the spool's tests: a directory, a spool in it, and a segment of a closed spool."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pixel_server.collect.spool.spool import Spool
from tests.collect.spool.batches import LIMIT, batch, files
from tests.conftest import NOW


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def spool(home: Path) -> Iterator[Spool]:
    opened = Spool(home, LIMIT, clock=lambda: NOW)
    yield opened
    opened.close()


@pytest.fixture
def segment_file(home: Path) -> Path:
    """Returns a segment of three batches whose writer has closed."""
    writer = Spool(home, LIMIT, clock=lambda: NOW)
    writer.append([batch(1), batch(2), batch(3)])
    writer.close()
    return files(home)[0]
