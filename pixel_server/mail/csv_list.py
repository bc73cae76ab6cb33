"""Reads recipient lists in CSV.

Missing cells at the end of a row are read as empty. Empty cells beyond the header's last column are dropped.
A line that may belong to a field of a row above is left out, with an error, so that no recipient is read from
the middle of a field.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from pixel_server.mail.csv_rows import MAX_ROW_BYTES, BrokenQuotes, Dialect, Row
from pixel_server.mail.list_charset import BOM, CharsetGuess
from pixel_server.mail.list_rows import (
    CONSENT_COLUMN,
    NAME_COLUMN,
    Columns,
    ListError,
    ListRow,
    Unread,
    Warn,
    check_recipient_column,
    parse_consent,
    warn_if_doubtful,
)

DELIMITERS = ",;\t|"

_blank_lines = re.compile(rb'(?:[ \t",;|\x1a]*+(?:\r*\n|\r))*+').match
_separator_line = re.compile(rb'"?sep=([^\w\r\n"])"?[^\w\r\n]*(?:\r*\n|\r)', re.I).match
_is_address = re.compile(r"[^\s@<>,;]+@[^\s@<>,;]+").fullmatch


class CsvList:
    """The rows of a list in CSV.

    preamble: a line `sep=;` above the header, or b"". header: bytes of the header. has_names, has_consents:
    whether the list has a column `name` or `consent_ref`.
    """

    def __init__(
        self,
        unread: Unread,
        columns: Columns,
        charset: CharsetGuess,
        warn: Warn,
        *,
        dialect: Dialect,
        names: list[str],
    ) -> None:
        """names: names of the columns.

        Raises ListError if two columns have the same name, or if the name of a column is in `columns.added`.
        """
        self._unread, self._charset, self._warn, self.dialect = unread, charset, warn, dialect
        self.preamble = self.header = b""
        positions: dict[str, int] = {}
        for position, name in enumerate(names):
            if positions.setdefault(_folded(name), position) != position and name:
                raise ListError(f"it has two columns {name!r}: upper and lower case count as the same")
        for name in columns.added:
            if _folded(name) in positions:
                raise ListError(f"it has a column {name!r} already")
        self._column, self._width = columns.recipient, len(names)
        self._recipient_position = positions[_folded(columns.recipient)]
        self._column_in_header = names[self._recipient_position]
        name_position = positions.get(NAME_COLUMN)
        self.has_names = name_position not in (None, self._recipient_position)
        self._name_position = name_position if self.has_names and columns.with_names else None
        consent_position = positions.get(CONSENT_COLUMN)
        self.has_consents = consent_position not in (None, self._recipient_position)
        self._consent_position = consent_position if self.has_consents and columns.with_consents else None
        # Line number of the last broken row, and of the last line that may be part of its field.
        self._broken_line = self._doubtful_until = 0
        # Number of the line below the last row that was left out.
        self._below_skipped_line = 0
        self._line_checked_for_lf = -1
        # Whether the last doubtful line has a quote at the edge of a field. It may end the broken field.
        self._has_quote_in_doubt = False
        self._is_below_broken_row = self._has_warned_of_charset = False
        self._address_count = self._other_count = 0

    def rows(self) -> Iterator[ListRow]:
        """Yields the rows whose end has been added to the unread bytes."""
        unread, dialect = self._unread, self.dialect
        data = unread.data
        while data or unread.is_skipping:
            self._skip_marks()
            if self._is_below_broken_row:
                in_doubt = dialect.lines_in_doubt(data, 0, unread.is_final)
                if in_doubt is None:
                    return
                self._is_below_broken_row = False
                yield from self._fragments(in_doubt.fragment_count)
                self._doubtful_until = unread.line + max(in_doubt.doubtful_count, 1)
                self._has_quote_in_doubt = in_doubt.has_quote and in_doubt.doubtful_count > 0
                continue
            if unread.is_skipping or (len(data) > MAX_ROW_BYTES and data.find(dialect.newline) < 0):
                too_long = unread.take_long_line()
                if too_long is None:
                    return
                self._broken_line, self._is_below_broken_row = too_long.line, unread.has_skipped_quote
                yield too_long
                continue
            line = unread.line + 1
            try:
                row = dialect.read_row(data, unread.is_final)
                is_broken = row is not None and self._swallows_rows(row)
            except BrokenQuotes:
                row, is_broken = None, True
            if is_broken and unread.take_line() is not None:
                self._broken_line, self._is_below_broken_row = line, True
                yield ListRow(line, line, b"", "", None, "is not CSV: its quotes are broken")
                continue
            if row is None or is_broken:
                return
            raw = unread.take(row.next)[: row.ends[-1]]
            if not dialect.is_blank(raw):
                yield self._parse(line, row, raw)
            elif line <= self._doubtful_until:
                self._doubt_line_below(line, raw)

    def _skip_marks(self) -> None:
        """Drops an LF after a CR, and byte order marks, which stand between rows if files were joined."""
        data = self._unread.data
        if self.dialect.newline == b"\r" and data and self._line_checked_for_lf != self._unread.line:
            self._line_checked_for_lf = self._unread.line
            if data.startswith(b"\n"):
                del data[:1]
        while data.startswith(BOM):
            del data[: len(BOM)]

    def _fragments(self, line_count: int) -> Iterator[ListRow]:
        """Removes the next lines, which are part of a broken row's field. Yields an error for each line."""
        for _ in range(line_count):
            self._unread.take_line()
            line = self._unread.line
            yield ListRow(line, line, b"", "", None, self._fragment_error)

    @property
    def _fragment_error(self) -> str:
        return f"may be part of a field of line {self._broken_line}"

    def _swallows_rows(self, row: Row) -> bool:
        """Returns whether a row lacks fields, and has lines in quotes that look like rows of the list."""
        size = row.ends[-1]
        if len(row.values) >= self._width or self._unread.data.find(self.dialect.newline, 0, size) < 0:
            return False
        return self._has_rows_inside(bytes(self._unread.data[:size]))

    def _has_rows_inside(self, raw: bytes) -> bool:
        _, *lines = raw.split(self.dialect.newline)
        rows = (line.split(self.dialect.delimiter) for line in lines)
        recipients = (cells[self._recipient_position] for cells in rows if len(cells) == self._width)
        return any(self._is_plausible(cell.decode("utf-8", "replace").strip()) for cell in recipients)

    def _is_plausible(self, recipient: str) -> bool:
        """Returns whether a text looks like a recipient of this list.

        An address does. If most recipients above are not addresses, a single word does too.
        """
        if _is_address(recipient):
            return True
        return self._other_count > self._address_count and len(recipient.split()) == 1

    def _parse(self, line: int, row: Row, raw: bytes) -> ListRow:
        last_line = self._unread.line
        try:
            codec = self._charset.codec(raw)
            if row.has_line_break:
                raise ValueError("has a line break outside quotes")
            raw = self._fit(row, raw)
            recipient = row.values[self._recipient_position].decode(codec).strip()
            check_recipient_column(recipient, self._column)
            stray_quotes = _stray_quotes(row, raw)
            if stray_quotes[self._recipient_position]:
                raise ValueError(f"{self._column} has a quote that is not CSV")
            self._refuse_prose(line, row, recipient, any(stray_quotes))
            if recipient == self._column_in_header and raw.strip() == self.header.strip():
                raise ValueError("is the header once more")
            consent = parse_consent(self._cell(row, self._consent_position, codec))
        except ValueError as error:
            self._doubt_line_below(line, raw)
            return ListRow(line, last_line, b"", "", None, str(error))
        if _is_address(recipient):
            self._address_count += 1
        else:
            if self._address_count > self._other_count and "@" not in recipient:
                self._warn(line, "the recipient is not an address, but most recipients above are")
            self._other_count += 1
        warn_if_doubtful(recipient, line, self._warn)
        if not self._has_warned_of_charset and self._charset.older_name:
            self._has_warned_of_charset = True
            self._warn(line, f"the list is not UTF-8, and is read as {self._charset.older_name}")
        if last_line > line and self._has_rows_inside(raw):
            self._warn(line, "a field in quotes has a line that looks like a row of the list")
        name = " ".join(self._cell(row, self._name_position, codec).split()) or None
        return ListRow(line, last_line, raw, recipient, name, consent=consent)

    def _doubt_line_below(self, line: int, raw: bytes) -> None:
        """Marks the line below a skipped row as doubtful, if the row is doubtful itself or has a quote.

        line: number of the row's first line. raw: bytes of the row.
        """
        is_in_doubt, below = line <= self._doubtful_until, self._unread.line + 1
        self._below_skipped_line = below
        if below <= self._doubtful_until or not (is_in_doubt or b'"' in raw):
            return
        if not is_in_doubt:
            self._broken_line = line
        self._doubtful_until = below
        self._has_quote_in_doubt = False

    def _fit(self, row: Row, raw: bytes) -> bytes:
        """Returns the bytes of a row, cut or padded to as many fields as the header has.

        Raises ValueError if a field beyond the header is not empty, or if the recipient's field is missing.
        """
        field_count = len(row.values)
        if field_count > self._width:
            if any(value.strip() for value in row.values[self._width :]):
                raise ValueError(f"has {field_count} fields, not {self._width}")
            return raw[: row.ends[self._width - 1]]
        if self._recipient_position >= field_count:
            raise ValueError(f"has {field_count} fields, not {self._width}")
        return raw + self.dialect.delimiter * (self._width - field_count)

    def _refuse_prose(self, line: int, row: Row, recipient: str, has_stray_quote: bool) -> None:
        """Raises ValueError if a row seems to be text from a field of another row.

        has_stray_quote: whether a field of the row has a quote, and is not in quotes.
        """
        if self._is_plausible(recipient):
            if line <= self._doubtful_until and len(row.values) < self._width:
                raise ValueError(self._fragment_error)
            return
        is_possible_id = not self._address_count and len(recipient.split()) == 1
        if line <= self._doubtful_until:
            if not is_possible_id or self._has_quote_in_doubt or len(row.values) < self._width:
                raise ValueError(self._fragment_error)
        elif len(row.values) < self._width:
            if not is_possible_id:
                raise ValueError(f"has {len(row.values)} fields, not {self._width}")
        elif (
            self._address_count > self._other_count
            and "@" not in recipient
            and (has_stray_quote or line == self._below_skipped_line or len(recipient.split()) > 1)
        ):
            raise ValueError(
                f"{self._column} is text and not an address, but most recipients above are addresses"
            )

    def _cell(self, row: Row, position: int | None, codec: str) -> str:
        """Returns the text of a cell, or "" without a position or cell."""
        if position is None or position >= len(row.values):
            return ""
        return row.values[position].decode(codec)


def read_header(unread: Unread, columns: Columns, charset: CharsetGuess, warn: Warn) -> CsvList | None:
    """Reads the header of a list. Returns None if the end of the header has not been read yet.

    Raises ListError if the list cannot be used.
    """
    data = unread.data
    start = _end(_blank_lines(data))
    separator = _separator_line(data, start)
    header_start = _end(_blank_lines(data, separator.end())) if separator else start
    header = bytearray(data[header_start:])
    name_lists: list[list[str]] = []
    for delimiter in separator[1].decode("latin-1") if separator else DELIMITERS:
        dialect = Dialect(delimiter, unread.newline)
        try:
            row = dialect.read_row(header, unread.is_final)
        except BrokenQuotes:
            continue
        if row is None:
            return None
        raw = bytes(header[: row.ends[-1]])
        names = _column_names(row, charset, raw)
        name_lists.append(names)
        if any(_folded(name) == _folded(columns.recipient) for name in names):
            csv_list = CsvList(unread, columns, charset, warn, dialect=dialect, names=names)
            csv_list.header = raw
            csv_list.preamble = bytes(separator[0]) if separator else b""
            unread.take(header_start + row.next)
            return csv_list
    if unread.is_final and not header:
        raise ListError("it is empty")
    if not name_lists:
        raise ListError("its first line is not CSV: its quotes are broken")
    if b"\0" in header:
        raise ListError("it looks like UTF-16 without a byte order mark: save it in UTF-8")
    shown_names = ", ".join(next((names for names in name_lists if len(names) > 1), name_lists[0]))
    raise ListError(f"its first line has no column {columns.recipient!r}; it names {shown_names[:200]}")


def _stray_quotes(row: Row, raw: bytes) -> list[bool]:
    """Returns for each field whether it has a quote, and is not in quotes: `ada@exam"ple.org`."""
    if b'"' not in raw:
        return [False] * len(row.ends)
    starts = [0, *(end + 1 for end in row.ends)]
    cells = (raw[start:end].strip() for start, end in zip(starts, row.ends, strict=False))
    return [b'"' in cell and not cell.startswith(b'"') for cell in cells]


def _end(match: re.Match[bytes] | None) -> int:
    """Returns the end of a match, or 0 without a match."""
    return match.end() if match else 0


def _column_names(row: Row, charset: CharsetGuess, raw: bytes) -> list[str]:
    try:
        codec = charset.codec(raw)
    except ValueError as error:
        raise ListError(f"its first line {error}") from None
    return [" ".join(value.decode(codec).strip("\ufeff\u200b \t\r\n\xa0").split()) for value in row.values]


def _folded(name: str) -> str:
    """Returns a name of a column in the form in which names are compared."""
    return unicodedata.normalize("NFC", name).casefold()
