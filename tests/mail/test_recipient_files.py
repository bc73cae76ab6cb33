"""Columns added to a list of recipients, row by row."""

from __future__ import annotations

import io
import tracemalloc

from pixel_server.mail.recipient_files import RecipientFile, fill


class Endless(io.RawIOBase):
    """A file with this many rows, which are made when they are read."""

    def __init__(self, rows: int) -> None:
        self._rows = iter([b"recipient,name\n"])
        self._rows_left = rows

    def readline(self, size: int = -1) -> bytes:
        for header in self._rows:
            return header
        self._rows_left -= 1
        return (
            b'person-%d@example.org,"Person, %d"\n' % (self._rows_left, self._rows_left)
            if self._rows_left >= 0
            else b""
        )


def test_fill_long_list_takes_no_more_memory(tmp_path):
    def peak(rows: int) -> int:
        with open("/dev/null", "wb") as out:
            tracemalloc.start()
            recipients = RecipientFile(Endless(rows), "recipient", ["a"])
            assert fill(recipients, out, tmp_path / "bad", lambda recipient: [recipient]).rows == rows
            _, peak_bytes = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        return peak_bytes

    peak(10)
    assert peak(5_000) < peak(100) + 50_000
