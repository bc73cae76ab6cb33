"""Links for a list of a million recipients, by one process of `pixel-server link --recipients`.

python -m tests.bench.links [--rows 1000000]
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from tests.bench.program import Figure, alone
from tests.bench.sides import Bench
from tests.stack import PROGRAM


def write(path: Path, rows: int) -> None:
    with path.open("w") as file:
        file.write("name,recipient,city\n")
        file.writelines(f'"Person, {n}",person-{n}@example.org,Zürich\n' for n in range(rows))


def measure(bench: Bench, rows: int = 1_000_000) -> list[Figure]:
    few, many = run(bench, 1000), run(bench, rows)
    return [
        Figure("rows", rows / many[0], "a second", least=20_000.0),
        Figure("CPU a row", many[2] / rows * 1e6, "us"),
        Figure("most memory, 1,000 rows", few[1], "MB"),
        Figure(f"most memory, {rows:,} rows", many[1], "MB", most=few[1] + 4),
    ]


def run(bench: Bench, rows: int) -> tuple[float, float, float]:
    """Returns (seconds, largest memory in MB, seconds of CPU) of the process, its start included."""
    source, out = bench.home / "list.csv", bench.home / "links.csv"
    write(source, rows)
    arguments = [PROGRAM, "link", "spring", "--recipients", str(source), "--out", str(out)]
    data = {"PIXEL_DATA_DIR": str(bench.home / "links"), "PIXEL_BASE_URL": "https://pixel.example.org"}
    began = time.monotonic()
    process = subprocess.Popen(arguments, env={**os.environ, **data})
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    took = time.monotonic() - began
    with out.open("rb") as file:
        lines = sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))
    assert (process.returncode, lines) == (0, rows + 1)
    source.unlink()
    out.unlink()
    return took, used.ru_maxrss / 1024, used.ru_utime + used.ru_stime


if __name__ == "__main__":
    alone(__doc__, measure, rows=1_000_000)
