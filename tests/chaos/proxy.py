"""A small TCP proxy in front of a Redis, which can lose the reply to what it passed on, or be far away."""

from __future__ import annotations

import asyncio
import contextlib
import threading


class Proxy:
    """Listens on 127.0.0.1 and passes everything to a Unix socket. Runs in a thread of its own."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._cut = False
        self.cuts = 0
        self.delay = 0.0
        """Seconds that everything takes, in each direction."""
        self.port = 0
        self._started = threading.Event()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._run, daemon=True).start()
        self._started.wait()

    def lose_next_reply(self) -> None:
        """The next reply of Redis, to anybody, is not passed on: its connection ends instead."""
        self._cut = True

    def _run(self) -> None:
        async def serve() -> None:
            server = await asyncio.start_server(self._client, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            self._started.set()
            await server.serve_forever()

        self._loop.run_until_complete(serve())

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_redis, to_redis = await asyncio.open_unix_connection(self._target)
        except OSError:
            writer.close()
            return
        await asyncio.wait(
            [
                asyncio.create_task(self._pass(reader, to_redis, False)),
                asyncio.create_task(self._pass(from_redis, writer, True)),
            ],
            return_when=asyncio.FIRST_COMPLETED,
        )
        for end in (writer, to_redis):
            end.close()

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, reply: bool) -> None:
        on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        arriving = asyncio.create_task(self._arrive(on_the_way, target))
        try:
            with contextlib.suppress(OSError):
                while data := await source.read(1 << 16):
                    if reply and self._cut:
                        self._cut = False
                        self.cuts += 1
                        return
                    on_the_way.put_nowait((self._loop.time() + self.delay, data))
        finally:
            arriving.cancel()

    async def _arrive(
        self, on_the_way: asyncio.Queue[tuple[float, bytes]], target: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while True:
                at, data = await on_the_way.get()
                await asyncio.sleep(max(0.0, at - self._loop.time()))
                target.write(data)
                await target.drain()
