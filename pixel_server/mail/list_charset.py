"""The charset of a recipient list: UTF-8, UTF-16, or what spreadsheets write on older systems. Pure."""

from __future__ import annotations

import codecs
import re

BOM = codecs.BOM_UTF8
FIRST_BYTES = 4
"""Number of bytes that tell whether a list is UTF-16."""
_CHARSET_NAMES = {"utf-8": "UTF-8", "cp1252": "Windows-1252", "mac-roman": "Mac Roman"}
_find_utf16 = re.compile(rb"(?:\xff\xfe|[^\0]\0)|(\xfe\xff|\0[^\0])").match


class Recoder:
    """Turns the bytes of a list in UTF-16 into UTF-8, as they come. Other bytes stay as they are.

    codec: "utf-16-le", "utf-16-be", or None for all other charsets. mark: the first mark of byte order.
    """

    def __init__(self, first: bytes) -> None:
        """first: the first FIRST_BYTES of the list."""
        utf16 = _find_utf16(first)
        self.codec = ("utf-16-be" if utf16[1] else "utf-16-le") if utf16 else None
        self._decoder = codecs.getincrementaldecoder(self.codec or "utf-8")("surrogatepass")

    def recode(self, chunk: bytes, is_final: bool) -> bytes:
        """Returns the next bytes. A character that is cut off at the end of the list becomes U+FFFD."""
        if self.codec is None:
            return chunk
        try:
            text = self._decoder.decode(chunk, is_final)
        except UnicodeDecodeError:
            text = "\ufffd"
        return text.encode("utf-8", "surrogatepass")

    def restore(self, content: bytes) -> bytes:
        """Returns bytes of UTF-8 in the charset of the list. Bytes of other charsets stay as they are."""
        if self.codec is None:
            return content
        return content.decode("utf-8", "surrogatepass").encode(self.codec, "surrogatepass")


class CharsetGuess:
    """The charset of rows that are not UTF-16, by the rows so far.

    A list is UTF-8, unless its first row with bytes outside ASCII is not: then it is Windows-1252. Old lists
    of Macs, whose lines end in CR, are Mac Roman.
    """

    def __init__(self, is_utf8: bool, newline: bytes) -> None:
        """is_utf8: whether the list begins with a mark of UTF-8, or was UTF-16."""
        self._older = "mac-roman" if newline == b"\r" else "cp1252"
        self._codec = "utf-8" if is_utf8 else ""

    @property
    def older(self) -> str:
        """Returns the name of the charset if it is not UTF-8, else ""."""
        return _CHARSET_NAMES[self._older] if self._codec == self._older else ""

    def codec(self, raw: bytes) -> str:
        """Returns the codec of a row. Raises ValueError if the row cannot be decoded."""
        if raw.isascii():
            return "ascii"
        try:
            raw.decode()
        except UnicodeDecodeError:
            return self._older_codec(raw)
        if self._codec == self._older:
            raise ValueError(f"is in UTF-8, but a line above is in {self.older}")
        self._codec = "utf-8"
        return "utf-8"

    def _older_codec(self, raw: bytes) -> str:
        if self._codec == "utf-8":
            raise ValueError("is not in UTF-8")
        try:
            raw.decode(self._older)
        except UnicodeDecodeError:
            raise ValueError(f"is neither in UTF-8 nor in {_CHARSET_NAMES[self._older]}") from None
        self._codec = self._older
        return self._older
