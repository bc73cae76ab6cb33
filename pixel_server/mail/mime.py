"""Where the parts of a message lie in its bytes (RFC 2046, 5.1)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesHeaderParser

_DEEPEST = 50
_blank_line = re.compile(rb"^\r?\n", re.M).search


@dataclass(slots=True)
class Part:
    """headers: with all that tells of the part. start, end: of its body in the message's bytes."""

    headers: Message
    start: int = 0
    end: int = 0
    parts: list[Part] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """As `text/html`."""
        return self.headers.get_content_type()

    @property
    def transfer(self) -> str:
        return str(self.headers.get("content-transfer-encoding", ""))

    @property
    def is_text(self) -> bool:
        """Text or HTML that is no file."""
        return self.kind.startswith("text/") and not self.headers.get_filename()

    def walk(self) -> Iterator[Part]:
        """It and its parts; not those of messages within it."""
        yield self
        for part in self.parts:
            yield from part.walk()


def of_message(message: Message) -> Part:
    """The same tree, without places."""
    found = Part(message)
    if message.get_content_maintype() == "multipart" and message.is_multipart():
        parts = message.get_payload()
        found.parts = [of_message(part) for part in parts if isinstance(part, Message)]
    return found


def read(raw: bytes, start: int = 0, end: int | None = None, depth: int = 0) -> Part:
    end = len(raw) if end is None else end
    blank = _blank_line(raw, start, end)
    begin = blank.end() if blank else end
    found = Part(BytesHeaderParser().parsebytes(raw[start:begin]), begin, end)
    boundary = found.headers.get_boundary()
    if found.headers.get_content_maintype() != "multipart" or not boundary or depth == _DEEPEST:
        return found
    line = rb"^--%b(--)?[ \t]*(?:\r?\n|\Z)" % re.escape(boundary.encode("utf-8", "surrogateescape"))
    at: int | None = None
    for delimiter in re.compile(line, re.M).finditer(raw, begin, end):
        if at is not None:
            found.parts.append(read(raw, at, _before(raw, at, delimiter.start()), depth + 1))
        at = None if delimiter[1] else delimiter.end()
        if delimiter[1]:
            break
    if at is not None and at < end:  # cut off
        found.parts.append(read(raw, at, end, depth + 1))
    return found


def _before(raw: bytes, start: int, end: int) -> int:
    """Without the end of line, which belongs to the delimiter after it."""
    for newline in (b"\r\n", b"\n"):
        if raw.endswith(newline, start, end):
            return end - len(newline)
    return end
