"""The parts of a server as separate processes, on a Valkey that they may reach through a proxy."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import unquote, urlsplit

import redis

from pixel_server.collect.spool.status import read_status
from pixel_server.run.valkey import Valkey
from pixel_server.secret import Secrets
from pixel_server.store import keys
from pixel_server.store.protocols import Redis
from tests.chaos.ledger import SHARDS
from tests.stack import free_port, until


class Parts:
    """A Valkey, and on request a web process and workers. `close` ends them and removes the data."""

    def __init__(self) -> None:
        self.data = Path(tempfile.mkdtemp(prefix="px-"))
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.secrets = Secrets.load_or_create(self.data)
        self._valkey = Valkey(self.data)
        self._valkey.start()
        self._valkey.wait_ready()
        self.redis_url = self._valkey.url
        self.socket = unquote(urlsplit(self.redis_url).path)

    def start(self, name: str, *arguments: str, code: Path | None = None, **environ: str) -> None:
        """Starts `pixel-server` with these arguments.

        code: directory with the version to start, None for this version. environ: settings beside those of
        `Parts`.
        """
        environment = {"REDIS_URL": self.redis_url, "PIXEL_DATA_DIR": str(self.data), **environ}
        environment.setdefault("PIXEL_BASE_URL", self.address)
        with (self.data / f"{name}.log").open("ab") as out:
            self._running[name] = subprocess.Popen(
                [sys.executable, "-m", "pixel_server", *arguments],
                env={**os.environ, **environment},
                cwd=code,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def start_web(self, **environ: str) -> None:
        """Returns once the web process answers."""
        self.start("web", "serve", "--port", str(self.port), **environ)
        until(lambda: self.get("/healthz"))

    def stop(self, name: str) -> None:
        """Stops the process that was started under this name. Does nothing if it does not run."""
        process = self._running.pop(name, None)
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def kill(self, name: str) -> None:
        """Kills a process and its children."""
        process = self._running.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def get(self, path: str) -> str:
        """Returns the body of the web process's answer, whatever its status, or "" without an answer."""
        try:
            with urllib.request.urlopen(self.address + path, timeout=5) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            return error.read().decode()
        except OSError:
            return ""

    def log(self, name: str) -> str:
        with contextlib.suppress(FileNotFoundError):
            return (self.data / f"{name}.log").read_text(errors="replace")
        return ""

    def waiting(self, client: Redis) -> int:
        """Returns the number of entries that wait in the streams."""
        return sum(client.xlen(keys.hits(shard)) for shard in range(SHARDS))

    def is_quiet(self, client: Redis) -> bool:
        """Returns whether nothing waits, neither in the spool nor in a stream."""
        try:
            waiting = self.waiting(client)
        except redis.RedisError:
            return False
        status = read_status(self.data / "spool")
        return not waiting and not status.segments and not status.aside

    def close(self) -> None:
        for name in list(self._running):
            self.stop(name)
        self._valkey.stop()
        self._valkey.wait(10)
        shutil.rmtree(self.data, ignore_errors=True)
