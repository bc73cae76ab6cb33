"""A TCP proxy in front of one of several Redis servers. It can be turned to another server or cut off."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import subprocess
import tempfile
import threading
from pathlib import Path

from pixel_server.run.valkey import binary
from pixel_server.store.client import connect
from tests.stack import until


class Switch:
    """Listens on 127.0.0.1 and passes everything to a Unix socket. Runs in a thread of its own."""

    def __init__(self, target: Path) -> None:
        self._target: Path | None = target
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        self._started = threading.Event()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._run, daemon=True).start()
        self._started.wait()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def turn_to(self, target: Path | None, *, ends_connections: bool = True) -> None:
        """Passes new connections to this socket, or closes them at once if it is None.

        ends_connections: whether connections to the former server end.
        """

        def turn() -> None:
            self._target = target
            for writer in list(self._writers) if ends_connections else ():
                writer.transport.abort()

        self._loop.call_soon_threadsafe(turn)

    def _run(self) -> None:
        async def serve() -> None:
            server = await asyncio.start_server(self._client, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            self._started.set()
            await server.serve_forever()

        self._loop.run_until_complete(serve())

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self._target is None:
                raise ConnectionRefusedError
            from_redis, to_redis = await asyncio.open_unix_connection(self._target)
        except OSError:
            writer.close()
            return
        ends = {writer, to_redis}
        self._writers |= ends
        passes = [
            asyncio.create_task(_pass(reader, to_redis)),
            asyncio.create_task(_pass(from_redis, writer)),
        ]
        await asyncio.wait(passes, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.close()
        self._writers -= ends


async def _pass(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(1 << 16):
            target.write(data)
            await target.drain()


class Server:
    """A separate Valkey. replica_of: the port of its primary."""

    def __init__(self, replica_of: int | None = None) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="px-"))
        self.socket = self.home / "s"
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "dir": str(self.home),
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "maxmemory-policy": "noeviction",
            "repl-diskless-sync-delay": "0",
        }
        if replica_of is not None:
            options["replicaof"] = f"127.0.0.1 {replica_of}"
        words = [word for name, value in options.items() for word in (f"--{name}", *value.split(" "))]
        self.process = subprocess.Popen(
            [str(binary()), *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.url = f"unix://{self.socket}?db=0"
        until(self._answers)

    def _answers(self) -> bool:
        with contextlib.suppress(Exception), connect(self.url, timeout=1.0) as client:
            return bool(client.ping())
        return False

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def remove(self) -> None:
        """Ends the Valkey and removes its data. May be called twice."""
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.home, ignore_errors=True)
