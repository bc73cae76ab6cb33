"""The status of a spool that other processes write."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pixel_server.collect.spool.spool import Spool
from pixel_server.collect.spool.status import SpoolSize, SpoolStatus, read_size, read_status
from tests.collect.spool.batches import batch, files
from tests.conftest import NOW


def test_status_of_another_process_counts_acknowledged_hits(home: Path, spool: Spool):
    spool.append([batch(1, hits=5), batch(2, hits=20)])
    spool.seal()
    spool.append([batch(3, hits=300)])
    with files(home)[1].open("ab") as torn:
        torn.write(b"\xffHIT")
    code = (
        "import pathlib, sys; from pixel_server.collect.spool.status import read_status\n"
        "print(*read_status(pathlib.Path(sys.argv[1])))"
    )
    seen = subprocess.run(
        [sys.executable, "-c", code, str(home)], capture_output=True, text=True, check=True, timeout=60
    )
    size = sum(path.stat().st_size for path in files(home))
    assert seen.stdout.split() == ["2", "325", str(size), str(int(NOW * 1000)), "0", "0"]
    assert read_size(home) == SpoolSize(2, size, int(NOW * 1000))


def test_status_damaged_head_gives_the_writers_time(home: Path, segment_file: Path):
    segment_file.write_bytes(b"?" + segment_file.read_bytes()[1:])
    assert read_status(home) == SpoolStatus(1, 0, segment_file.stat().st_size, int(NOW * 1000), 0)
