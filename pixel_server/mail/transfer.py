"""Changing a part of a mail within its transfer encoding (RFC 2045, 6), so that all else stays as it is.

7bit, 8bit, binary: only the pixel is put in; where its line would be longer than 998 bytes, the tag's own
blanks become ends of lines. quoted-printable: only the pixel is put in, and soft line breaks about it.
base64: lines before the pixel's stay, the rest is wrapped anew, as groups of three bytes shift.
"""

from __future__ import annotations

import re
from base64 import b64encode
from binascii import Error, a2b_base64
from bisect import bisect_right

from pixel_server.mail.placement import Edit, EmbedError, splice

LONGEST = 998
"""Bytes of a line without its end (RFC 5322, 2.1.1)."""
_WIDTH = 76

_special = re.compile(rb"=[0-9A-Fa-f]{2}|=[ \t]*(?:\r\n|\n|\r|\Z)").finditer
_newline = re.compile(rb"\r\n|\n|\r").search
_line_of_base64 = re.compile(rb"[A-Za-z0-9+/]*[ \t]*(?:\r\n|\n|\r)").match


def decode(body: bytes, encoding: str) -> bytes:
    """encoding: as in the header; "" is 7bit. EmbedError: it cannot be decoded."""
    encoding = encoding.strip().lower()
    if encoding in ("", "7bit", "8bit", "binary"):
        return body
    if encoding == "quoted-printable":
        return _Quoted(body).decoded
    if encoding == "base64":
        try:
            return a2b_base64(body)
        except Error:
            raise EmbedError("its base64 cannot be decoded") from None
    raise EmbedError(f"its transfer encoding, {encoding[:40]}, is not known")


def change(body: bytes, encoding: str, changes: list[Edit], newline: bytes) -> bytes:
    """The body with these changes of what `decode` gives. newline: where the body has none of its own."""
    found = _newline(body)
    newline = found[0] if found else newline
    encoding = encoding.strip().lower()
    if encoding == "quoted-printable":
        return _change_quoted(_Quoted(body), changes, newline)
    if encoding == "base64":
        return _change_base64(body, changes, newline)
    return splice(body, [edit._replace(put=_short(body, edit, newline)) for edit in changes])


def _short(body: bytes, edit: Edit, newline: bytes) -> bytes:
    """The tag, on lines of its own if its line gets too long by it."""
    begin = max(body.rfind(b"\n", 0, edit.start), body.rfind(b"\r", 0, edit.start)) + 1
    found = _newline(body, edit.end)
    end = found.start() if found else len(body)
    if not edit.put or edit.start - begin + len(edit.put) + end - edit.end <= LONGEST:
        return edit.put
    first, *rest = edit.put.split(b" ")
    return newline.join([first, b" ".join(rest[:-1]), rest[-1]])


class _Quoted:
    """A body in quoted-printable. decoded; pieces: the (offset in decoded, offset in raw) of each piece."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.at = [0]
        self.raw_at = [0]
        parts: list[bytes] = []
        size = done = 0
        for found in _special(raw):
            start, end = found.span()
            code = found[0]
            is_code = len(code) == 3 and code[1:].isalnum()
            byte = bytes([int(code[1:], 16)]) if is_code else b""
            parts += [raw[done:start], byte]
            size += start - done
            self.at += [size, size + len(byte)]
            self.raw_at += [start, end]
            size, done = size + len(byte), end
        parts.append(raw[done:])
        self.decoded = b"".join(parts)
        self.at.append(len(self.decoded))
        self.raw_at.append(len(raw))

    def find(self, offset: int) -> int:
        """Where a byte of the decoded begins in the raw; after a soft line break, if there is one."""
        piece = bisect_right(self.at, offset) - 1
        return self.raw_at[piece] + offset - self.at[piece]


def _change_quoted(body: _Quoted, changes: list[Edit], newline: bytes) -> bytes:
    made = bytearray()
    done = 0
    for edit in changes:
        start, end = body.find(edit.start), body.find(edit.end)
        made += body.raw[done:start]
        column = len(made) - 1 - max(made.rfind(b"\n"), made.rfind(b"\r"))
        if edit.put and column >= _WIDTH:  # no room for a soft break: there is, before its last character
            last = 3 if made[-3:-2] == b"=" else 1
            made[-last:-last] = b"=" + newline
            column = last
        for byte in edit.put:
            letter = _quote(byte, column == 0)
            if column + len(letter) >= _WIDTH:
                made += b"=" + newline
                letter = _quote(byte, True)
                column = 0
            made += letter
            column += len(letter)
        found = _newline(body.raw, end)
        rest = (found.start() if found else len(body.raw)) - end
        if rest and 0 < column < _WIDTH < column + rest:
            made += b"=" + newline
        done = end
    return bytes(made + body.raw[done:])


def _quote(byte: int, begins_line: bool) -> bytes:
    is_plain = 32 <= byte < 127 and byte != 0x3D and not (begins_line and byte == 0x2E)
    return bytes([byte]) if is_plain else b"=%02X" % byte


def _change_base64(body: bytes, changes: list[Edit], newline: bytes) -> bytes:
    decoded = a2b_base64(body)
    kept = raw = width = 0
    while changes and (line := _line_of_base64(body, raw)):
        letters = len(line[0].rstrip())
        if letters % 4 or kept + letters // 4 * 3 > changes[0].start:
            break
        kept, raw, width = kept + letters // 4 * 3, line.end(), width or letters
    if not width:
        first = _newline(body)
        width = first.start() if first and first.end() < len(body.rstrip()) else _WIDTH
    if width % 4 or not width:
        width = _WIDTH
    wanted = splice(decoded, changes)
    letters_left = b64encode(wanted[kept:])
    lines = [letters_left[i : i + width] for i in range(0, len(letters_left), width)]
    made = body[:raw] + newline.join(lines) + body[len(body.rstrip()) :]
    if a2b_base64(made) != wanted:
        raise EmbedError("its base64 is broken")
    return made
