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
    """Turns a list in UTF-16 into UTF-8, piece by piece. Leaves a list in another charset as it is.

    codec: "utf-16-le", "utf-16-be", or None for all other charsets.
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
        """Turns UTF-8 back into UTF-16 if the list is in UTF-16. Otherwise returns the bytes as they are."""
        if self.codec is None:
            return content
        return content.decode("utf-8", "surrogatepass").encode(self.codec, "surrogatepass")


class CharsetGuess:
    """Guesses the charset of a list that is not in UTF-16, from the rows so far.

    The first row with bytes outside ASCII decides. If this row is valid UTF-8, the list is UTF-8. Otherwise
    it is Windows-1252, or Mac Roman if its lines end in CR, as in old lists of Macs.
    """

    def __init__(self, is_utf8: bool, newline: bytes) -> None:
        """is_utf8: whether the list begins with a mark of UTF-8, or was UTF-16."""
        self._older = "mac-roman" if newline == b"\r" else "cp1252"
        self._codec = "utf-8" if is_utf8 else ""

    @property
    def older_name(self) -> str:
        """Returns the name of the charset if it is known not to be UTF-8, else ""."""
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
            raise ValueError(f"is in UTF-8, but a line above is in {self.older_name}")
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
