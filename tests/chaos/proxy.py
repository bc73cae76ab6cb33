"""A small TCP proxy in front of a Redis. It can lose a reply, go silent, or delay data."""

from __future__ import annotations

import asyncio
import contextlib
import threading


class Proxy:
    """Listens on 127.0.0.1 and passes everything to a Unix socket. Runs in a thread of its own."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._cut = False
        self._dead = False
        self._for_ever = asyncio.Event()
        self._open: set[_Pair] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.cuts = 0
        self.delay = 0.0
        """Seconds of delay in each direction."""
        self.port = 0
        self._started = threading.Event()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._run, daemon=True).start()
        self._started.wait()

    def lose_next_reply(self) -> None:
        """Ends the connection of the next reply of Redis instead of passing the reply on."""
        self._cut = True

    def go_silent(self, *, new: bool = False) -> int:
        """Makes all open connections silent, as a NAT that forgets them does. Returns their number.

        Neither data nor the end of a connection is passed on. new: connections that are made from now on are
        silent too, until this is called again.
        """
        pairs = list(self._open)
        for pair in pairs:
            pair.silent = True
        self._dead = new
        return len(pairs)

    def _run(self) -> None:
        async def serve() -> None:
            server = await asyncio.start_server(self._client, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            self._started.set()
            await server.serve_forever()

        self._loop.run_until_complete(serve())

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pair = _Pair(self._dead)
        try:
            from_redis, to_redis = await asyncio.open_unix_connection(self._target)
        except OSError:
            writer.close()
            return
        self._open.add(pair)
        tasks = {
            asyncio.create_task(self._pass(reader, to_redis, False, pair)),
            asyncio.create_task(self._pass(from_redis, writer, True, pair)),
        }
        self._tasks |= tasks
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        self._tasks -= tasks
        self._open.discard(pair)
        for end in (writer, to_redis):
            end.close()

    async def _pass(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, reply: bool, pair: _Pair
    ) -> None:
        on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        arriving = asyncio.create_task(self._arrive(on_the_way, target))
        try:
            with contextlib.suppress(OSError):
                while data := await source.read(1 << 16):
                    if pair.silent:
                        await self._for_ever.wait()  # neither data nor an end is passed on
                    if reply and self._cut:
                        self._cut = False
                        self.cuts += 1
                        return
                    on_the_way.put_nowait((self._loop.time() + self.delay, data))
                if pair.silent:
                    await self._for_ever.wait()
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


class _Pair:
    """A connection to a client and a connection to Redis that pass on each other's data."""

    def __init__(self, silent: bool) -> None:
        self.silent = silent
