"""Lists of recipients as they come in: NDJSON or CSV, in a stream, however long.

A line that cannot be used is left out and named by its number; the others are taken as they come. A body that
is cut off leaves what its whole lines said. To send a list again does no harm.
"""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect

from pixel_server import lists
from pixel_server.links import check_recipient
from pixel_server.lists import Put, Row
from pixel_server.report import body
from pixel_server.report.problems import Problem
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import AsyncRedis

NDJSON, CSV = "application/x-ndjson", "text/csv"
MAX_LINE = 16 << 10
"""Bytes. The longest good line, all of it written as escapes, has some 5,600."""
DELIMITERS = ",;\t|"

Parse = Callable[[bytes], Row | None]
"""Takes a line; None: it says nothing. ValueError: what is wrong with it."""


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    recipient: str
    name: str | None = None


_decode = msgspec.json.Decoder(_Line).decode
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


def reader(content_type: str) -> Callable[[bytes | None], Parse | None]:
    """Takes the first line; gives what reads the rest, or None if the first is one of them.

    Problem 415: no type that is read here. What it gives raises Problem 422: a first line that cannot be.
    """
    kind, *more = (part.strip().lower() for part in content_type.split(";"))
    charsets = [part.partition("=")[2].strip('"') for part in more if part.startswith("charset=")]
    if kind not in (NDJSON, CSV) or any(charset not in ("utf-8", "us-ascii") for charset in charsets):
        raise Problem(415, f"send lines in UTF-8, with Content-Type: {NDJSON} or {CSV}")
    return (lambda first: None) if kind == NDJSON else _header


def ndjson(line: bytes) -> Row | None:
    line = line.removeprefix(_BOM)
    if not line.strip():
        return None
    try:
        found = _decode(line)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError("is not a JSON object in UTF-8") from None
    return _checked(found.recipient, found.name)


def _header(line: bytes | None) -> Parse:
    try:
        text = (line or b"").decode("utf-8-sig")
        delimiter = next((mark for mark in DELIMITERS if mark in text), ",")
        columns = [column.strip().lower() for column in _fields(text, delimiter)]
    except ValueError:
        columns = []
    if sorted(columns) not in (["recipient"], ["name", "recipient"]):
        raise _refused("must name the columns, in UTF-8: `recipient`, and if you like `name`")
    place = columns.index("recipient")

    def parse(line: bytes) -> Row | None:
        try:
            text = line.decode()
        except UnicodeDecodeError:
            raise ValueError("is not UTF-8") from None
        if not text.strip():
            return None
        fields = _fields(text, delimiter)
        if len(fields) != len(columns):
            raise ValueError(f"has {len(fields)} fields, not {len(columns)}")
        name = fields[1 - place].strip() if len(columns) == 2 else ""
        return _checked(fields[place].strip(), name or None)

    return parse


def _refused(message: str) -> Problem:
    errors = [{"line": 1, "field": "line", "message": message}]
    return Problem(422, f"the first line {message}; nothing was taken", errors)


def _fields(text: str, delimiter: str) -> list[str]:
    try:
        found = next(csv.reader([text], delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise ValueError(f"is not CSV: {error}") from None
    if '""' not in text and any('"' in field for field in found):
        raise ValueError("is not CSV: a quote within a field, perhaps of one that began on a line before")
    return found


def _checked(recipient: str, name: str | None) -> Row:
    try:
        check_recipient(recipient)
    except ValueError as error:
        raise ValueError(f"recipient {error}") from None
    try:
        return Row(recipient, None if name is None else body.name(name))
    except ValueError as error:
        raise ValueError(f"name {error}") from None


def is_ndjson(first: bytes) -> bool:
    """Whether a list that begins so has an object in each line."""
    return first.removeprefix(_BOM).lstrip().startswith(b"{")


def putter(
    store: AsyncRedis, secrets: Secrets, settings: Settings, campaign: str, is_named: bool, now: float
) -> Callable[[list[Row]], Awaitable[Put]]:
    """What puts rows into a campaign's list, which begins with the first. It raises what `lists` does."""
    begun = False

    async def put(rows: list[Row]) -> Put:
        nonlocal begun
        if not begun:
            await lists.begin(store, campaign, is_named, settings, now)
            begun = True
        return await lists.put(store, secrets, campaign, rows, settings.shards, is_named)

    return put


class Upload:
    """One list on its way in. put: takes rows, some at a time; gives what became of them.

    lines: the number of the last line that was dealt with. errors: what is wrong with the first SHOWN bad
    ones; bad counts all.
    """

    COUNTS = ("lines", "new", "known", "withdrawn", "bad")

    BATCH = 200
    """Rows a batch: pixels of the same process wait for its parsing, some 2 ms."""
    SHOWN = 100

    def __init__(self, content_type: str, put: Callable[[list[Row]], Awaitable[Put]], is_named: bool) -> None:
        self._begin = reader(content_type)
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
                    parse = self._begin(line)
                    if parse is not None:
                        continue
                self._read(parse or ndjson, number, line, rows)
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
