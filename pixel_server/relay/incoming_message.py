"""Reads the mail behind DATA, and bounds what it takes of memory and time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from pixel_server.relay.envelope import Refusal
from pixel_server.relay.reply import reply

MESSAGE_SECONDS = 3600.0
"""Seconds that a client may take to send a mail."""
_REPORT_BYTES = 1 << 16
"""Bytes after which the progress of a mail is reported."""

BARE_LF = reply("554 5.5.2 a line ends in LF without CR (RFC 5321, 2.3.8): use CR LF; disconnecting")
BARE_CR = reply("554 5.6.0 the mail has a CR without LF (RFC 5321, 2.3.8): encode such content in base64")
BINARY = reply("554 5.6.1 the mail has a NUL byte: encode binary content in base64")
BUSY = reply("452 4.3.1 too many mails are under way: try again later")
SLOW = reply("421 4.4.2 the mail took too long")


class Budget:
    """The bytes of mail that all clients together may have in memory."""

    def __init__(self, max_bytes: int) -> None:
        self._free_bytes = max_bytes

    @contextlib.contextmanager
    def share(self) -> Iterator[Share]:
        """Yields the share of one mail, and takes it back at the end of the `with` block."""
        share = Share(self)
        try:
            yield share
        finally:
            share.clear()

    def _take(self, size: int) -> bool:
        if size > self._free_bytes:
            return False
        self._free_bytes -= size
        return True


class Share:
    """The bytes of one mail in memory."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._taken_bytes = 0

    def take(self, size: int) -> bool:
        """Takes more bytes. Returns False if they are not free."""
        is_free = self._budget._take(size)
        self._taken_bytes += size if is_free else 0
        return is_free

    def clear(self) -> None:
        self._budget._take(-self._taken_bytes)
        self._taken_bytes = 0


async def read_message(
    reader: asyncio.StreamReader, max_bytes: int, share: Share, on_progress: Callable[[], None]
) -> bytes:
    """Returns a mail without the dots that SMTP adds. It ends with CRLF, or is empty.

    on_progress: is called after each 64 KB. Only CR LF, dot, CR LF ends a mail. A line that ends in LF alone
    is refused at once, because servers do not agree on where such a mail ends. A mail that is refused for
    another reason is read to its end, and dropped as it comes. Raises Refusal.
    """
    lines: list[bytes] = []
    size = reported = 0
    refusal: Refusal | None = None
    begins_line, last_byte = True, b""
    deadline = asyncio.get_running_loop().time() + MESSAGE_SECONDS
    while True:
        piece = await _read_piece(reader)
        ends_line = piece.endswith(b"\n")
        if ends_line and (last_byte + piece)[-2:-1] != b"\r":
            raise Refusal(BARE_LF, disconnects=True)
        if begins_line and piece == b".\r\n":
            break
        size += len(piece)
        if size - reported > _REPORT_BYTES:
            reported = size
            on_progress()
            if asyncio.get_running_loop().time() > deadline:
                raise Refusal(SLOW, disconnects=True)
        if refusal is None and size > max_bytes:
            refusal = Refusal(reply(f"552 5.3.4 a mail may have {max_bytes} bytes"))
        elif refusal is None and not share.take(len(piece)):
            refusal = Refusal(BUSY)
        if refusal is None:
            lines.append(piece[1:] if begins_line and piece.startswith(b".") else piece)
        elif lines:
            lines.clear()
            share.clear()
        begins_line, last_byte = ends_line, piece[-1:]
    if refusal is not None:
        raise refusal
    return _checked(b"".join(lines))


async def _read_piece(reader: asyncio.StreamReader) -> bytes:
    """Returns a line with its end, or a piece of a line that is longer than the reader's limit."""
    try:
        return await reader.readuntil(b"\n")
    except asyncio.LimitOverrunError as error:
        return await reader.readexactly(error.consumed)


def _checked(raw: bytes) -> bytes:
    """Returns the mail. Raises Refusal if it has bytes that SMTP does not allow."""
    if b"\0" in raw:
        raise Refusal(BINARY)
    if raw.count(b"\r") != raw.count(b"\r\n"):
        raise Refusal(BARE_CR)
    return raw
