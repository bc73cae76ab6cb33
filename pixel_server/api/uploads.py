"""Uploads of recipient lists: NDJSON or CSV, read as a stream of any length.

A bad line is left out and named by its number; the other lines are stored as they arrive. If the body is cut
off, the lines that arrived completely stay stored. The same list can be sent again without harm.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import redis
from starlette.requests import ClientDisconnect

from pixel_server.api import fields
from pixel_server.api.media_types import CSV, NDJSON
from pixel_server.campaigns.campaign import Campaign
from pixel_server.mail.list_reader import ListReader
from pixel_server.mail.list_rows import Columns, ListError, ListRow
from pixel_server.problems import Problem
from pixel_server.recipients import lists
from pixel_server.recipients.lists import ListEntry, PutResult
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import audit_log
from pixel_server.store.protocols import AsyncRedis

CHARSETS = frozenset({"utf-8", "us-ascii", "utf-16", "utf-16le", "utf-16be", "windows-1252"})
"""Charsets that a `Content-Type` may name. The reader detects the charset from the bytes of the list."""
COLUMN = "recipient"
"""Name of the column with the recipients, if a request names no other."""
StoreRows = Callable[[list[ListEntry]], Awaitable[PutResult]]
"""Stores some rows. Returns the numbers of new, known and withdrawn recipients among them."""


def is_csv_type(content_type: str) -> bool:
    """Returns whether a `Content-Type` is CSV. Raises Problem 415 if it is neither CSV nor NDJSON."""
    kind, *more = (part.strip().lower() for part in content_type.split(";"))
    charsets = [part.partition("=")[2].strip('"') for part in more if part.startswith("charset=")]
    if kind not in (NDJSON, CSV) or not set(charsets) <= CHARSETS:
        raise Problem(415, f"send lines in UTF-8, with Content-Type: {NDJSON} or {CSV}")
    return kind == CSV


def list_writer(
    store: AsyncRedis,
    secrets: Secrets,
    settings: Settings,
    campaign: str,
    keeps_names: bool,
    now: float,
    who: str,
    *,
    mailed_at: float | None,
) -> StoreRows:
    """Returns a function that stores rows on a campaign's list, and calls `lists.begin` before the first row.

    keeps_names: whether the names are stored. who: name for the audit log. mailed_at: time (s) at which the
    mails went out, or None if they do not count as sent. The function raises what `lists.begin` and
    `lists.put` raise.
    """
    has_begun = False

    async def store_rows(rows: list[ListEntry]) -> PutResult:
        nonlocal has_begun
        if not has_begun:
            await audit_log.note(store, who, "recipients.upload_begun", campaign=campaign)
            await lists.begin(store, campaign, keeps_names, settings, now)
            has_begun = True
        return await lists.put(
            store, secrets, campaign, rows, settings.shards, keeps_names, mailed_at=mailed_at
        )

    return store_rows


def time_of_sending(campaign: Campaign, now: float) -> float:
    """Returns the time (s) at which the mails of an uploaded list went out: the campaign's, or now."""
    return now if campaign.sent_at is None else campaign.sent_at


async def log_end(store: AsyncRedis, upload: Upload, campaign: str, who: str) -> None:
    """Writes the counts of an upload to the audit log, if any line could be used and Redis answers."""
    if upload.has_usable_lines:
        with suppress(redis.RedisError, OSError):
            await audit_log.note(store, who, "recipients.uploaded", campaign=campaign, **upload.counts)


class Upload:
    """The reading of one recipient list.

    new, known, withdrawn: numbers of recipients, see `lists.PutResult`. bad: number of bad lines. errors:
    errors of the first MAX_ERRORS bad lines. warnings: the first MAX_ERRORS warnings about lines that are
    stored. last_line: number of the last line that was handled, counted from 1 as an editor does.
    """

    COUNTS = ("lines", "new", "known", "withdrawn", "bad")

    BATCH_ROWS = 200
    """Rows stored at once. Pixels of the same process wait while the rows are parsed, about 2 ms."""
    MAX_ERRORS = 100

    def __init__(
        self,
        store_rows: StoreRows,
        *,
        is_csv: bool | None,
        keeps_names: bool,
        needs_consent: bool,
        column: str = COLUMN,
    ) -> None:
        """is_csv: False for NDJSON, None to detect the format. keeps_names: whether the names are stored.

        needs_consent: whether a row without a consent is bad. column: name of the recipients' column.
        """
        self._store_rows = store_rows
        self._keeps_names, self._needs_consent = keeps_names, needs_consent
        columns = Columns(column, with_names=keeps_names, with_consents=True)
        self._reader = ListReader(columns, self._warn, is_csv)
        self._rows: list[ListEntry] = []
        self.last_line = self.new = self.known = self.withdrawn = self.bad = 0
        self.errors: list[dict[str, Any]] = []
        self.warnings: list[dict[str, Any]] = []
        self._has_warned_of_names = False

    @property
    def lines(self) -> int:
        """Returns the number of lines that were handled, without the header and without empty lines."""
        return self.new + self.known + self.withdrawn + self.bad

    @property
    def counts(self) -> dict[str, int]:
        """Returns the counts by the names in COUNTS."""
        return {name: getattr(self, name) for name in self.COUNTS}

    @property
    def has_usable_lines(self) -> bool:
        """Returns whether any line could be used. Lines of recipients who withdrew count as usable."""
        return bool(self.new or self.known or self.withdrawn)

    @property
    def progress(self) -> str:
        """Returns a text that says which lines were handled."""
        return f"lines 1 to {self.last_line} were taken" if self.last_line else "nothing was taken"

    async def read(self, chunks: AsyncIterator[bytes]) -> None:
        """Reads and stores the whole list.

        Raises Problem 422 if the list cannot be read. Raises ClientDisconnect if the body was cut off, after
        storing the lines that arrived completely.
        """
        is_empty = True
        try:
            async for chunk in chunks:
                is_empty = is_empty and not chunk
                self._reader.add(chunk)
                await self._add_rows(self._reader.rows())
            if not is_empty:
                self._reader.add(b"", is_final=True)
                await self._add_rows(self._reader.rows())
        except ListError as error:
            errors = [{"line": 1, "field": "line", "message": str(error)}]
            raise Problem(422, f"this list cannot be read: {error}; nothing was taken", errors) from None
        except ClientDisconnect:
            await self._add_rows(self._reader.rows_before_cut())
            await self._store(self._reader.line)
            raise
        await self._store(self._reader.line)

    async def _add_rows(self, rows: Iterator[ListRow]) -> None:
        for row in rows:
            self._add_row(row)
            if len(self._rows) >= self.BATCH_ROWS:
                await self._store(row.last_line)
        row_reader = self._reader.row_reader
        if row_reader and row_reader.has_names and not self._keeps_names and not self._has_warned_of_names:
            self._has_warned_of_names = True
            self._warn(1, "names are not stored: only campaigns of mode `identified` keep them", "name")

    async def _store(self, line: int) -> None:
        if self._rows:
            result = await self._store_rows(self._rows)
            self.new += result.new
            self.known += result.known
            self.withdrawn += result.withdrawn
            self._rows.clear()
        self.last_line = line

    def _add_row(self, row: ListRow) -> None:
        error = row.error
        if not error and self._needs_consent and row.consent is None:
            error = "has no consent_ref, and a campaign of the preset consented lists only who consented"
        if not error:
            try:
                name = None if row.name is None else fields.name(row.name)
                self._rows.append(ListEntry(row.recipient, name, row.consent))
            except ValueError as name_error:
                error = f"name {name_error}"
        if error:
            self.bad += 1
            self._add_message(self.errors, row.line, "line", error)

    def _warn(self, line: int, message: str, field: str = "recipient") -> None:
        self._add_message(self.warnings, line, field, message)

    def _add_message(self, messages: list[dict[str, Any]], line: int, field: str, message: str) -> None:
        if len(messages) < self.MAX_ERRORS:
            messages.append({"line": line, "field": field, "message": message})
