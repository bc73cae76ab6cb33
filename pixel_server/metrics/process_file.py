"""The files by which the processes of a host know each other's numbers, in `metrics/` of the data directory.

Each process has one file. It overwrites the file in place once a second, and holds a lock on it until it
ends, however it ends. So a file that can be locked belongs to a process that has ended: `read_host` adds its
counters to `ended.json`, and removes it. A counter of a host therefore never falls when a process is
restarted. The numbers of its last second are lost if the process was killed.

`ended.json` names the files that it has counted, so that a crash before their removal counts none twice.

`prometheus_client` has files for this purpose too. They are not used here: each increment would write to
them, and the hot path counts in plain integers.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from pixel_server import files
from pixel_server.logs import Log
from pixel_server.metrics.numbers import Numbers, Values, add_process_figures, add_values

log = Log(__name__)

PUBLISH_SECONDS = 1.0
"""Seconds between two writes of a process's file."""
DIRECTORY = "metrics"
ENDED_FILE, LOCK_FILE, SUFFIX = "ended.json", "lock", ".numbers"
LOCK_TIMEOUT_SECONDS = 1.0
"""Seconds to wait for the lock of the directory."""
_TRIES = 5
"""Number of reads of a file that is being written, before the file is left out."""


class _Ended(msgspec.Struct):
    """The counters of ended processes. counted: names of the files that are among them."""

    counters: dict[str, Values] = {}
    counted: list[str] = []


class Publisher:
    """Publishes the numbers of this process. Logs that it cannot, once, and goes on.

    collect: returns the numbers, without the figures of the operating system.
    """

    def __init__(self, data: Path, collect: Callable[[], Numbers]) -> None:
        self._data = data
        self._collect = collect
        self._handle: int | None = None
        self._is_closed = self._is_failing = False
        self._lock = threading.Lock()

    def gather(self) -> Numbers:
        """Returns the numbers now. Call it in the thread that changes them."""
        numbers = self._collect()
        add_process_figures(numbers)
        return numbers

    def write(self, numbers: Numbers) -> None:
        """Writes the numbers to this process's file. May block."""
        try:
            with self._lock:
                if not self._is_closed:
                    _write(self._open(numbers.process), numbers)
            self._is_failing = False
        except OSError as error:
            if not self._is_failing:
                log.error(
                    "metrics-not-written",
                    "the numbers of this process cannot be written: %(error)s",
                    error=error,
                )
            self._is_failing = True

    def _open(self, process: str) -> int:
        """Returns the descriptor of this process's file. Makes the file if it is missing."""
        if self._handle is not None and os.fstat(self._handle).st_nlink == 0:
            os.close(self._handle)
            self._handle = None
        if self._handle is None:
            self._handle = _create(self._data / DIRECTORY, process)
            read_host(self._data)  # removes the files of ended processes, also if nothing ever scrapes
        return self._handle

    def start_thread(self) -> None:
        """Publishes once a second in a thread, until the process ends."""
        threading.Thread(target=self._run, daemon=True, name="metrics").start()

    def _run(self) -> None:
        while True:
            self.write(self.gather())
            time.sleep(PUBLISH_SECONDS)

    def close(self) -> None:
        """Writes the last numbers, and marks the process as ended."""
        if self._handle is not None:
            self.write(self.gather())
        with self._lock:
            self._is_closed = True
            if self._handle is not None:
                os.close(self._handle)
                self._handle = None


def read_host(data: Path) -> Numbers:
    """Returns the sums over all processes of this host, also over those that have ended. Raises OSError."""
    total, directory = Numbers("host"), data / DIRECTORY
    with _locked(directory):
        ended = _read_ended(directory)
        gone = []
        for path in sorted(directory.glob(f"*{SUFFIX}")):
            with open(path, "rb") as file:
                if has_ended := _try_lock(file.fileno()):
                    gone.append(path)
                if (numbers := _read(file.fileno())) is None:
                    continue
            if not has_ended:
                total.add(numbers)
            elif path.name not in ended.counted:
                add_values(ended.counters, numbers.counters)
        if gone:
            ended.counted = [path.name for path in gone]
            files.write(directory / ENDED_FILE, msgspec.json.encode(ended), 0o600)
            for path in gone:
                path.unlink()
    add_values(total.counters, ended.counters)
    return total


def is_running(data: Path, process: str) -> bool:
    """Returns whether a process of this kind, such as `relay`, runs with this data directory.

    Writes nothing: another user may ask. Raises OSError.
    """
    for path in (data / DIRECTORY).glob(f"{process}-*{SUFFIX}"):
        with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
            if not _try_lock(file.fileno()):
                return True
    return False


def _create(directory: Path, process: str) -> int:
    """Makes and locks the file of this process. Returns its descriptor."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(directory):  # so that no reader sees the file before it is locked
        path = directory / f"{process}-{os.getpid()}-{os.urandom(4).hex()}{SUFFIX}"
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(handle, fcntl.LOCK_EX)
        return handle


def _write(handle: int, numbers: Numbers) -> None:
    """Overwrites a file with one call. A reader that comes meanwhile notices it by the checksum."""
    content = msgspec.json.encode(numbers)
    os.pwrite(handle, b"%08x %08x\n%b" % (len(content), zlib.crc32(content), content), 0)


def _read(handle: int) -> Numbers | None:
    """Returns the numbers in a file, None if the file has no whole content."""
    for _ in range(_TRIES):
        data = os.pread(handle, 1 << 24, 0)
        head, content = data[:18], data[18:]
        with contextlib.suppress(ValueError, msgspec.DecodeError):
            content = content[: int(head[:8], 16)]
            if zlib.crc32(content) == int(head[9:17], 16):
                return msgspec.json.decode(content, type=Numbers)
        if not data:
            return None
        time.sleep(0.001)
    return None


def _read_ended(directory: Path) -> _Ended:
    try:
        return msgspec.json.decode((directory / ENDED_FILE).read_bytes(), type=_Ended)
    except FileNotFoundError:
        return _Ended()
    except msgspec.DecodeError as error:
        log.error(
            "metrics-file-unreadable",
            "%(path)s cannot be read, so counters begin at 0: %(error)s",
            path=directory / ENDED_FILE,
            error=error,
        )
        return _Ended()


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Keeps other processes from making and removing files. Raises OSError if the lock stays held."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        deadline = time.monotonic() + LOCK_TIMEOUT_SECONDS
        while not _try_lock(handle):  # its owner works for some milliseconds, unless it was stopped
            if time.monotonic() > deadline:
                raise TimeoutError(f"{directory / LOCK_FILE} is held by a process that hangs")
            time.sleep(0.002)
        yield
    finally:
        os.close(handle)
