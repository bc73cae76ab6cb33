"""Where in a mail's HTML the pixel goes, and which there are; not another byte of it is touched."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from html import unescape
from typing import NamedTuple

from pixel_server.mail.html_scanner import Places, places
from pixel_server.tokens import BadToken, Token, decode_unverified

CLIP_BYTES = 102 * 1024
"""Bytes of HTML of which Gmail shows no more: a pixel below is never loaded."""

_of_pixel = re.compile(r"/o/([A-Za-z0-9_-]+)\.gif(?:[?#].*)?$", re.S).search


class EmbedError(ValueError):
    """There can be no pixel in this mail; the message says why."""


class AlreadyThere(EmbedError):
    """There is one."""


class Pixel(NamedTuple):
    """One that stands in a mail. start, end: of its tag. token: as its link says, verified by nobody."""

    start: int
    end: int
    url: str
    token: Token


class Edit(NamedTuple):
    """In place of `start` to `end` stands `put`."""

    start: int
    end: int
    put: bytes


@dataclass(frozen=True, slots=True)
class Tags:
    """The image tags for one mail. top: b"" without twins. Both are b"" in mode off."""

    bottom: bytes
    top: bytes = b""


@dataclass(frozen=True, slots=True)
class Frame:
    """Where in a mail the tags go, to be filled in for each recipient. gone: pixels that were there."""

    html: bytes
    encoding: str
    top: int
    bottom: int
    gone: tuple[Edit, ...]

    def edits(self, tags: Tags) -> list[Edit]:
        """What `splice` is to do, in order."""
        wanted = [(self.top, tags.top), (self.bottom, tags.bottom)]
        new = [Edit(at, at, tag.decode("ascii").encode(self.encoding)) for at, tag in wanted if tag]
        return sorted([*self.gone, *new], key=lambda edit: (edit.start, edit.end))

    def fill(self, tags: Tags) -> bytes:
        return splice(self.html, self.edits(tags))


def frame(html: bytes, *, replace: bool = False, charset: str = "") -> Frame:
    """charset: as the mail says, "" where it does not.

    AlreadyThere; EmbedError: the charset does not agree with ASCII.
    """
    encoding, width = _units(html, charset)
    return _frame(html, _narrow(html, encoding, width), encoding, width, replace)


def put(html: str, tags: Tags, *, replace: bool = False) -> str:
    """The mail with these tags, as text. AlreadyThere."""
    seen = html.encode("latin-1", "replace")  # a byte a character, so offsets are the same
    if html.startswith("\ufeff"):
        seen = b"\xff" + seen[1:]
    parts: list[str] = []
    at = 0
    for edit in _frame(seen, seen, "ascii", 1, replace).edits(tags):
        parts += [html[at : edit.start], edit.put.decode("ascii")]
        at = edit.end
    return "".join([*parts, html[at:]])


def _frame(html: bytes, seen: bytes, encoding: str, width: int, replace: bool) -> Frame:
    where = places(seen)
    there = _pixels(where)
    if there and not replace:
        raise AlreadyThere(f"there is a pixel already, of campaign {there[0].token.campaign}")
    gone = [Edit(one.start, one.end, b"") for one in there]
    if gone:
        where = places(splice(seen, gone))

    def back(at: int) -> int:
        for edit in gone:  # `at` is an offset in the mail without these
            at += edit.end - edit.start if edit.start < at else 0
        return at * width

    wide = tuple(Edit(edit.start * width, edit.end * width, b"") for edit in gone)
    return Frame(html, encoding, back(where.top), back(where.bottom), wide)


def splice(html: bytes, changes: list[Edit]) -> bytes:
    parts: list[bytes] = []
    at = 0
    for edit in changes:
        parts += [html[at : edit.start], edit.put]
        at = edit.end
    return b"".join([*parts, html[at:]])


def pixels(html: bytes, charset: str = "") -> list[Pixel]:
    """Those of this or any other pixel-server, by the shape of their links."""
    encoding, width = _units(html, charset)
    seen = _narrow(html, encoding, width)
    return [one._replace(start=one.start * width, end=one.end * width) for one in _pixels(places(seen))]


def images(html: bytes, charset: str = "") -> list[str]:
    """Where its images are, as written."""
    encoding, width = _units(html, charset)
    return [tag.source.decode("latin-1") for tag in places(_narrow(html, encoding, width)).images]


def is_last(html: bytes, pixel: Pixel, charset: str = "") -> bool:
    """Whether nothing but blanks stands between a pixel and the end of the body."""
    encoding, width = _units(html, charset)
    seen = _narrow(html, encoding, width)
    return not seen[pixel.end // width : places(seen).bottom].strip()


def _pixels(where: Places) -> list[Pixel]:
    found = []
    for tag in where.images:
        url = unescape(tag.source.decode("latin-1")).strip()
        match = _of_pixel(url)
        if match:
            with suppress(BadToken):
                found.append(Pixel(tag.start, tag.end, url, decode_unverified(match[1].encode())))
    return found


_BOMS = (
    (b"\xff\xfe\0\0", "utf-32-le"),
    (b"\0\0\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
    (b"<\0\0\0", "utf-32-le"),
    (b"\0\0\0<", "utf-32-be"),
)
_utf_16 = re.compile(rb"<\0[^\0]\0|(\0<\0[^\0])").match


def _units(html: bytes, charset: str) -> tuple[str, int]:
    """(codec for the tag, bytes a character of it). By what the bytes begin with, then by the charset."""
    for begin, encoding in _BOMS:
        if html.startswith(begin):
            return encoding, 4 if "32" in encoding else 2
    if found := _utf_16(html):
        return "utf-16-be" if found[1] else "utf-16-le", 2
    name = charset.strip().lower().replace("_", "-")
    for bits, width in (("16", 2), ("32", 4)):
        if name in (f"utf-{bits}", f"utf-{bits}be", f"utf-{bits}-be", f"utf{bits}"):
            return f"utf-{bits}-be", width  # RFC 2781, 4.3: without a mark, big-endian
        if name in (f"utf-{bits}le", f"utf-{bits}-le"):
            return f"utf-{bits}-le", width
    try:
        same = not name or "</body>".encode(name) == b"</body>"
    except (LookupError, UnicodeError):
        same = True  # a name that nobody knows: all that mails use agree with ASCII
    if not same:
        raise EmbedError(f"its charset, {charset}, does not agree with ASCII")
    return "ascii", 1


def _narrow(html: bytes, encoding: str, width: int) -> bytes:
    """A byte a character: what is not ASCII, and a piece of one at the end, is none of a tag's."""
    if width == 1:
        return html
    low = 0 if encoding.endswith("le") else width - 1
    units = [html[i::width][: len(html) // width] for i in range(width)]
    seen = bytearray(units.pop(low))
    for higher in units:
        for i, byte in enumerate(higher):
            if byte:
                seen[i] = 0xFF
    return bytes(seen)
