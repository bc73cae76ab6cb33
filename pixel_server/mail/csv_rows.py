"""Splits CSV into rows and fields (RFC 4180), as spreadsheets write it. Pure.

A quote opens a field in quotes only at the beginning of the field, perhaps after blanks. Elsewhere it is an
ordinary character: `5" pipe`. If the quotes of a row are broken, nobody knows where the row ends: the lines
below may be rows, or the rest of a field. `Dialect.lines_in_doubt` decides which they are.
"""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_ROW_BYTES = 1 << 20
"""Largest number of bytes of a row, including all lines of its fields in quotes."""
MAX_ROW_LINES = 1000
"""Largest number of lines of a row with fields in quotes."""


class BrokenQuotes(ValueError):
    """A field in quotes goes on after its last quote, or never ends."""


class Row(NamedTuple):
    """A row at the beginning of a buffer.

    values: its fields, without the quotes around them. ends: offset of the end of each field. next: offset of
    the row below. has_line_break: whether a field without quotes has a line break.
    """

    values: list[bytes]
    ends: list[int]
    next: int
    has_line_break: bool


class InDoubt(NamedTuple):
    """Lines below a row with broken quotes.

    fragment_count: number of lines that are the rest of a field. doubtful_count: number of lines that are
    more likely rows than the rest of a field. One of the two numbers is 0. has_quote: whether a quote decided
    this.
    """

    fragment_count: int
    doubtful_count: int
    has_quote: bool


class Dialect:
    """The delimiter of fields, and the last byte of each line end: CR if lines end in CR alone, else LF."""

    def __init__(self, delimiter: str, newline: bytes) -> None:
        self.delimiter = delimiter.encode()
        self.newline = newline
        self._other_newline = b"\r" if newline == b"\n" else b"\n"
        blank = rb" " if delimiter == "\t" else rb"[ \t]"
        self._match_quoted = re.compile(rb'%b*+"((?:[^"]++|"")*+)(")?%b*+' % (blank, blank)).match
        self._match_plain = re.compile(rb"[^%b%b]*+" % (re.escape(self.delimiter), newline)).match
        self._match_end = re.compile(rb"\r*+(?:\n|\Z)" if newline == b"\n" else rb"\r|\Z").match
        self._blanks = b' \t"\x1a\r\n' + self.delimiter

    def is_blank(self, raw: bytes) -> bool:
        """Returns whether all fields of a row are empty."""
        return not raw.strip(self._blanks)

    def read_row(self, buffer: bytearray, is_final: bool) -> Row | None:
        """Returns the first row of a buffer, or None if the end of the row is not in the buffer yet.

        is_final: whether nothing follows the buffer. Raises BrokenQuotes.
        """
        line_end = buffer.find(self.newline)
        end = line_end if line_end >= 0 else len(buffer)
        if buffer.find(b'"', 0, end) >= 0:
            return self._quoted_row(buffer, is_final)
        return self._plain_row(bytes(buffer[:end])) if line_end >= 0 or is_final else None

    def _plain_row(self, line: bytes) -> Row:
        next_row = len(line) + 1
        if self.newline == b"\n":
            line = line.rstrip(b"\r")
        values = line.split(self.delimiter)
        ends = []
        at = -1
        for value in values:
            at += len(value) + 1
            ends.append(at)
        return Row(values, ends, next_row, self._other_newline in line)

    def _quoted_row(self, buffer: bytearray, is_final: bool) -> Row | None:
        values: list[bytes] = []
        ends: list[int] = []
        at, has_line_break = 0, False
        while True:
            quoted = self._match_quoted(buffer, at)
            if quoted and not quoted[2]:
                if is_final or self._is_too_long(buffer, len(buffer)):
                    raise BrokenQuotes
                return None
            field = quoted or self._match_plain(buffer, at)
            assert field  # a plain field may be empty
            at = field.end()
            if at == len(buffer) and not is_final:
                return None
            value = bytes(quoted[1]).replace(b'""', b'"') if quoted else bytes(field[0])
            end = self._match_end(buffer, at)
            if end and not quoted and self.newline == b"\n":
                value = value.rstrip(b"\r")
                at = field.start() + len(value)
            has_line_break = has_line_break or (not quoted and self._other_newline in value)
            values.append(value)
            ends.append(at)
            if end:
                if self._is_too_long(buffer, at):
                    raise BrokenQuotes
                is_whole = is_final or end[0].endswith(self.newline)
                return Row(values, ends, max(end.end(), 1), has_line_break) if is_whole else None
            if buffer[at : at + 1] != self.delimiter:
                raise BrokenQuotes
            at += 1

    def _is_too_long(self, buffer: bytearray, end: int) -> bool:
        return end > MAX_ROW_BYTES or buffer.count(self.newline, 0, end) > MAX_ROW_LINES

    def lines_in_doubt(self, buffer: bytearray, start: int, is_final: bool) -> InDoubt | None:
        """Decides whether the lines from `start` on are rows, or the rest of a field of the broken row above.

        The first quote that begins or ends a field decides. If it ends a field, as in `thanks",x`, all lines
        down to this quote are the rest of the broken field. If it begins a field, as in `x,"thanks"`, these
        lines are more likely rows. Returns None if the buffer ends before such a quote.
        """
        at = start
        for line_count in range(1, MAX_ROW_LINES + 1):
            end = buffer.find(self.newline, at)
            is_cut = end < 0 and not is_final
            if is_cut and len(buffer) - start <= MAX_ROW_BYTES:
                return None
            end = len(buffer) if end < 0 else end
            closes = self._first_quote_closes(bytes(buffer[at:end]).rstrip(b"\r"))
            if closes is not None:
                return InDoubt(line_count, 0, True) if closes else InDoubt(0, line_count, True)
            at = end + 1
            if at >= len(buffer) or at - start > MAX_ROW_BYTES:
                return InDoubt(0, line_count, False) if is_final or at - start > MAX_ROW_BYTES else None
        return InDoubt(0, MAX_ROW_LINES, False)

    def _first_quote_closes(self, line: bytes) -> bool | None:
        """Returns True if the first quote at an edge of a field closes the field, and False if it opens one.

        Returns None if no quote is at an edge of a field: in `5" pipe`, the quote is inside a field.
        """
        at = 0
        while b'"' in line[at:]:
            quoted = self._match_quoted(line, at)
            if quoted and (not quoted[2] or line[quoted.end() : quoted.end() + 1] in (b"", self.delimiter)):
                return False
            plain = self._match_plain(line, quoted.end() if quoted else at)
            assert plain  # a plain field may be empty
            if not quoted and plain[0].rstrip().endswith(b'"'):
                return True
            at = plain.end() + 1
        return None
