"""Lists of recipients as they come in: NDJSON or CSV, in a stream, however long.

A line that cannot be used is left out and named by its number; the others are taken as they come. A body that
is cut off leaves what its whole lines said. To send a list again does no harm.
"""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import msgspec
import redis
from starlette.requests import ClientDisconnect

from pixel_server.api import request_body
from pixel_server.mail.links import check_recipient
from pixel_server.mail.recipient_files import delimiter_of
from pixel_server.problems import Problem
from pixel_server.recipients import lists
from pixel_server.recipients.lists import Put, Row
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import audit_log
from pixel_server.store.client import AsyncRedis

NDJSON, CSV = "application/x-ndjson", "text/csv"
MAX_LINE = 16 << 10
"""Bytes. The longest good line, all of it written as escapes, has some 5,600."""

Parse = Callable[[bytes], Row | None]
"""Takes a line; None: it says nothing. ValueError: what is wrong with it."""

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_BOM = b"\xef\xbb\xbf"


async def lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[tuple[int, bytes | None]]:
    """(number from 1, the line without its end), or None for one longer than MAX_LINE, which is not held."""
    number, held, too_long = 1, b"", False
    async for chunk in chunks:
        *ended, rest = chunk.split(b"\n")
        for part in ended:
            line = held + part
            yield number, None if too_long or len(line) > MAX_LINE else line.removesuffix(b"\r")
            number, held, too_long = number + 1, b"", False
        too_long = too_long or len(held) + len(rest) > MAX_LINE
        held = b"" if too_long else held + rest
    if held or too_long:
        yield number, None if too_long else held.removesuffix(b"\r")


def reader(content_type: str, column: str) -> Callable[[bytes | None], tuple[Parse, bool]]:
    """Takes the first line; gives what reads the rest, and whether the first is one of them.

    column: what the recipient is under. Problem 415: no type that is read here. What it gives raises Problem
    422: a first line that cannot be.
    """
    kind, *more = (part.strip().lower() for part in content_type.split(";"))
    charsets = [part.partition("=")[2].strip('"') for part in more if part.startswith("charset=")]
    if kind not in (NDJSON, CSV) or any(charset not in ("utf-8", "us-ascii") for charset in charsets):
        raise Problem(415, f"send lines in UTF-8, with Content-Type: {NDJSON} or {CSV}")
    if kind == NDJSON:
        return lambda first: (_ndjson(column), True)
    return lambda first: (_header(first, column), False)


def _ndjson(column: str) -> Parse:
    def parse(line: bytes) -> Row | None:
        line = line.removeprefix(_BOM)
        if not line.strip():
            return None
        try:
            found = _decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise ValueError("is not a JSON object in UTF-8") from None
        recipient, name = found.get(column), found.get("name") if column != "name" else None
        if not isinstance(recipient, str):
            raise ValueError(f"`{column}` must be text" if column in found else f"has no `{column}`")
        if name is not None and not isinstance(name, str):
            raise ValueError("`name` must be text")
        return _checked(recipient, name)

    return parse


def _header(line: bytes | None, column: str) -> Parse:
    try:
        text = (line or b"").decode("utf-8-sig")
        delimiter = delimiter_of(text, column)
        columns = [name.strip().lower() for name in _fields(text, delimiter)]
    except ValueError:
        raise _refused("is not CSV in UTF-8") from None
    wanted = column.lower()
    if columns.count(wanted) != 1 or columns.count("name") > 1:
        raise _refused(f"must name the columns, among them one `{wanted}`, and if you like one `name`")
    place = columns.index(wanted)
    name_at = columns.index("name") if "name" in columns and wanted != "name" else None

    def parse(line: bytes) -> Row | None:
        try:
            text = line.decode()
        except UnicodeDecodeError:
            raise ValueError("is not UTF-8") from None
        if not text.strip():
            return None
        fields = _fields(text, delimiter)
        if len(fields) != len(columns):
            raise ValueError(f"has {len(fields)} columns, and the first line {len(columns)}")
        name = "" if name_at is None else fields[name_at].strip()
        return _checked(fields[place].strip(), name or None)

    return parse


def _refused(message: str) -> Problem:
    errors = [{"line": 1, "field": "line", "message": message}]
    return Problem(422, f"the first line {message}; nothing was taken", errors)


def _fields(text: str, delimiter: str) -> list[str]:
    try:
        found = next(csv.reader([text], delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise ValueError("is not CSV: a quote, or the end of a line, stands where none can") from error
    if '""' not in text and any('"' in field for field in found):
        raise ValueError("is not CSV: a quote within a field, perhaps of one that began on a line before")
    return found


def _checked(recipient: str, name: str | None) -> Row:
    try:
        check_recipient(recipient)
    except ValueError as error:
        raise ValueError(f"recipient {error}") from None
    try:
        return Row(recipient, None if name is None else request_body.name(name))
    except ValueError as error:
        raise ValueError(f"name {error}") from None


def is_ndjson(first: bytes) -> bool:
    """Whether a list that begins so has an object in each line."""
    return first.removeprefix(_BOM).lstrip().startswith(b"{")


def putter(
    store: AsyncRedis,
    secrets: Secrets,
    settings: Settings,
    campaign: str,
    is_named: bool,
    now: float,
    who: str,
) -> Callable[[list[Row]], Awaitable[Put]]:
    """What puts rows into a campaign's list, which begins with the first. It raises what `lists` does.

    who: for the audit log.
    """
    begun = False

    async def put(rows: list[Row]) -> Put:
        nonlocal begun
        if not begun:
            await audit_log.note(store, who, "recipients.upload_begun", campaign=campaign)
            await lists.begin(store, campaign, is_named, settings, now)
            begun = True
        return await lists.put(store, secrets, campaign, rows, settings.shards, is_named)

    return put


async def note_end(store: AsyncRedis, upload: Upload, campaign: str, who: str) -> None:
    """What came of an upload that had begun, for the audit log; not if Redis does not answer."""
    if upload.new or upload.known or upload.withdrawn:
        with suppress(redis.RedisError, OSError):
            await audit_log.note(store, who, "recipients.uploaded", campaign=campaign, **upload.counts)


class Upload:
    """One list on its way in. put: takes rows, some at a time; gives what became of them.

    lines: the number of the last line that was dealt with. errors: what is wrong with the first SHOWN bad
    ones; bad counts all.
    """

    COUNTS = ("lines", "new", "known", "withdrawn", "bad")

    BATCH = 200
    """Rows a batch: pixels of the same process wait for its parsing, some 2 ms."""
    SHOWN = 100

    def __init__(
        self,
        content_type: str,
        put: Callable[[list[Row]], Awaitable[Put]],
        is_named: bool,
        column: str = "recipient",
    ) -> None:
        self._begin = reader(content_type, column)
        self._put = put
        self._is_named = is_named
        self.lines = self.new = self.known = self.withdrawn = self.bad = 0
        self.errors: list[dict[str, Any]] = []

    @property
    def counts(self) -> dict[str, int]:
        """By the names in COUNTS."""
        return {name: getattr(self, name) for name in self.COUNTS}

    @property
    def taken(self) -> str:
        """In words."""
        return f"lines 1 to {self.lines} were taken" if self.lines else "nothing was taken"

    async def take(self, chunks: AsyncIterator[bytes]) -> None:
        """All of it. ClientDisconnect: it was cut off; its whole lines are taken."""
        parse: Parse | None = None
        rows: list[Row] = []
        number = 0
        try:
            async for number, line in lines(chunks):
                if number == 1:
                    if line is not None and line.startswith((b"\xff\xfe", b"\xfe\xff")):
                        raise _refused("is UTF-16, not UTF-8")
                    parse, is_row = self._begin(line)
                    if not is_row:
                        continue
                assert parse is not None
                self._read(parse, number, line, rows)
                if len(rows) >= self.BATCH:
                    await self._hand_over(rows, number)
        except ClientDisconnect:
            await self._hand_over(rows, number)
            raise
        await self._hand_over(rows, number)

    async def _hand_over(self, rows: list[Row], number: int) -> None:
        if rows:
            done = await self._put(rows)
            self.new += done.new
            self.known += done.known
            self.withdrawn += done.withdrawn
            rows.clear()
        self.lines = number

    def _read(self, parse: Parse, number: int, line: bytes | None, rows: list[Row]) -> None:
        try:
            if line is None:
                raise ValueError(f"has more than {MAX_LINE} bytes")
            row = parse(line)
            if row is None:
                return
            if row.name is not None and not self._is_named:
                raise ValueError("has a name, which only a campaign of mode `identified` keeps")
            rows.append(row)
        except ValueError as error:
            self.bad += 1
            if len(self.errors) < self.SHOWN:
                self.errors.append({"line": number, "field": "line", "message": str(error)})
