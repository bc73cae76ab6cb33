"""File descriptors in reserve for the spool."""

from __future__ import annotations

import contextlib
import os
import resource
from pathlib import Path

from pixel_server.collect.spool.spool import Spool
from tests.collect.spool.batches import LIMIT, batch, drain, reader


def test_spool_open_without_free_descriptors_takes_batches(home: Path):
    """Appends more than one segment holds, and drains in between."""
    opened = Spool(home, LIMIT, segment_bytes=400)
    opened.open()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)
    used: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, most[1]))
        with contextlib.suppress(OSError):
            while True:
                used.append(os.open(os.devnull, os.O_RDONLY))
        given = [batch(number) for number in range(1, 8)]
        for one in given:
            opened.append([one])
        opened.seal()
        assert drain(opened) == given
        opened.append([batch(8)])
    finally:
        for file in used:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, most)
    opened.close()
    assert drain(reader(home)) == [batch(8)]
