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
from pixel_server.mail.csv_list import CsvList
from pixel_server.mail.list_charset import BOM
from pixel_server.mail.list_reader import ListReader
from pixel_server.mail.list_rows import Columns, ListRow, Warn

CHUNK_BYTES = 64 << 10
BATCH_ROWS = 500
"""Rows that are filled at once."""

NewValues = Callable[[Sequence[str]], Sequence[Sequence[str]]]
"""Returns the values of the new columns of some recipients."""


class RecipientFile:
    """A list that is read row by row. bytes_read: number of bytes that have been read."""

    def __init__(self, file: IO[bytes], column: str, added: Sequence[str], warn: Warn) -> None:
        """column: name of the column with the recipient. added: names of the columns that will be added.

        warn: called with what the sender should know. Raises ListError if the list lacks the column, has one
        of the columns to add, or cannot be read.
        """
        self._file, self._added = file, added
        self._reader = ListReader(Columns(column, added), warn)
        self.bytes_read = 0
        while self._reader.content is None:
            self._read_chunk()
        content = self._reader.content
        self.is_csv = isinstance(content, CsvList)
        self.header = b""
        if isinstance(content, CsvList):
            self._delimiter = content.dialect.delimiter.decode()
            mark = BOM if self._reader.has_mark else b""
            header = content.header + self._tail(list(added))
            self.header = self._reader.restore(mark + content.preamble + header)

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

    def _tail(self, values: Sequence[str]) -> bytes:
        """Returns the end of a CSV row with these values in the new columns: `,"a, b",c` and a newline."""
        fields = "".join(self._delimiter + self._quoted(value) for value in values)
        return fields.encode() + self._reader.newline

    def _quoted(self, value: str) -> str:
        if '"' not in value and self._delimiter not in value:
            return value
        return '"' + value.replace('"', '""') + '"'

    def with_fields(self, row: ListRow, values: Sequence[str]) -> bytes:
        """Returns a row with these values in the new columns, and a newline."""
        if self.is_csv:
            return self._reader.restore(row.raw + self._tail(values))
        more = json.dumps(dict(zip(self._added, values, strict=True)), ensure_ascii=False)
        return self._reader.restore(row.raw.rstrip()[:-1] + b", " + more[1:].encode() + self._reader.newline)


class Filled(NamedTuple):
    """Number of rows that were written, and of rows that were left out."""

    rows: int
    bad: int


def fill(
    recipients: RecipientFile,
    out: IO[bytes],
    bad: Path,
    new_values: NewValues,
    on_progress: Callable[[int], None] = lambda bytes_read: None,
) -> Filled:
    """Writes each good row with the new values of its recipient. Names bad rows in the file `bad`.

    on_progress: called now and then with the number of bytes that have been read. Raises OSError.
    """
    good = skipped = 0
    with contextlib.ExitStack() as stack:
        bad_file: IO[bytes] | None = None
        out.write(recipients.header)
        for batch in _batches(recipients.rows()):
            rows = [row for row in batch if not row.error]
            values = new_values([row.recipient for row in rows])
            out.writelines(map(recipients.with_fields, rows, values))
            good += len(rows)
            for row in batch:
                if row.error:
                    bad_file = bad_file or stack.enter_context(files.open_whole(bad))
                    bad_file.write(f"{row.line}: {row.error}\n".encode())
                    skipped += 1
            on_progress(recipients.bytes_read)
    if not skipped:
        bad.unlink(missing_ok=True)  # an earlier run may have left the file
    return Filled(good, skipped)


def _batches(rows: Iterator[ListRow]) -> Iterator[list[ListRow]]:
    batch: list[ListRow] = []
    for row in rows:
        batch.append(row)
        if len(batch) == BATCH_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch
