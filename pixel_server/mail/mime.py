"""Finds the parts of a message, and their places in its bytes (RFC 2046, 5.1)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesHeaderParser

_MAX_DEPTH = 50
"""Depth to which nested parts are read. A part at this depth is read as one part without parts."""
_header = re.compile(
    rb"(?:(?:From |(?!<)[!-9;-~]+[ \t]*:)[^\n]*(?:\n|\Z)"
    rb"(?:[ \t](?![ \t]*<(?:!doctype|html|head|body|style|table|div|center|p)\b)[^\n]*(?:\n|\Z))*+)*+",
    re.I,
).match
"""Matches the header of a message or a part. The header ends before the first line that neither begins nor
continues a field, so that HTML is found even if no blank line stands before it."""
_blank_line = re.compile(rb"\r?\n").match
_add_semicolons = re.compile(r"""(/[\w.+-]+|=\s*(?:"[^"]*"|[^\s;",]+))[\s,]+(?=[\w-]+\s*=)""").sub
"""Adds a semicolon where none stands before a parameter: `text/html charset=utf-8`."""
_quoted_or_comment = re.compile(r"""("(?:[^"\\]|\\.)*")|(?:^|\s)\((?:[^()\\]|\\.)*\)""")
_blank_before_colon = re.compile(rb"^([!-9;-~]+)[ \t]+:", re.M)
"""Matches the name of a field with blanks before its colon (RFC 5322, 4.5), which Python does not read."""


@dataclass(slots=True)
class MimePart:
    """A part of a message. start, end: offsets of its body in the bytes of the message."""

    headers: Message
    start: int = 0
    end: int = 0
    parts: list[MimePart] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """Returns the content type, such as `text/html`."""
        return self.content_headers.get_content_type()

    @property
    def content_headers(self) -> Message:
        """Returns the headers that describe the content. Adds missing semicolons, and drops comments."""
        written = str(self.headers.get("content-type", ""))
        mended = _add_semicolons(r"\1; ", _without_comments(written))
        if mended == written:
            return self.headers
        content = Message()
        content["Content-Type"] = mended
        content["Content-Disposition"] = str(self.headers.get("content-disposition", "inline"))
        return content

    @property
    def charset(self) -> str:
        """Returns the charset as the header names it, or ""."""
        return self.content_headers.get_content_charset() or ""

    @property
    def is_attachment(self) -> bool:
        """Returns whether the header says that the part is an attachment."""
        return self.headers.get_content_disposition() == "attachment"

    @property
    def has_name(self) -> bool:
        """Returns whether the part has a file name."""
        return bool(self.content_headers.get_filename())

    @property
    def transfer_encoding(self) -> str:
        """Returns the transfer encoding, such as `Base64`, or "". Drops comments, quotes and semicolons."""
        return _without_comments(str(self.headers.get("content-transfer-encoding", ""))).strip(' \t\r\n;"')

    @property
    def is_text(self) -> bool:
        """Returns whether the part is text or HTML, and not an attachment."""
        return self.kind.startswith("text/") and not self.is_attachment

    @property
    def parts_preferred_first(self) -> list[MimePart]:
        """Returns the parts within this part. The part that mail programs prefer is first.

        Mail programs prefer the last of alternatives, and the root of related parts.
        """
        if self.kind == "multipart/alternative":
            return self.parts[::-1]
        if self.kind == "multipart/related" and (start := self.content_headers.get_param("start")):
            root = _content_id(str(start))
            return sorted(
                self.parts, key=lambda part: _content_id(str(part.headers.get("content-id", ""))) != root
            )
        return self.parts

    def walk(self) -> Iterator[MimePart]:
        """Yields this part and all parts within it. The parts of an attached message are not among them."""
        yield self
        for part in self.parts:
            yield from part.walk()


def _without_comments(text: str) -> str:
    """Returns the text of a header field without comments: `text/html` for `text/html (mail)`."""
    return _quoted_or_comment.sub(lambda found: found[1] or "", text)


def _content_id(text: str) -> str:
    """Returns the id in a field: `a@x` for `<a@x>`, also with a comment or without brackets."""
    return _without_comments(text).strip().removeprefix("<").removesuffix(">")


def from_message(message: Message) -> MimePart:
    """Returns the tree of parts of a parsed message. The parts have no offsets."""
    root = MimePart(message)
    if message.get_content_maintype() == "multipart" and message.is_multipart():
        parts = message.get_payload()
        root.parts = [from_message(part) for part in parts if isinstance(part, Message)]
    return root


def from_bytes(raw: bytes, start: int = 0, end: int | None = None, depth: int = 0) -> MimePart:
    """Returns the tree of parts of a message. start, end: offsets of the message, or of a part in it."""
    end = len(raw) if end is None else end
    header = _header(raw, start, end)
    header_end = header.end() if header else start
    blank = _blank_line(raw, header_end, end)
    body_start = blank.end() if blank else header_end
    fields = _blank_before_colon.sub(rb"\1:", raw[start:body_start])
    part = MimePart(BytesHeaderParser().parsebytes(fields), body_start, end)
    boundary = part.content_headers.get_boundary()
    if not part.kind.startswith("multipart/") or not boundary or depth == _MAX_DEPTH:
        return part
    delimiter_line = rb"^--%b(--)?[ \t]*(?:\r?\n|\Z)" % re.escape(boundary.encode("utf-8", "surrogateescape"))
    child_start: int | None = None
    for delimiter in re.compile(delimiter_line, re.M).finditer(raw, body_start, end):
        if child_start is not None:
            child_end = _without_newline(raw, child_start, delimiter.start())
            part.parts.append(from_bytes(raw, child_start, child_end, depth + 1))
        child_start = None if delimiter[1] else delimiter.end()
        if delimiter[1]:
            break
    if child_start is not None and child_start < end:  # the message is cut off: its last delimiter is missing
        part.parts.append(from_bytes(raw, child_start, end, depth + 1))
    return part


def _without_newline(raw: bytes, start: int, end: int) -> int:
    """Returns the end of a part without its last newline, which belongs to the delimiter."""
    for newline in (b"\r\n", b"\n"):
        if raw.endswith(newline, start, end):
            return end - len(newline)
    return end
