"""Uploads of recipient lists: NDJSON or CSV, read as a stream of any length.

A bad line is left out and named by its number; the other lines are stored as they arrive. If the body is cut
off, its whole lines stay stored. The same list can be sent again without harm.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import redis
from starlette.requests import ClientDisconnect

from pixel_server.api import fields
from pixel_server.mail.links import check_recipient
from pixel_server.mail.list_lines import (
    BOM,
    decode_object,
    find_delimiter,
    is_utf16,
    split_fields,
    split_names,
)
from pixel_server.problems import Problem
from pixel_server.recipients import lists
from pixel_server.recipients.lists import ListEntry, PutResult
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import audit_log
from pixel_server.store.protocols import AsyncRedis

NDJSON, CSV = "application/x-ndjson", "text/csv"
MAX_LINE_BYTES = 16 << 10
"""Largest length of a line. The longest good line, with every character escaped, has about 5,600 bytes."""

Parse = Callable[[bytes], ListEntry | None]
"""Parses one line. Returns None if the line is blank. Raises ValueError that says what is wrong with it."""
StorePart = Callable[[list[ListEntry]], Awaitable[PutResult]]
"""Stores some rows. Returns the numbers of new, known and withdrawn recipients among them."""


async def split_lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[tuple[int, bytes | None]]:
    """Yields the number of each line, from 1, and the line without its end.

    A line longer than MAX_LINE_BYTES is never held in memory: None is yielded in its place.
    """
    number, held, is_too_long = 1, b"", False
    async for chunk in chunks:
        *ended, rest = chunk.split(b"\n")
        for part in ended:
            line = held + part
            yield number, None if is_too_long or len(line) > MAX_LINE_BYTES else line.removesuffix(b"\r")
            number, held, is_too_long = number + 1, b"", False
        is_too_long = is_too_long or len(held) + len(rest) > MAX_LINE_BYTES
        held = b"" if is_too_long else held + rest
    if held or is_too_long:
        yield number, None if is_too_long else held.removesuffix(b"\r")


def is_csv_type(content_type: str) -> bool:
    """Returns whether a `Content-Type` is CSV. Raises Problem 415 if it is neither CSV nor NDJSON."""
    kind, *more = (part.strip().lower() for part in content_type.split(";"))
    charsets = [part.partition("=")[2].strip('"') for part in more if part.startswith("charset=")]
    if kind not in (NDJSON, CSV) or any(charset not in ("utf-8", "us-ascii") for charset in charsets):
        raise Problem(415, f"send lines in UTF-8, with Content-Type: {NDJSON} or {CSV}")
    return kind == CSV


def ndjson_parser(column: str) -> Parse:
    """Returns the parser of NDJSON lines. column: the field that names the recipient."""

    def parse(line: bytes) -> ListEntry | None:
        line = line.removeprefix(BOM)
        if not line.strip():
            return None
        try:
            content = decode_object(line.decode())
        except ValueError:
            raise ValueError("is not a JSON object in UTF-8") from None
        recipient, name = content.get(column), content.get("name") if column != "name" else None
        if not isinstance(recipient, str):
            raise ValueError(f"`{column}` must be text" if column in content else f"has no `{column}`")
        if name is not None and not isinstance(name, str):
            raise ValueError("`name` must be text")
        return _checked_row(recipient, name)

    return parse


def csv_parser(header: bytes | None, column: str) -> Parse:
    """Returns the parser of the CSV lines below this header. column: the column that names the recipient.

    Raises Problem 422 if the header is not CSV in UTF-8, is too long (None), or lacks the column.
    """
    try:
        text = (header or b"").decode("utf-8-sig")
        delimiter = find_delimiter(text, column)
        names = [name.lower() for name in split_names(text, delimiter)]
    except ValueError:
        raise _bad_first_line("is not CSV in UTF-8") from None
    column = column.lower()
    if names.count(column) != 1 or names.count("name") > 1:
        raise _bad_first_line(f"must name the columns: one `{column}`, and at most one `name`")
    recipient_at = names.index(column)
    name_at = names.index("name") if "name" in names and column != "name" else None

    def parse(line: bytes) -> ListEntry | None:
        try:
            text = line.decode()
        except UnicodeDecodeError:
            raise ValueError("is not UTF-8") from None
        if not text.strip():
            return None
        values = _split_line(text, delimiter)
        if len(values) != len(names):
            raise ValueError(f"has {len(values)} columns, and the first line {len(names)}")
        name = "" if name_at is None else values[name_at].strip()
        return _checked_row(values[recipient_at].strip(), name or None)

    return parse


def _split_line(text: str, delimiter: str) -> list[str]:
    """Returns the fields of a line. A row must be one line, so a field cannot contain a line break."""
    try:
        values = split_fields(text, delimiter)
    except ValueError:
        raise ValueError("is not CSV: a quote or the end of the line is at a wrong place") from None
    if '""' not in text and any('"' in value for value in values):
        raise ValueError("is not CSV: a field contains a quote; it may have begun on an earlier line")
    return values


def _bad_first_line(message: str) -> Problem:
    errors = [{"line": 1, "field": "line", "message": message}]
    return Problem(422, f"the first line {message}; nothing was taken", errors)


def _checked_row(recipient: str, name: str | None) -> ListEntry:
    try:
        check_recipient(recipient)
    except ValueError as error:
        raise ValueError(f"recipient {error}") from None
    try:
        return ListEntry(recipient, None if name is None else fields.name(name))
    except ValueError as error:
        raise ValueError(f"name {error}") from None


def list_writer(
    store: AsyncRedis,
    secrets: Secrets,
    settings: Settings,
    campaign: str,
    is_named: bool,
    now: float,
    who: str,
) -> StorePart:
    """Returns a function that stores rows on a campaign's list. Its first call begins the list.

    who: name for the audit log. The function raises what `lists.begin` and `lists.put` raise.
    """
    has_begun = False

    async def store_part(rows: list[ListEntry]) -> PutResult:
        nonlocal has_begun
        if not has_begun:
            await audit_log.note(store, who, "recipients.upload_begun", campaign=campaign)
            await lists.begin(store, campaign, is_named, settings, now)
            has_begun = True
        return await lists.put(store, secrets, campaign, rows, settings.shards, is_named)

    return store_part


async def log_end(store: AsyncRedis, upload: Upload, campaign: str, who: str) -> None:
    """Writes the counts of an upload to the audit log, if it stored any row and Redis answers."""
    if upload.new or upload.known or upload.withdrawn:
        with suppress(redis.RedisError, OSError):
            await audit_log.note(store, who, "recipients.uploaded", campaign=campaign, **upload.counts)


class Upload:
    """The reading of one recipient list.

    lines: number of the last line that was handled. bad: number of bad lines. errors: the errors of the first
    MAX_ERRORS bad lines.
    """

    COUNTS = ("lines", "new", "known", "withdrawn", "bad")

    BATCH_ROWS = 200
    """Rows stored at once. Pixels of the same process wait while the rows are parsed, about 2 ms."""
    MAX_ERRORS = 100

    def __init__(
        self, content_type: str, store_part: StorePart, is_named: bool, column: str = "recipient"
    ) -> None:
        self._is_csv = is_csv_type(content_type)
        self._column = column
        self._store_part = store_part
        self._is_named = is_named
        self.lines = self.new = self.known = self.withdrawn = self.bad = 0
        self.errors: list[dict[str, Any]] = []

    @property
    def counts(self) -> dict[str, int]:
        """Returns the counts by the names in COUNTS."""
        return {name: getattr(self, name) for name in self.COUNTS}

    @property
    def progress(self) -> str:
        """Returns which lines were stored, in words."""
        return f"lines 1 to {self.lines} were taken" if self.lines else "nothing was taken"

    async def read(self, chunks: AsyncIterator[bytes]) -> None:
        """Reads and stores the whole list.

        Raises ClientDisconnect if the body was cut off; its whole lines are stored.
        """
        parse: Parse | None = None
        rows: list[ListEntry] = []
        number = 0
        try:
            async for number, line in split_lines(chunks):
                if parse is None:
                    parse = self._begin(line)
                    if self._is_csv:
                        continue
                self._parse_into(rows, parse, number, line)
                if len(rows) >= self.BATCH_ROWS:
                    await self._store(rows, number)
        except ClientDisconnect:
            await self._store(rows, number)
            raise
        await self._store(rows, number)

    def _begin(self, first_line: bytes | None) -> Parse:
        if first_line is not None and is_utf16(first_line):
            raise _bad_first_line("is UTF-16, not UTF-8")
        return csv_parser(first_line, self._column) if self._is_csv else ndjson_parser(self._column)

    async def _store(self, rows: list[ListEntry], number: int) -> None:
        if rows:
            result = await self._store_part(rows)
            self.new += result.new
            self.known += result.known
            self.withdrawn += result.withdrawn
            rows.clear()
        self.lines = number

    def _parse_into(self, rows: list[ListEntry], parse: Parse, number: int, line: bytes | None) -> None:
        try:
            if line is None:
                raise ValueError(f"has more than {MAX_LINE_BYTES} bytes")
            row = parse(line)
            if row is None:
                return
            if row.name is not None and not self._is_named:
                raise ValueError("has a name, which only a campaign of mode `identified` keeps")
            rows.append(row)
        except ValueError as error:
            self.bad += 1
            if len(self.errors) < self.MAX_ERRORS:
                self.errors.append({"line": number, "field": "line", "message": str(error)})
