"""Reads a recipient list, CSV or NDJSON, in pieces of any size. Every command and API call
that takes a list uses this reader."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pixel_server.mail.csv_list import CsvList, read_header
from pixel_server.mail.csv_rows import MAX_ROW_BYTES
from pixel_server.mail.list_charset import BOM, FIRST_BYTES, CharsetGuess, Recoder
from pixel_server.mail.list_rows import Columns, ListError, ListRow, Unread, Warn
from pixel_server.mail.ndjson_list import NdjsonList

_first_newline = re.compile(rb'(?:[^"\r\n]++|"[^"]*+")*+(\r*\n|\r)').match
_any_newline = re.compile(rb"(\r*\n|\r)").search


class ListReader:
    """Reads one list.

    row_reader: the reader of the rows, or None until the first line has been read. newline: line end of the
    first line. has_mark: whether the list begins with a byte order mark of UTF-8 or UTF-16.
    """

    def __init__(self, columns: Columns, warn: Warn, is_csv: bool | None = None) -> None:
        """warn: called with each warning. is_csv: None to decide by the first byte of the list."""
        self._columns, self._warn, self._is_csv = columns, warn, is_csv
        self._first_bytes = b""
        self._recoder: Recoder | None = None
        self._unread = Unread()
        self._sufficient_bytes = 0
        self.row_reader: CsvList | NdjsonList | None = None
        self.newline, self.has_mark = b"\n", False

    @property
    def line(self) -> int:
        """Returns the number of the last line that was read."""
        return self._unread.line

    def add(self, chunk: bytes, is_final: bool = False) -> None:
        """Takes the next piece of the list. Raises ListError if the list cannot be used."""
        if self._recoder is None:
            chunk = self._first_bytes = self._first_bytes + chunk
            if len(chunk) < FIRST_BYTES and not is_final:
                return
            self._recoder = Recoder(chunk[:FIRST_BYTES])
        self._unread.data += self._recoder.recode(chunk, is_final)
        self._unread.is_final = is_final
        if is_final:
            self._drop_ctrl_z()
        if self.row_reader is None and self._has_enough():
            self.row_reader = self._begin(self._recoder)
            if self.row_reader is None:
                self._wait_for_more()

    def _drop_ctrl_z(self) -> None:
        """Drops the Ctrl-Z with which DOS ends a text."""
        data = self._unread.data
        while data.endswith(b"\x1a"):
            del data[-1:]

    def rows(self) -> Iterator[ListRow]:
        """Yields the rows whose end has been added."""
        if self.row_reader is not None and self._has_enough():
            yield from self.row_reader.rows()
            self._wait_for_more()

    def rows_before_cut(self) -> Iterator[ListRow]:
        """Yields the rows that `rows` has put off. Call it if the rest of the list will not come."""
        self._sufficient_bytes = 0
        self.add(b"")
        yield from self.rows()

    def _has_enough(self) -> bool:
        return self._unread.is_final or len(self._unread.data) >= self._sufficient_bytes

    def _wait_for_more(self) -> None:
        """Puts off reading until the unread bytes have doubled, so that many small pieces cost little."""
        self._sufficient_bytes = 2 * len(self._unread.data)

    def restore(self, content: bytes) -> bytes:
        """Turns UTF-8 back into UTF-16 if the list is in UTF-16. Otherwise returns the bytes as they are."""
        assert self._recoder
        return self._recoder.restore(content)

    def _begin(self, recoder: Recoder) -> CsvList | NdjsonList | None:
        """Returns the reader of the rows, or None if the first line of the list is not complete yet."""
        unread = self._unread
        while unread.data.startswith(BOM):
            del unread.data[: len(BOM)]
            self.has_mark = True
        start = bytes(unread.data[:MAX_ROW_BYTES]).lstrip()
        if not start and not unread.is_final:
            return None
        is_csv = self._is_csv if self._is_csv is not None else not start.startswith(b"{")
        newline = self._find_newline(is_csv)
        if newline is None:
            return None
        self.newline, unread.newline = newline, newline[-1:]
        if not is_csv:
            return NdjsonList(unread, self._columns, self._warn)
        charset = CharsetGuess(self.has_mark or recoder.codec is not None, unread.newline)
        csv_list = read_header(unread, self._columns, charset, self._warn)
        if csv_list is None:
            self._refuse_too_long()
        return csv_list

    def _find_newline(self, is_csv: bool) -> bytes | None:
        """Returns the first line end of the list outside quotes, or None if it is not complete yet."""
        data, is_final = self._unread.data, self._unread.is_final
        newline = _first_newline(data) if is_csv else _any_newline(data)
        if newline is None and (is_final or len(data) > MAX_ROW_BYTES):
            newline = _any_newline(data)
        if newline is None:
            if is_csv:
                self._refuse_too_long()
            return b"\n" if is_final or len(data) > MAX_ROW_BYTES else None
        if not is_final and not bytes(data[newline.start(1) :]).strip(b"\r"):
            return None  # an LF may follow
        return b"\r\n" if newline[1].endswith(b"\r\n") else bytes(newline[1])

    def _refuse_too_long(self) -> None:
        if len(self._unread.data) > MAX_ROW_BYTES:
            raise ListError("its first line has more than 1 MB")
