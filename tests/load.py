"""A load client that records each request that it sent, and each answer that it received."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
TIMEOUT_SECONDS = 10.0
"""Seconds after which the client gives up a connection."""


@dataclass
class Answer:
    """The outcome of a request. sent: at least a part was sent. status: 0 if there was no answer.

    pixel: the header X-Pixel.
    """

    sent: bool = False
    status: int = 0
    pixel: str = ""

    @property
    def stored(self) -> bool:
        """Whether the server promised that the hit is stored."""
        return self.status == 200 and self.pixel == "recorded"


@dataclass
class Request:
    """A request for a pixel. headers: further header lines, each with CRLF."""

    url: str
    headers: str = ""
    agent: str = FIREFOX
    answer: Answer = field(default_factory=Answer)

    def wire(self) -> bytes:
        """Returns the bytes to send."""
        parts = urlsplit(self.url)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        usual_headers = (
            f"Host: pixel.test\r\nUser-Agent: {self.agent}\r\nAccept: image/avif,image/webp,*/*\r\n"
        )
        return f"GET {target} HTTP/1.1\r\n{usual_headers}{self.headers}\r\n".encode()


async def flood(host: str, port: int, requests: Sequence[Request], connections: int = 32) -> None:
    """Sends each request once, over this number of connections, and notes the answers in the requests."""
    unsent = iter(requests)
    await asyncio.gather(*(_connection(host, port, unsent) for _ in range(connections)))


async def _connection(host: str, port: int, unsent: Iterator[Request]) -> None:
    stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    for request in unsent:
        try:
            if stream is None:
                stream = await asyncio.wait_for(asyncio.open_connection(host, port), TIMEOUT_SECONDS)
            reader, writer = stream
            request.answer.sent = True
            writer.write(request.wire())
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), TIMEOUT_SECONDS)
            _note(head, request.answer)
            await asyncio.wait_for(reader.readexactly(_length(head)), TIMEOUT_SECONDS)
            if b"connection: close" in head.lower():
                raise ConnectionError
        except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
            if stream is not None:
                stream[1].close()
            stream = None
            if not request.answer.status:
                await asyncio.sleep(0.02)
    if stream is not None:
        stream[1].close()


def _note(head: bytes, answer: Answer) -> None:
    lines = head.decode("latin-1").split("\r\n")
    answer.status = int(lines[0].split(" ")[1])
    for line in lines[1:]:
        name, _, value = line.partition(": ")
        if name.lower() == "x-pixel":
            answer.pixel = value


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    return 0
