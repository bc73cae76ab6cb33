"""Lists for the merge fields of a mail service: CSV or NDJSON in, the same with more columns out, streamed.

A row is written as it came, byte for byte, with the new fields at its end. Rows that cannot be used are left
out and named by line number in a file beside the output, FILE.bad. All or nothing: the output takes its name
only when it is whole.
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
"""Bytes of a row, and of a field that goes over several lines."""
MAX_ROW_LINES = 1000


class ListError(ValueError):
    """A list that cannot be read at all; the message says why."""


class ListRow(NamedTuple):
    """line: its first, from 1. raw: without its end. recipient: checked; else `wrong` says what is wrong."""

    line: int
    raw: bytes
    recipient: str
    wrong: str = ""


class RecipientFile:
    """A list to read. add: what new columns are called. read: bytes so far.

    ListError: it has no column of that name, or one of the new ones, or is not UTF-8.
    """

    def __init__(self, file: IO[bytes], column: str, add: Sequence[str]) -> None:
        self._file = file
        self._column = column
        self._add = add
        self.read = 0
        self._line = 0
        first = self._next()
        if is_utf16(first):
            raise ListError("it is UTF-16, not UTF-8")
        self.is_csv = not is_ndjson(first)
        self.newline = b"\r\n" if first.endswith(b"\r\n") else b"\n"
        self._first = first
        if self.is_csv:
            self._read_header()

    def _next(self) -> bytes:
        line = rest = self._file.readline(MAX_ROW_BYTES)
        while len(rest) == MAX_ROW_BYTES and not rest.endswith(b"\n"):
            self.read += len(rest)
            rest = self._file.readline(MAX_ROW_BYTES)
        self.read += len(rest)
        self._line += 1
        return line

    def _read_header(self) -> None:
        try:
            text = self._first.decode("utf-8-sig").rstrip("\r\n")
        except UnicodeDecodeError:
            raise ListError("its first line is not UTF-8") from None
        self.delimiter = find_delimiter(text, self._column)
        try:
            columns = split_names(text, self.delimiter)
        except ValueError as error:
            raise ListError(f"its first line {error}") from None
        place = find_column(columns, self._column)
        if place is None:
            named = ", ".join(columns)[:200]
            raise ListError(f"its first line has no column {self._column!r}; it names {named}")
        for name in self._add:
            if name in columns:
                raise ListError(f"it has a column {name!r} already")
        self._place, self._width = place, len(columns)
        self.header = self._first.rstrip(b"\r\n") + self.tail(list(self._add))

    def rows(self) -> Iterator[ListRow]:
        """In order; empty lines are none."""
        line, number = (self._next(), 2) if self.is_csv else (self._first.removeprefix(BOM), 1)
        while line:
            more: list[bytes] = []
            if self.is_csv and line.count(b'"') % 2:
                line, more = self._whole(line)
            raw = line.rstrip(b"\r\n")
            if raw.strip():
                yield self._parse(number, raw)
            for again, late in enumerate(more, number + 1):  # a quote that never closes takes no others along
                yield self._parse(again, late.rstrip(b"\r\n"))
            line, number = self._next(), self._line

    def _whole(self, line: bytes) -> tuple[bytes, list[bytes]]:
        """(a row with all the lines of its quoted fields, none); (the line alone, those read after it)."""
        lines, quotes = [line], line.count(b'"')
        while quotes % 2 and len(lines) < MAX_ROW_LINES and (another := self._next()):
            lines.append(another)
            quotes += another.count(b'"')
        whole = b"".join(lines)
        if quotes % 2 == 0 and len(whole) <= MAX_ROW_BYTES:
            with contextlib.suppress(ValueError):
                if len(split_fields(whole.decode().rstrip("\r\n"), self.delimiter)) == self._width:
                    return whole, []
        return line, lines[1:]

    def _parse(self, number: int, raw: bytes) -> ListRow:
        if len(raw) > MAX_ROW_BYTES - 3:
            return ListRow(number, b"", "", "has more than 1 MB")
        try:
            text = raw.decode()
            found = self._of_csv(text) if self.is_csv else self._of_json(text)
            return ListRow(number, raw, check_recipient(found))
        except UnicodeDecodeError:
            return ListRow(number, raw, "", "is not UTF-8")
        except ValueError as error:
            said = str(error)
            return ListRow(number, raw, "", f"{self._column} {said}" if said.startswith("must") else said)

    def _of_csv(self, text: str) -> str:
        fields = text.split(self.delimiter) if '"' not in text else split_fields(text, self.delimiter)
        if len(fields) != self._width:
            raise ValueError(f"has {len(fields)} fields, not {self._width}")
        return fields[self._place].strip()

    def _of_json(self, text: str) -> str:
        found = decode_object(text)
        if self._column not in found:
            raise ValueError(f"has no {self._column}")
        for name in self._add:
            if name in found:
                raise ValueError(f"has {name} already")
        recipient = found[self._column]
        if not isinstance(recipient, str):
            raise ValueError("must be text")
        return recipient

    def tail(self, values: Sequence[str]) -> bytes:
        """What follows a CSV row with these values in the new columns."""
        return "".join(self.delimiter + self._quoted(value) for value in values).encode() + self.newline

    def _quoted(self, value: str) -> str:
        if '"' not in value and self.delimiter not in value:
            return value
        return '"' + value.replace('"', '""') + '"'

    def with_fields(self, row: ListRow, values: Sequence[str]) -> bytes:
        """A row as it came, with the new columns."""
        if self.is_csv:
            return row.raw + self.tail(values)
        more = json.dumps(dict(zip(self._add, values, strict=True)), ensure_ascii=False)
        return row.raw.rstrip()[:-1] + b", " + more[1:].encode() + self.newline


class Filled(NamedTuple):
    """Rows written, rows left out."""

    rows: int
    bad: int


def fill(
    rows: RecipientFile,
    out: IO[bytes],
    bad: Path,
    make: Callable[[str], Sequence[str]],
    tick: Callable[[int], None] = lambda read: None,
) -> Filled:
    """Writes each good row with what `make` gives for its recipient; bad ones are named in a file, if any.

    tick: told now and then how many bytes have been read. OSError.
    """
    good = wrong = 0
    with contextlib.ExitStack() as stack:
        names: IO[bytes] | None = None
        if rows.is_csv:
            out.write(rows.header)
        for row in rows.rows():
            if row.wrong:
                names = names or stack.enter_context(files.open_whole(bad))
                names.write(f"{row.line}: {row.wrong}\n".encode())
                wrong += 1
            else:
                out.write(rows.with_fields(row, make(row.recipient)))
                good += 1
            if (good + wrong) % 1000 == 0:
                tick(rows.read)
    if not wrong:
        bad.unlink(missing_ok=True)  # of an earlier run
    return Filled(good, wrong)
