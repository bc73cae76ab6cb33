"""The machine: its cores, its programs, and the CPU time and memory of processes."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

TICK_US = 1e6 / os.sysconf("SC_CLK_TCK")
ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Cores:
    """Numbers of two cores.

    serving: of the process that answers. other: of the load generator and the store.
    """

    serving: int
    other: int

    @classmethod
    def parse(cls, text: str) -> Cores:
        serving, other = text.split(",")
        return cls(int(serving), int(other))


@contextlib.contextmanager
def on(*cores: int) -> Iterator[None]:
    """Keeps this process, and the processes that it starts, on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def tree(pid: int) -> list[int]:
    """Returns the ids of a process and of all its descendants."""
    pids = [pid]
    for parent in pids:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            pids += [int(child) for child in task.read_text().split()]
    return pids


def cpu_us(pids: Sequence[int]) -> float:
    """Returns the CPU time (user and system) of these processes so far, in us, in steps of 10 ms."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks * TICK_US


def resident_mb(pid: int) -> float:
    """Returns the current resident memory of a process, in MB."""
    return _memory_mb(pid, "VmRSS:")


def peak_mb(pids: Sequence[int]) -> float:
    """Returns the largest resident memory that one of these processes has had so far, in MB."""
    return max(_memory_mb(pid, "VmHWM:") for pid in pids)


def _memory_mb(pid: int, field: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    return 0.0


def tool(name: str, *packages: str) -> str:
    """Returns the path of a program. Installs these Debian packages if the program is missing.

    Raises SystemExit if the program cannot be installed.
    """
    search = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    path = shutil.which(name, path=search)
    if path is None and os.geteuid() == 0 and shutil.which("apt-get"):
        # RUNLEVEL: a package must not start its service here.
        environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
        for command in (["apt-get", "update", "-qq"], install):
            subprocess.run(command, check=True, env=environ, stdout=subprocess.DEVNULL)
        path = shutil.which(name, path=search)
    if path is None:
        raise SystemExit(f"bench: install {name} (Debian: apt-get install {' '.join(packages)})")
    return path


def npm_program(package: str) -> Path:
    """Returns the path of an npm package's program. Installs the package inside the virtual environment."""
    home = Path(sys.prefix if sys.prefix != sys.base_prefix else tempfile.gettempdir()) / "bench"
    program = home / "node_modules" / ".bin" / package
    if not program.exists():
        npm = tool("npm", "nodejs", "npm")
        subprocess.run(
            [npm, "install", "--silent", "--no-fund", "--no-audit", "--prefix", home, package], check=True
        )
    return program


def describe(data: Path) -> str:
    """Returns a line with the cores, the version of Python, and the time of a sync on the disk of `data`."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return (
        f"{os.cpu_count()} cores ({model}), Python {platform.python_version()}; "
        f"data on {_file_system(data)}, fsync {_sync_ms(data):.2f} ms"
    )


def _file_system(path: Path) -> str:
    mount = ("", "unknown")
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if path.resolve().is_relative_to(where) and len(where) >= len(mount[0]):
            mount = (where, kind)
    return mount[1]


def _sync_ms(data: Path) -> float:
    took = []
    with tempfile.TemporaryFile(dir=data) as file:
        for _ in range(100):
            began = time.perf_counter()
            os.write(file.fileno(), bytes(4096))
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - began)
    return statistics.median(took) * 1000
