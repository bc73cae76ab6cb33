"""Columns added to a list of recipients, row by row."""

from __future__ import annotations

import io
import tracemalloc

import pytest

from pixel_server.mail.recipient_files import RecipientFile, fill


class Endless(io.RawIOBase):
    """A file with this many rows, which are made when they are read."""

    def __init__(self, rows: int) -> None:
        self._left = rows
        self._first = b"recipient,name\n"

    def read(self, size: int = -1) -> bytes:
        rows = range(self._left, max(0, self._left - 100), -1)
        self._left -= len(rows)
        first, self._first = self._first, b""
        return first + b"".join(b'person-%d@example.org,"Person, %d"\n' % (n, n) for n in rows)


def written(content: bytes, tmp_path, column: str = "recipient") -> bytes:
    """Returns a list with a new column that has each recipient in angle brackets."""
    out = io.BytesIO()
    recipients = RecipientFile(io.BytesIO(content), column, ["new"], lambda line, message: None)
    fill(recipients, out, tmp_path / "bad", lambda batch: [[f"<{row.recipient}>"] for row in batch])
    return out.getvalue()


LISTS = {
    "sep=": (b"sep=;\r\nrecipient;a\r\nx@y.z;1\r\n", b"sep=;\r\nrecipient;a;new\r\nx@y.z;1;<x@y.z>\r\n"),
    "two marks": (b"\xef\xbb\xbf" * 2 + b"recipient\nx@y.z\n", b"\xef\xbb\xbfrecipient,new\nx@y.z,<x@y.z>\n"),
    "no cells at the end": (b"recipient,a,b\nx@y.z\n", b"recipient,a,b,new\nx@y.z,,,<x@y.z>\n"),
    "cells beyond the header": (b'recipient,a\nx@y.z,1,,""\n', b"recipient,a,new\nx@y.z,1,<x@y.z>\n"),
    "CR": (b"recipient,a\rx@y.z,1\r", b"recipient,a,new\rx@y.z,1,<x@y.z>\r"),
    "CR CR LF": (b"recipient\r\r\nx@y.z\r\r\n", b"recipient,new\r\nx@y.z,<x@y.z>\r\n"),
    "quotes": (b'recipient,a\nx@y.z,"1\n2"\n', b'recipient,a,new\nx@y.z,"1\n2",<x@y.z>\n'),
    "a stray quote": (b'recipient,a\nx@y.z,5" pin\n', b'recipient,a,new\nx@y.z,5" pin,<x@y.z>\n'),
    "Windows-1252": (b"recipient,a\nx@y.z,Zo\xeb\n", b"recipient,a,new\nx@y.z,Zo\xeb,<x@y.z>\n"),
    "Ctrl-Z": (b"recipient,a\nx@y.z,1\n\x1a", b"recipient,a,new\nx@y.z,1,<x@y.z>\n"),
    "NDJSON": (b'{"recipient": "x@y.z"}\r\n', b'{"recipient": "x@y.z", "new": "<x@y.z>"}\r\n'),
}


@pytest.mark.parametrize("case", LISTS.values(), ids=LISTS)
def test_fill_keeps_the_bytes_of_rows(case, tmp_path):
    content, wanted = case
    assert written(content, tmp_path) == wanted


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_fill_utf16_stays_utf16(codec, mark, tmp_path):
    content = f"{mark}recipient\tname\r\nx@y.z\tZoë 🎈\r\n".encode(codec)
    wanted = f"{mark}recipient\tname\tnew\r\nx@y.z\tZoë 🎈\t<x@y.z>\r\n"
    assert written(content, tmp_path).decode(codec) == wanted
    content = f'{mark}{{"recipient": "ë@y.z"}}\n'.encode(codec)
    assert written(content, tmp_path).decode(codec) == '{"recipient": "ë@y.z", "new": "<ë@y.z>"}\n'


def test_fill_long_list_takes_no_more_memory(tmp_path):
    def peak(rows: int) -> int:
        with open("/dev/null", "wb") as out:
            tracemalloc.start()
            recipients = RecipientFile(Endless(rows), "recipient", ["a"], lambda line, message: None)
            new_values = lambda batch: [[text] for text in batch]  # noqa: E731
            assert fill(recipients, out, tmp_path / "bad", new_values).rows == rows
            _, peak_bytes = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        return peak_bytes

    peak(10)
    assert peak(20_000) < peak(5_000) + 100_000
