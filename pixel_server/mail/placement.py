"""Puts pixels into a mail's HTML, and finds the pixels that it has. Changes no other byte."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from html import unescape
from typing import NamedTuple

from pixel_server.mail.html_scanner import Places, places, shows_nothing
from pixel_server.mail.surroundings import Surroundings
from pixel_server.tokens import BadToken, Token, decode_unreserved, decode_unverified

CLIP_BYTES = 102 * 1024
"""Bytes of HTML after which Gmail cuts a mail off. A pixel beyond this size is never loaded."""

_pixel_path = re.compile(rb"/o/([A-Za-z0-9_-]+)\.gif(?:[?#].*)?$", re.S).search


class EmbedError(ValueError):
    """A mail cannot have a pixel. The text of the error says why."""

    is_loggable = True


class AlreadyThere(EmbedError):
    """The mail has a pixel already."""


class TooLarge(EmbedError):
    """The mail has more text than the caller allows."""


class Pixel(NamedTuple):
    """A pixel in a mail. start, end: offsets of its tag. token: decoded from its link, not verified.

    around: see `Surroundings`.
    """

    start: int
    end: int
    url: str
    token: Token
    around: Surroundings


class Edit(NamedTuple):
    """A change: `new` replaces the bytes from `start` to `end`."""

    start: int
    end: int
    new: bytes


@dataclass(frozen=True, slots=True)
class Tags:
    """Image tags to put into one mail. top: b"" if the mail gets one pixel only. Both are b"" in mode off."""

    bottom: bytes
    top: bytes = b""


@dataclass(frozen=True, slots=True)
class Frame:
    """A mail, and the offsets at which tags belong. `fill` makes the mail of each recipient.

    encoding: codec of the tags. top, bottom: offsets in `html`. removals: changes that remove the pixels that
    the mail has.
    """

    html: bytes
    encoding: str
    top: int
    bottom: int
    removals: tuple[Edit, ...]

    def edits(self, tags: Tags) -> list[Edit]:
        """Returns the changes that put in these tags and remove the old pixels, in order, for `splice`."""
        placed = [(self.top, tags.top), (self.bottom, tags.bottom)]
        additions = [Edit(at, at, tag.decode("ascii").encode(self.encoding)) for at, tag in placed if tag]
        return sorted([*self.removals, *additions], key=lambda edit: (edit.start, edit.end))

    def fill(self, tags: Tags) -> bytes:
        """Returns the mail with these tags."""
        return splice(self.html, self.edits(tags))


def frame(html: bytes, *, replace: bool = False, charset: str = "") -> Frame:
    """Returns the frame of a mail. charset: as the mail's header names it, or "".

    replace: removes the pixels that the mail has; without it, raises AlreadyThere if there are any. Raises
    EmbedError for a charset that does not agree with ASCII, except UTF-16 and UTF-32.
    """
    encoding, width = _encoding(html, charset)
    return _frame(html, _narrow(html, encoding, width), encoding, width, replace)


def put(html: str, tags: Tags, *, replace: bool = False) -> str:
    """Returns the text of a mail with these tags. Raises AlreadyThere as `frame` does."""
    narrow = html.encode("latin-1", "replace")  # one byte a character, so offsets are the same
    if html.startswith("\ufeff"):
        narrow = b"\xff" + narrow[1:]
    parts: list[str] = []
    at = 0
    for edit in _frame(narrow, narrow, "ascii", 1, replace).edits(tags):
        parts += [html[at : edit.start], edit.new.decode("ascii")]
        at = edit.end
    return "".join([*parts, html[at:]])


def _frame(html: bytes, narrow: bytes, encoding: str, width: int, replace: bool) -> Frame:
    """Returns the frame of a mail. narrow: the mail with one byte a character. width: bytes a character."""
    offsets = places(narrow)
    old_pixels = _pixels(narrow, offsets)
    unquoted_pixels = [pixel for pixel in old_pixels if not pixel.around.is_quoted]
    if unquoted_pixels and not replace:
        raise AlreadyThere(f"there is a pixel already, of campaign {unquoted_pixels[0].token.campaign}")
    removals = [Edit(pixel.start, pixel.end, b"") for pixel in old_pixels]
    if removals:
        offsets = places(splice(narrow, removals))

    def original_offset(at: int) -> int:
        """Returns the offset in `html` for an offset in `narrow` without the old pixels."""
        for edit in removals:
            at += edit.end - edit.start if edit.start < at else 0
        return at * width

    wide_removals = tuple(Edit(edit.start * width, edit.end * width, b"") for edit in removals)
    return Frame(html, encoding, original_offset(offsets.top), original_offset(offsets.bottom), wide_removals)


def splice(html: bytes, changes: list[Edit]) -> bytes:
    """Returns the bytes with these changes, which must be in order."""
    parts: list[bytes] = []
    at = 0
    for edit in changes:
        parts += [html[at : edit.start], edit.new]
        at = edit.end
    return b"".join([*parts, html[at:]])


def pixels(html: bytes, charset: str = "") -> list[Pixel]:
    """Returns the pixels of a mail. Recognises the links of any pixel-server by their form."""
    encoding, width = _encoding(html, charset)
    narrow = _narrow(html, encoding, width)
    return [
        pixel._replace(start=pixel.start * width, end=pixel.end * width)
        for pixel in _pixels(narrow, places(narrow))
    ]


def has_frameset(html: bytes, charset: str = "") -> bool:
    """Returns whether a `<frameset>` takes the place of the mail's body."""
    return places(_narrow(html, *_encoding(html, charset))).has_frameset


def images(html: bytes, charset: str = "") -> list[str]:
    """Returns the `src` of each image of a mail, as written."""
    encoding, width = _encoding(html, charset)
    return [tag.source.decode("latin-1") for tag in places(_narrow(html, encoding, width)).images]


def is_last(html: bytes, pixel: Pixel, charset: str = "") -> bool:
    """Returns whether nothing that is shown follows a pixel up to the end of the body."""
    encoding, width = _encoding(html, charset)
    narrow = _narrow(html, encoding, width)
    return shows_nothing(narrow[pixel.end // width : places(narrow).bottom])


def _pixels(narrow: bytes, offsets: Places) -> list[Pixel]:
    """Returns the pixels of a mail.

    A pixel at the end of the body does not count as quoted, even if a quotation above it is never closed:
    this server puts its own pixels there.
    """
    all_pixels = []
    for tag in offsets.images:
        url = unescape(tag.source.decode("latin-1")).strip()
        match = _pixel_path(decode_unreserved(url.encode()))
        if match:
            with suppress(BadToken):
                is_last = not narrow[tag.end : offsets.bottom].strip()
                around = tag.around._replace(is_quoted=False) if is_last else tag.around
                all_pixels.append(Pixel(tag.start, tag.end, url, decode_unverified(match[1]), around))
    return all_pixels


_ENCODINGS_BY_FIRST_BYTES = (
    (b"\xff\xfe\0\0", "utf-32-le"),
    (b"\0\0\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
    (b"<\0\0\0", "utf-32-le"),
    (b"\0\0\0<", "utf-32-be"),
)
_UTF_CODECS = {
    **dict.fromkeys(("utf-16", "utf16", "utf-16le", "utf-16-le", "unicode", "unicodefeff"), "utf-16-le"),
    **dict.fromkeys(("ucs-2", "iso-10646-ucs-2", "csunicode"), "utf-16-le"),
    **dict.fromkeys(("utf-16be", "utf-16-be", "unicodefffe"), "utf-16-be"),
    **dict.fromkeys(("utf-32le", "utf-32-le"), "utf-32-le"),
    **dict.fromkeys(("utf-32", "utf32", "utf-32be", "utf-32-be"), "utf-32-be"),
}
"""Codec by the charset of a header, for HTML without a byte order mark. Programs read UTF-16 as
little-endian (WHATWG Encoding Standard, 4.2), unlike RFC 2781. They do not read UTF-32."""
_utf_16 = re.compile(rb"<\0[^\0]\0|(\0<\0[^\0])").match
_GUESS_BYTES = 2000
"""Number of first bytes by which UTF-16 without a mark is recognised."""


def _encoding(html: bytes, charset: str) -> tuple[str, int]:
    """Returns the codec for the tags of a mail, and the bytes of a character in it: ("utf-16-le", 2).

    Goes by the first bytes of the mail, then by the charset. Raises EmbedError for a charset that does not
    agree with ASCII, except UTF-16 and UTF-32.
    """
    for first_bytes, encoding in _ENCODINGS_BY_FIRST_BYTES:
        if html.startswith(first_bytes):
            return encoding, 4 if "32" in encoding else 2
    if begins_utf_16 := _utf_16(html):
        return "utf-16-be" if begins_utf_16[1] else "utf-16-le", 2
    name = charset.strip().lower().replace("_", "-")
    if name in _UTF_CODECS:
        return _UTF_CODECS[name], 4 if "32" in name else 2
    if utf_16 := _guess_utf_16(html[:_GUESS_BYTES]):
        return utf_16, 2
    try:
        agrees_with_ascii = not name or "</body>".encode(name) == b"</body>"
    except (LookupError, UnicodeError):
        agrees_with_ascii = True  # the charset is unknown; nearly all charsets of mails agree with ASCII
    if not agrees_with_ascii:
        raise EmbedError(f"its charset, {charset}, does not agree with ASCII")
    return "ascii", 1


def _guess_utf_16(first: bytes) -> str:
    """Returns the codec of UTF-16 by the zero bytes of its ASCII characters, or "" if it is not UTF-16."""
    even, odd = first[::2].count(0), first[1::2].count(0)
    if 8 * max(even, odd) <= len(first):
        return ""  # in UTF-16, more than a quarter of the even or of the odd bytes are zero
    if odd > 8 * even:
        return "utf-16-le"
    return "utf-16-be" if even > 8 * odd else ""


def _narrow(html: bytes, encoding: str, width: int) -> bytes:
    """Returns UTF-16 or UTF-32 as Latin-1, with the byte 255 for each character that Latin-1 lacks.

    Drops an incomplete character at the end. Returns any other mail unchanged.
    """
    if width == 1:
        return html
    low = 0 if encoding.endswith("le") else width - 1
    columns = [html[i::width][: len(html) // width] for i in range(width)]
    narrow = bytearray(columns.pop(low))
    for high_bytes in columns:
        for i, byte in enumerate(high_bytes):
            if byte:
                narrow[i] = 0xFF
    return bytes(narrow)
