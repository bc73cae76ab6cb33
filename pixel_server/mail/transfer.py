"""Changes the body of a mail part in its transfer encoding (RFC 2045, 6). Keeps all bytes that it can keep.

7bit, 8bit, binary: inserts the tag. If the line with the tag would be longer than 998 bytes, spaces in the
tag become line ends. quoted-printable: inserts the tag, and soft line breaks around it. base64: keeps the
lines before the tag, and wraps the rest anew, because the groups of three bytes shift.
"""

from __future__ import annotations

import re
from base64 import b64encode
from binascii import Error, a2b_base64
from bisect import bisect_right

from pixel_server.mail.placement import Edit, EmbedError, splice

MAX_LINE_BYTES = 998
"""Largest number of bytes of a line, without its line end (RFC 5322, 2.1.1)."""
_MAX_ENCODED_WIDTH = 76
"""Largest number of characters of an encoded line (RFC 2045, 6.7 and 6.8)."""

_escape_or_soft_break = re.compile(rb"=[0-9A-Fa-f]{2}|=[ \t]*(?:\r\n|\n|\r|\Z)").finditer
_newline = re.compile(rb"\r\n|\n|\r").search
_line_of_base64 = re.compile(rb"[A-Za-z0-9+/]*[ \t]*(?:\r\n|\n|\r)").match


def decode(body: bytes, encoding: str) -> bytes:
    """Returns the decoded body. encoding: as in the header, such as `Base64`; "" is 7bit.

    Raises EmbedError if the body cannot be decoded.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "7bit", "8bit", "binary"):
        return body
    if encoding == "quoted-printable":
        return _QuotedPrintable(body).decoded
    if encoding == "base64":
        padding = body.find(b"=")
        if padding >= 0 and body[padding:].strip(b"= \t\r\n"):  # `a2b_base64` drops it
            raise EmbedError("its base64 has text behind its end")
        try:
            return a2b_base64(body)
        except Error:
            raise EmbedError("its base64 cannot be decoded") from None
    raise EmbedError(f"its transfer encoding, {encoding[:40]}, is not known")


def change(body: bytes, encoding: str, changes: list[Edit], newline: bytes) -> bytes:
    """Returns the encoded body with these changes made to its decoded bytes.

    newline: line end to use if the body has none.
    """
    first_newline = _newline(body)
    newline = first_newline[0] if first_newline else newline
    encoding = encoding.strip().lower()
    if encoding == "quoted-printable":
        return _change_quoted(_QuotedPrintable(body), changes, newline)
    if encoding == "base64":
        return _change_base64(body, changes, newline)
    return splice(body, [edit._replace(new=_fold(body, edit, newline)) for edit in changes])


def _fold(body: bytes, edit: Edit, newline: bytes) -> bytes:
    """Returns the tag, on several lines if its line would be too long."""
    line_start = max(body.rfind(b"\n", 0, edit.start), body.rfind(b"\r", 0, edit.start)) + 1
    next_newline = _newline(body, edit.end)
    line_end = next_newline.start() if next_newline else len(body)
    if not edit.new or edit.start - line_start + len(edit.new) + line_end - edit.end <= MAX_LINE_BYTES:
        return edit.new
    first, *rest = edit.new.split(b" ")
    return newline.join([first, b" ".join(rest[:-1]), rest[-1]])


class _QuotedPrintable:
    """A body in quoted-printable, and a map from offsets in its decoded bytes to offsets in its raw bytes.

    A body consists of pieces. A piece is plain text, an escape such as `=3D`, or a soft line break.
    decoded_offsets, raw_offsets: start of each piece in the decoded bytes and in the raw bytes.
    """

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.decoded_offsets = [0]
        self.raw_offsets = [0]
        parts: list[bytes] = []
        size = done = 0
        for match in _escape_or_soft_break(raw):
            start, end = match.span()
            code = match[0]
            is_escape = len(code) == 3 and code[1:].isalnum()
            byte = bytes([int(code[1:], 16)]) if is_escape else b""
            parts += [raw[done:start], byte]
            size += start - done
            self.decoded_offsets += [size, size + len(byte)]
            self.raw_offsets += [start, end]
            size, done = size + len(byte), end
        parts.append(raw[done:])
        self.decoded = b"".join(parts)
        self.decoded_offsets.append(len(self.decoded))
        self.raw_offsets.append(len(raw))

    def raw_offset(self, offset: int) -> int:
        """Returns the raw offset of a decoded byte. It lies after any soft line break before the byte."""
        piece = bisect_right(self.decoded_offsets, offset) - 1
        return self.raw_offsets[piece] + offset - self.decoded_offsets[piece]


def _change_quoted(body: _QuotedPrintable, changes: list[Edit], newline: bytes) -> bytes:
    """Returns the encoded body with these changes. Breaks lines around the new bytes only."""
    changed = bytearray()
    done = 0
    for edit in changes:
        start, end = body.raw_offset(edit.start), body.raw_offset(edit.end)
        changed += body.raw[done:start]
        column = len(changed) - 1 - max(changed.rfind(b"\n"), changed.rfind(b"\r"))
        if edit.new and column >= _MAX_ENCODED_WIDTH:  # a soft break has room only before the last character
            last = 3 if changed[-3:-2] == b"=" else 1
            changed[-last:-last] = b"=" + newline
            column = last
        for byte in edit.new:
            encoded_byte = _quote(byte, column == 0)
            if column + len(encoded_byte) >= _MAX_ENCODED_WIDTH:
                changed += b"=" + newline
                encoded_byte = _quote(byte, True)
                column = 0
            changed += encoded_byte
            column += len(encoded_byte)
        next_newline = _newline(body.raw, end)
        rest = (next_newline.start() if next_newline else len(body.raw)) - end
        if rest and 0 < column < _MAX_ENCODED_WIDTH < column + rest:
            changed += b"=" + newline
        done = end
    return bytes(changed + body.raw[done:])


def _quote(byte: int, begins_line: bool) -> bytes:
    """Returns a byte of the tag in quoted-printable: `=3D` for `=`."""
    is_plain = 32 <= byte < 127 and byte != 0x3D and not (begins_line and byte == 0x2E)
    return bytes([byte]) if is_plain else b"=%02X" % byte


def _change_base64(body: bytes, changes: list[Edit], newline: bytes) -> bytes:
    """Returns the encoded body with these changes. Keeps the whole lines before the first change."""
    decoded = a2b_base64(body)
    kept_decoded = kept_encoded = width = 0
    while changes and (line := _line_of_base64(body, kept_encoded)):
        length = len(line[0].rstrip())
        if length % 4 or kept_decoded + length // 4 * 3 > changes[0].start:
            break
        kept_decoded, kept_encoded, width = kept_decoded + length // 4 * 3, line.end(), width or length
    if not width:
        first = _newline(body)
        width = first.start() if first and first.end() < len(body.rstrip()) else _MAX_ENCODED_WIDTH
    if width % 4 or not width:
        width = _MAX_ENCODED_WIDTH
    changed = splice(decoded, changes)
    rest = b64encode(changed[kept_decoded:])
    lines = [rest[i : i + width] for i in range(0, len(rest), width)]
    encoded = body[:kept_encoded] + newline.join(lines) + body[len(body.rstrip()) :]
    if a2b_base64(encoded) != changed:
        raise EmbedError("its base64 is broken")
    return encoded
