"""Reads recipient lists in NDJSON: a JSON object on each line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pixel_server.consent_ref import ConsentRef
from pixel_server.mail.csv_rows import MAX_ROW_BYTES
from pixel_server.mail.list_charset import BOM
from pixel_server.mail.list_rows import (
    CONSENT_COLUMN,
    NAME_COLUMN,
    TOO_LONG,
    Columns,
    ListRow,
    Unread,
    Warn,
    check_recipient_column,
    parse_consent,
    warn_if_doubtful,
)


class NdjsonList:
    """A list in NDJSON. has_names, has_consents: whether any row so far had a name, or a `consent_ref`."""

    def __init__(self, unread: Unread, columns: Columns, warn: Warn) -> None:
        self._unread, self._columns, self._warn = unread, columns, warn
        self._can_have_names = columns.recipient != NAME_COLUMN
        self.has_names = self.has_consents = False

    def rows(self) -> Iterator[ListRow]:
        """Yields the rows whose end has been added to the unread bytes."""
        unread = self._unread
        while unread.data or unread.is_skipping:
            if unread.is_skipping:
                too_long = unread.take_long_line()
                if too_long is None:
                    return
                yield too_long
                continue
            raw = unread.take_line()
            if raw is None:
                return
            while raw.startswith(BOM):
                raw = raw.removeprefix(BOM)
            raw = raw.strip(b" \t\r\n\x1a")
            if raw:
                yield self._parse(unread.line, raw)

    def _parse(self, line: int, raw: bytes) -> ListRow:
        try:
            if len(raw) > MAX_ROW_BYTES:
                raise ValueError(TOO_LONG)
            row = _decode_object(raw)
            if self._columns.recipient not in row:
                raise ValueError(f"has no {self._columns.recipient}")
            for added in self._columns.added:
                if added in row:
                    raise ValueError(f"has {added} already")
            recipient = row[self._columns.recipient]
            if not isinstance(recipient, str):
                raise ValueError(f"{self._columns.recipient} must be text")
            check_recipient_column(recipient, self._columns.recipient)
            name, consent = self._name(row), self._consent(row)
        except ValueError as error:
            return ListRow(line, line, raw, "", None, str(error))
        warn_if_doubtful(recipient, line, self._warn)
        return ListRow(line, line, raw, recipient, name, consent=consent)

    def _name(self, row: dict[str, Any]) -> str | None:
        name = row.get(NAME_COLUMN) if self._can_have_names else None
        if name in (None, ""):
            return None
        self.has_names = True
        if not self._columns.with_names:
            return None
        if not isinstance(name, str):
            raise ValueError("name must be text")
        return " ".join(name.split()) or None

    def _consent(self, row: dict[str, Any]) -> ConsentRef | None:
        if not self._columns.with_consents or CONSENT_COLUMN not in row:
            return None
        self.has_consents = True
        text = row[CONSENT_COLUMN]
        if text is None:
            return None
        if not isinstance(text, str):
            raise ValueError(f"{CONSENT_COLUMN} must be text")
        return parse_consent(text)


def _decode_object(raw: bytes) -> dict[str, Any]:
    """Returns the JSON object of a line. Raises ValueError for other content, and for a field named twice."""
    try:
        content = json.loads(raw.decode(), object_pairs_hook=_unique_fields)
    except _FieldTwiceError:
        raise
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise ValueError("is not a JSON object in UTF-8")
    return content


class _FieldTwiceError(ValueError):
    """An object has two fields of one name."""


def _unique_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise _FieldTwiceError("has two fields of one name")
    return fields
