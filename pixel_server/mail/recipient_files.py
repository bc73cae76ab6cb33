"""Adds columns to a list of recipients, CSV or NDJSON, for the merge fields of a mail service.

Streams the list. A row is written as it was read, byte for byte, with the new fields at its end. Rows that
cannot be used are left out, and named by line number in a file beside the output, such as `list.csv.bad`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from pixel_server import files
from pixel_server.mail.links import check_recipient
from pixel_server.mail.list_lines import (
    BOM,
    decode_object,
    find_column,
    find_delimiter,
    is_ndjson,
    is_utf16,
    split_fields,
    split_names,
)

MAX_ROW_BYTES = 1 << 20
"""Largest number of bytes of a row, including all lines of its quoted fields."""
MAX_ROW_LINES = 1000
"""Lines that a row with quoted fields may have."""


class ListError(ValueError):
    """A list cannot be read. The message says why."""


class ListRow(NamedTuple):
    """A row of a list. line: number of its first line, from 1. raw: its bytes without the newline.

    error: the reason why the row cannot be used, or "". recipient: the checked recipient, or "" if there is
    an error.
    """

    line: int
    raw: bytes
    recipient: str
    error: str = ""


class RecipientFile:
    """A list that is read row by row. bytes_read: number of bytes that have been read."""

    def __init__(self, file: IO[bytes], column: str, add: Sequence[str]) -> None:
        """column: name of the column with the recipient. add: names of the columns that will be added.

        Raises ListError if the list is not UTF-8, lacks the column, or has one of the columns to add.
        """
        self._file = file
        self._column = column
        self._add = add
        self.bytes_read = 0
        self._line = 0
        first = self._next_line()
        if is_utf16(first):
            raise ListError("it is UTF-16, not UTF-8")
        self.is_csv = not is_ndjson(first)
        self.newline = b"\r\n" if first.endswith(b"\r\n") else b"\n"
        self._first_line = first
        if self.is_csv:
            self._read_header()

    def _next_line(self) -> bytes:
        """Returns the next line with its newline, or b"" at the end of the list.

        Returns the first MAX_ROW_BYTES of a longer line, and skips its rest.
        """
        line = piece = self._file.readline(MAX_ROW_BYTES)
        while len(piece) == MAX_ROW_BYTES and not piece.endswith(b"\n"):
            self.bytes_read += len(piece)
            piece = self._file.readline(MAX_ROW_BYTES)
        self.bytes_read += len(piece)
        self._line += 1
        return line

    def _read_header(self) -> None:
        try:
            text = self._first_line.decode("utf-8-sig").rstrip("\r\n")
        except UnicodeDecodeError:
            raise ListError("its first line is not UTF-8") from None
        self.delimiter = find_delimiter(text, self._column)
        try:
            columns = split_names(text, self.delimiter)
        except ValueError as error:
            raise ListError(f"its first line {error}") from None
        position = find_column(columns, self._column)
        if position is None:
            names = ", ".join(columns)[:200]
            raise ListError(f"its first line has no column {self._column!r}; it names {names}")
        for name in self._add:
            if name in columns:
                raise ListError(f"it has a column {name!r} already")
        self._position, self._width = position, len(columns)
        self.header = self._first_line.rstrip(b"\r\n") + self.tail(list(self._add))

    def rows(self) -> Iterator[ListRow]:
        """Yields the rows in order. Skips empty lines."""
        line, number = (self._next_line(), 2) if self.is_csv else (self._first_line.removeprefix(BOM), 1)
        while line:
            separate_lines: list[bytes] = []
            if self.is_csv and line.count(b'"') % 2:
                line, separate_lines = self._join_lines(line)
            raw = line.rstrip(b"\r\n")
            if raw.strip():
                yield self._parse(number, raw)
            for later_number, later_line in enumerate(separate_lines, number + 1):
                yield self._parse(later_number, later_line.rstrip(b"\r\n"))
            line, number = self._next_line(), self._line

    def _join_lines(self, line: bytes) -> tuple[bytes, list[bytes]]:
        """Returns a row that begins with this line, whose last quote is open, and an empty list.

        The row has all lines of its quoted fields. If these lines make no valid row, returns the line alone,
        and the lines that were read after it, which are then rows of their own.
        """
        lines, quotes = [line], line.count(b'"')
        while quotes % 2 and len(lines) < MAX_ROW_LINES and (next_line := self._next_line()):
            lines.append(next_line)
            quotes += next_line.count(b'"')
        row = b"".join(lines)
        if quotes % 2 == 0 and len(row) <= MAX_ROW_BYTES:
            with contextlib.suppress(ValueError):
                if len(split_fields(row.decode().rstrip("\r\n"), self.delimiter)) == self._width:
                    return row, []
        return line, lines[1:]

    def _parse(self, number: int, raw: bytes) -> ListRow:
        if len(raw) > MAX_ROW_BYTES - 3:
            return ListRow(number, b"", "", "has more than 1 MB")
        try:
            text = raw.decode()
            recipient = self._csv_recipient(text) if self.is_csv else self._json_recipient(text)
            return ListRow(number, raw, check_recipient(recipient))
        except UnicodeDecodeError:
            return ListRow(number, raw, "", "is not UTF-8")
        except ValueError as error:
            message = str(error)
            if message.startswith("must"):  # the message is about the field, not the row
                message = f"{self._column} {message}"
            return ListRow(number, raw, "", message)

    def _csv_recipient(self, text: str) -> str:
        fields = text.split(self.delimiter) if '"' not in text else split_fields(text, self.delimiter)
        if len(fields) != self._width:
            raise ValueError(f"has {len(fields)} fields, not {self._width}")
        return fields[self._position].strip()

    def _json_recipient(self, text: str) -> str:
        row = decode_object(text)
        if self._column not in row:
            raise ValueError(f"has no {self._column}")
        for name in self._add:
            if name in row:
                raise ValueError(f"has {name} already")
        recipient = row[self._column]
        if not isinstance(recipient, str):
            raise ValueError("must be text")
        return recipient

    def tail(self, values: Sequence[str]) -> bytes:
        """Returns the end of a CSV row: these values of the new columns, and a newline: `,"a, b",c`."""
        return "".join(self.delimiter + self._quoted(value) for value in values).encode() + self.newline

    def _quoted(self, value: str) -> str:
        if '"' not in value and self.delimiter not in value:
            return value
        return '"' + value.replace('"', '""') + '"'

    def with_fields(self, row: ListRow, values: Sequence[str]) -> bytes:
        """Returns the bytes of a row with these values in the new columns, and a newline."""
        if self.is_csv:
            return row.raw + self.tail(values)
        new_fields = json.dumps(dict(zip(self._add, values, strict=True)), ensure_ascii=False)
        return row.raw.rstrip()[:-1] + b", " + new_fields[1:].encode() + self.newline


class Filled(NamedTuple):
    """Numbers of rows. rows: written. bad: left out."""

    rows: int
    bad: int


def fill(
    rows: RecipientFile,
    out: IO[bytes],
    bad: Path,
    new_values: Callable[[str], Sequence[str]],
    on_progress: Callable[[int], None] = lambda bytes_read: None,
) -> Filled:
    """Writes each good row to `out` with the new values of its recipient. Returns the numbers of rows.

    bad: file for the line numbers of rows that are left out, and the reasons; removed if there are no such
    rows. new_values: returns the values of the new columns for a recipient. on_progress: called every 1,000
    rows with the number of bytes that have been read. Raises OSError if a file cannot be written.
    """
    written = skipped = 0
    with contextlib.ExitStack() as stack:
        bad_file: IO[bytes] | None = None
        if rows.is_csv:
            out.write(rows.header)
        for row in rows.rows():
            if row.error:
                bad_file = bad_file or stack.enter_context(files.open_whole(bad))
                bad_file.write(f"{row.line}: {row.error}\n".encode())
                skipped += 1
            else:
                out.write(rows.with_fields(row, new_values(row.recipient)))
                written += 1
            if (written + skipped) % 1000 == 0:
                on_progress(rows.bytes_read)
    if not skipped:
        bad.unlink(missing_ok=True)  # an earlier run may have left the file
    return Filled(written, skipped)
