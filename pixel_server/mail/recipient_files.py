"""Adds columns to a list of recipients, CSV or NDJSON, for the merge fields of a mail service.

Streams the list. A row is written as it was read, byte for byte, with the new fields at its end. Rows that
cannot be used are left out. A file beside the output, such as `list.csv.bad`, lists their line numbers.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from pixel_server import files
from pixel_server.mail.csv_list import CsvList
from pixel_server.mail.links import Link
from pixel_server.mail.list_charset import BOM
from pixel_server.mail.list_reader import ListReader
from pixel_server.mail.list_rows import Columns, ListRow, Warn

CHUNK_BYTES = 64 << 10
BATCH_ROWS, BATCH_BYTES = 2000, 4 << 20
"""Largest number of rows that are filled at once, and number of bytes after which a batch ends."""

Values = Sequence[str | int | None]
"""Values of the new columns of a row. None is an empty cell."""
LINK_COLUMNS = ("pixel_url", "pixel_html", "privacy_url")
"""Names of the columns that hold the links of a recipient, for the merge fields of a mail service."""


def link_values(link: Link) -> Values:
    """Returns the values of LINK_COLUMNS for the links of one mail."""
    return link.url, link.html, link.privacy_url


class RecipientFile:
    """A list that is read row by row. bytes_read: number of bytes that have been read."""

    def __init__(
        self, file: IO[bytes], column: str, added: Sequence[str], warn: Warn, *, with_consents: bool = False
    ) -> None:
        """column: name of the column with the recipient. added: names of the columns that will be added.

        warn: called with each warning. with_consents: whether to read the column `consent_ref`. Raises
        ListError if the list lacks the column, has one of the columns to add, or cannot be read.
        """
        self._file, self._added = file, added
        self._reader = ListReader(Columns(column, added, with_consents=with_consents), warn)
        self.bytes_read = 0
        while self._reader.row_reader is None:
            self._read_chunk()
        row_reader = self._reader.row_reader
        self.is_csv = isinstance(row_reader, CsvList)
        self.header = b""
        if isinstance(row_reader, CsvList):
            self._delimiter = row_reader.dialect.delimiter.decode()
            mark = BOM if self._reader.has_mark else b""
            header = row_reader.header + self._tail(list(added))
            self.header = self._reader.restore(mark + row_reader.preamble + header)

    @property
    def has_consents(self) -> bool:
        """Returns whether the list has a column `consent_ref`, in NDJSON whether any row so far had one."""
        return self._reader.row_reader is not None and self._reader.row_reader.has_consents

    def _read_chunk(self) -> bool:
        """Reads the next piece of the file. Returns False at its end."""
        chunk = self._file.read(CHUNK_BYTES)
        self.bytes_read += len(chunk)
        self._reader.add(chunk, is_final=not chunk)
        return bool(chunk)

    def rows(self) -> Iterator[ListRow]:
        """Yields the rows in order. Skips empty lines."""
        yield from self._reader.rows()
        while self._read_chunk():
            yield from self._reader.rows()
        yield from self._reader.rows()

    def batches(self) -> Iterator[list[ListRow]]:
        """Yields the rows in order, many at once."""
        batch: list[ListRow] = []
        size = 0
        for row in self.rows():
            batch.append(row)
            size += len(row.raw)
            if len(batch) == BATCH_ROWS or size > BATCH_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _tail(self, values: Values) -> bytes:
        """Returns the end of a CSV row with these values in the new columns: `,"a, b",c` and a newline."""
        fields = "".join(self._delimiter + self._cell(value) for value in values)
        return fields.encode() + self._reader.newline

    def _cell(self, value: str | int | None) -> str:
        text = "" if value is None else str(value)
        if '"' not in text and self._delimiter not in text:
            return text
        return '"' + text.replace('"', '""') + '"'

    def with_fields(self, row: ListRow, values: Values) -> bytes:
        """Returns a row with these values in the new columns, and a newline."""
        if self.is_csv:
            return self._reader.restore(row.raw + self._tail(values))
        more = json.dumps(dict(zip(self._added, values, strict=True)), ensure_ascii=False)
        return self._reader.restore(row.raw.rstrip()[:-1] + b", " + more[1:].encode() + self._reader.newline)


class Filled(NamedTuple):
    """Number of rows that were written, and of rows that were left out."""

    rows: int
    bad: int


class Filling:
    """Writes a list with its new columns, batch by batch. A context manager. Raises OSError."""

    def __init__(
        self,
        recipients: RecipientFile,
        out: IO[bytes],
        bad: Path,
        on_progress: Callable[[int], None] = lambda bytes_read: None,
    ) -> None:
        """bad: file that names the bad rows. An old file is removed if no row is bad.

        on_progress: called now and then with the number of bytes that have been read.
        """
        self._recipients, self._out, self._bad, self._on_progress = recipients, out, bad, on_progress
        self._stack = contextlib.ExitStack()
        self._bad_file: IO[bytes] | None = None
        self._rows = self._bad_rows = 0

    @property
    def filled(self) -> Filled:
        return Filled(self._rows, self._bad_rows)

    def __enter__(self) -> Filling:
        self._out.write(self._recipients.header)
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)
        if error[0] is None and not self._bad_rows:
            self._bad.unlink(missing_ok=True)  # an earlier run may have left the file

    def write(self, batch: Sequence[ListRow], values: Sequence[Values | None]) -> None:
        """Writes the good rows of a batch with their values, but not the rows whose values are None."""
        good = (row for row in batch if not row.error)
        for row, row_values in zip(good, values, strict=True):
            if row_values is not None:
                self._out.write(self._recipients.with_fields(row, row_values))
                self._rows += 1
        for row in batch:
            if row.error:
                self._bad_file = self._bad_file or self._stack.enter_context(files.open_whole(self._bad))
                self._bad_file.write(f"{row.line}: {row.error}\n".encode())
                self._bad_rows += 1
        self._on_progress(self._recipients.bytes_read)


def fill(
    recipients: RecipientFile,
    out: IO[bytes],
    bad: Path,
    new_values: Callable[[Sequence[ListRow]], Sequence[Values]],
    on_progress: Callable[[int], None] = lambda bytes_read: None,
) -> Filled:
    """Writes each good row with its new values; see `Filling`.

    new_values: function that returns the values of the new columns for each row. Raises OSError.
    """
    with Filling(recipients, out, bad, on_progress) as filling:
        for batch in recipients.batches():
            filling.write(batch, new_values([row for row in batch if not row.error]))
    return filling.filled
