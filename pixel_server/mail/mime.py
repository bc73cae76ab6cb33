"""Finds the parts of a message, and their places in its bytes (RFC 2046, 5.1)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesHeaderParser

_MAX_DEPTH = 50
"""Parts within each other that are followed."""
_blank_line = re.compile(rb"^\r?\n", re.M).search


@dataclass(slots=True)
class Part:
    """A part of a message. start, end: offsets of its body in the bytes of the message."""

    headers: Message
    start: int = 0
    end: int = 0
    parts: list[Part] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """Returns the content type, such as `text/html`."""
        return self.headers.get_content_type()

    @property
    def transfer(self) -> str:
        """Returns the transfer encoding as written, such as `Base64`, or ""."""
        return str(self.headers.get("content-transfer-encoding", ""))

    @property
    def is_text(self) -> bool:
        """Returns whether the part is text or HTML, and not a file."""
        return self.kind.startswith("text/") and not self.headers.get_filename()

    def walk(self) -> Iterator[Part]:
        """Yields this part and the parts within it, but not those of a message that is attached."""
        yield self
        for part in self.parts:
            yield from part.walk()


def from_message(message: Message) -> Part:
    """Returns the tree of parts of a parsed message. Its parts have no offsets."""
    root = Part(message)
    if message.get_content_maintype() == "multipart" and message.is_multipart():
        parts = message.get_payload()
        root.parts = [from_message(part) for part in parts if isinstance(part, Message)]
    return root


def from_bytes(raw: bytes, start: int = 0, end: int | None = None, depth: int = 0) -> Part:
    """Returns the tree of parts of a message. start, end: offsets of the part to read."""
    end = len(raw) if end is None else end
    blank = _blank_line(raw, start, end)
    begin = blank.end() if blank else end
    part = Part(BytesHeaderParser().parsebytes(raw[start:begin]), begin, end)
    boundary = part.headers.get_boundary()
    if part.headers.get_content_maintype() != "multipart" or not boundary or depth == _MAX_DEPTH:
        return part
    line = rb"^--%b(--)?[ \t]*(?:\r?\n|\Z)" % re.escape(boundary.encode("utf-8", "surrogateescape"))
    at: int | None = None
    for delimiter in re.compile(line, re.M).finditer(raw, begin, end):
        if at is not None:
            part.parts.append(from_bytes(raw, at, _without_newline(raw, at, delimiter.start()), depth + 1))
        at = None if delimiter[1] else delimiter.end()
        if delimiter[1]:
            break
    if at is not None and at < end:  # the message is cut off, without the last delimiter
        part.parts.append(from_bytes(raw, at, end, depth + 1))
    return part


def _without_newline(raw: bytes, start: int, end: int) -> int:
    """Returns the end of a part without its last newline, which belongs to the delimiter."""
    for newline in (b"\r\n", b"\n"):
        if raw.endswith(newline, start, end):
            return end - len(newline)
    return end
