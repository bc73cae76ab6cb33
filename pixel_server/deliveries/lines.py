"""Reads events in NDJSON: the form for senders whose mail service has no webhook here.

Each line is an object: `{"recipient": "ada@example.org", "event": "delivered", "time": "2026-11-24T09:00Z"}`.
`time` may be missing. A line may also name its `campaign`. Other fields are ignored, so that the rows of a
log can be sent as they are. The lines are read in pieces of any size.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from pixel_server.counters.delivery_record import KINDS, Kind
from pixel_server.deliveries.event import MAX_ERRORS, Delivery, parse_time
from pixel_server.mail.links import check_recipient
from pixel_server.mail.list_charset import BOM

MAX_LINE_BYTES = 64 << 10
BATCH_LINES = 500
"""Lines that are counted at once."""
Take = Callable[[list[Delivery]], Awaitable[None]]
"""Counts some events."""


class _Line(msgspec.Struct):
    recipient: str
    event: str
    time: str = ""
    campaign: str = ""


_decode = msgspec.json.Decoder(_Line).decode
_KINDS: dict[str, Kind] = {kind: kind for kind in KINDS}


class Reader:
    """Reads the lines of a body or a file.

    lines: number of lines that were handled, without empty lines. bad: number of bad lines. errors: errors of
    the first MAX_ERRORS bad lines.
    """

    def __init__(self, campaign: str | None, take: Take) -> None:
        """campaign: the campaign of all lines, or None if each line names its own."""
        self._campaign, self._take = campaign, take
        self._rest = b""
        self._is_skipping = False
        self._batch: list[Delivery] = []
        self._read = 0
        self.lines = self.bad = 0
        self.errors: list[dict[str, Any]] = []

    async def add(self, chunk: bytes) -> None:
        """Reads the lines that end in the next piece. Raises what `take` raises."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            self._add_line(line)
            if len(self._batch) >= BATCH_LINES:
                await self._store()
        if len(self._rest) > MAX_LINE_BYTES:
            self._is_skipping, self._rest = True, b""

    async def end(self, *, is_complete: bool = True) -> None:
        """Counts what has been read. is_complete: False if the lines were cut off, perhaps within a line."""
        if is_complete and (self._rest or self._is_skipping):
            self._add_line(self._rest)
        await self._store()

    def _add_line(self, line: bytes) -> None:
        self._read += 1
        is_too_long, self._is_skipping = self._is_skipping or len(line) > MAX_LINE_BYTES, False
        text = line.strip()
        if not text and not is_too_long:
            return
        try:
            if is_too_long:
                raise ValueError(f"has more than {MAX_LINE_BYTES >> 10} kB")
            self._batch.append(self._parse(text.removeprefix(BOM)))
        except ValueError as error:
            self.lines += 1
            self.bad += 1
            if len(self.errors) < MAX_ERRORS:
                self.errors.append({"line": self._read, "field": "line", "message": str(error)})

    def _parse(self, text: bytes) -> Delivery:
        """Returns the event of a line. Raises ValueError if the line cannot be used."""
        try:
            line = _decode(text)
        except (RecursionError, UnicodeDecodeError):
            raise ValueError("is not a JSON object in UTF-8") from None
        if line.event not in KINDS:
            raise ValueError(f"event must be one of: {', '.join(KINDS)}")
        try:
            recipient = check_recipient(line.recipient)
        except ValueError as error:
            raise ValueError(f"recipient {error}") from None
        return Delivery((self._campaign_of(line),), recipient, _KINDS[line.event], _time(line.time))

    def _campaign_of(self, line: _Line) -> str:
        if self._campaign is None and not line.campaign:
            raise ValueError("has no campaign")
        if self._campaign is not None and line.campaign not in ("", self._campaign):
            raise ValueError(f"campaign is not {self._campaign}")
        return self._campaign or line.campaign

    async def _store(self) -> None:
        if self._batch:
            await self._take(self._batch)
            self.lines += len(self._batch)
            self._batch = []


def _time(text: str) -> float:
    try:
        return parse_time(text)
    except (ValueError, OverflowError):
        raise ValueError("time must be a time with an offset, such as 2026-11-24T09:00Z") from None
