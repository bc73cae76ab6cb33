"""The parts that both formats of recipient lists share: rows, columns, and the bytes not read yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pixel_server import consent_ref
from pixel_server.consent_ref import ConsentRef
from pixel_server.mail.csv_rows import MAX_ROW_BYTES
from pixel_server.mail.links import check_recipient
from pixel_server.mail.recipient_doubts import doubt

TOO_LONG = f"has more than {MAX_ROW_BYTES >> 20} MB"
NAME_COLUMN, CONSENT_COLUMN = "name", "consent_ref"

Warn = Callable[[int, str], None]
"""Function that takes the number of a line, and a warning about this line for the sender of the list."""


class ListError(ValueError):
    """A list cannot be read. The message says why."""


class ListRow(NamedTuple):
    """A row of a list.

    line, last_line: numbers of its first and last line, from 1. raw: its bytes without the line end; in UTF-8
    if the list is UTF-16. recipient: the checked recipient, or "" if `error` says why the row cannot be used.
    name: content of the column `name`, or None. consent: content of the column `consent_ref`, or None.
    """

    line: int
    last_line: int
    raw: bytes
    recipient: str
    name: str | None = None
    error: str = ""
    consent: ConsentRef | None = None


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a list that matter.

    recipient: name of the column with the recipient. added: names of columns that the list must not have,
    because the caller adds them. with_names, with_consents: whether to read the columns `name` and
    `consent_ref`.
    """

    recipient: str = "recipient"
    added: Sequence[str] = ()
    with_names: bool = False
    with_consents: bool = False


@dataclass(slots=True)
class Unread:
    """The bytes of a list that are not read yet.

    is_final: whether the list ends with these bytes. newline: last byte of a line end. line: number of the
    last line that was read. is_skipping: whether the beginning of the next line was dropped, because the line
    is too long. has_skipped_quote: whether the dropped bytes had a quote.
    """

    data: bytearray = field(default_factory=bytearray)
    is_final: bool = False
    newline: bytes = b"\n"
    line: int = 0
    is_skipping: bool = False
    has_skipped_quote: bool = False

    def take(self, size: int) -> bytes:
        """Removes and returns the first bytes, and counts their lines."""
        taken = bytes(self.data[:size])
        del self.data[:size]
        self.line += taken.count(self.newline)
        if self.is_final and not self.data and not taken.endswith(self.newline):
            self.line += 1
        return taken

    def take_line(self) -> bytes | None:
        """Removes and returns the next line with its end, or None if its end is not here yet.

        Drops the beginning of a line that is too long.
        """
        end = self.data.find(self.newline)
        if end >= 0 or self.is_final:
            return self.take(end + 1 if end >= 0 else len(self.data))
        if len(self.data) > MAX_ROW_BYTES:
            self.has_skipped_quote = (self.is_skipping and self.has_skipped_quote) or b'"' in self.data
            self.is_skipping = True
            self.data.clear()
        return None

    def take_long_line(self) -> ListRow | None:
        """Removes a line that is too long, and returns its error. Returns None if its end is not here yet."""
        if self.take_line() is None:
            return None
        self.is_skipping = False
        return ListRow(self.line, self.line, b"", "", None, TOO_LONG)


def parse_consent(text: str) -> ConsentRef | None:
    """Returns the reference in the column `consent_ref`, or None if the column is empty.

    Raises ValueError, which names the column, if the text is not a reference.
    """
    try:
        return consent_ref.parse(text) if text.strip() else None
    except ValueError as error:
        raise ValueError(f"{CONSENT_COLUMN} {error}") from None


def check_recipient_column(recipient: str, column: str) -> None:
    """Raises ValueError, which names the column, if this text cannot be a recipient."""
    if "\ufffd" in recipient:
        raise ValueError(f"{column} has characters that were lost (U+FFFD)")
    try:
        check_recipient(recipient)
    except ValueError as error:
        raise ValueError(f"{column} {error}") from None


def warn_if_doubtful(recipient: str, line: int, warn: Warn) -> None:
    """Warns of an oddly spelled recipient; see `doubt`."""
    text = doubt(recipient)
    if text:
        warn(line, text)
