"""The export of all withdrawals, with their times and the consents of these recipients."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

import msgspec

from pixel_server.recipients import consents, withdrawals
from pixel_server.recipients.withdrawals import Periods
from pixel_server.secret import Secrets
from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis
from pixel_server.times import iso_ms

COLUMNS = ("mark", "from", "until", "campaign", "consent_ref")
"""Columns of the export as CSV. It has a line for each period of a withdrawal and each consent."""
_PAGE_ROWS = 1000

_json = msgspec.json.Encoder().encode


class Consented(NamedTuple):
    """A consent of a recipient. consent_ref: `"2026-05@2026-05-04T09:30:00Z"`."""

    campaign: str
    consent_ref: str


class Withdrawal(NamedTuple):
    """A recipient who withdrew. mark: hash that stands for the recipient in the list of withdrawals."""

    mark: bytes
    periods: Periods
    consents: list[Consented]


async def read(store: AsyncRedis, secrets: Secrets, shards: int) -> AsyncIterator[list[Withdrawal]]:
    """Yields all withdrawals in parts.

    Holds in memory only the consents of recipients who withdrew. Raises NewerFormat if a newer version wrote
    a consent.
    """
    consents_by_mark: dict[bytes, list[Consented]] = {}
    async for part in consents.read_all(store, shards):
        marks = [secrets.withdrawal_mark(key) for _, key, _ in part]
        for i in range(0, len(part), _PAGE_ROWS):
            some = marks[i : i + _PAGE_ROWS]
            values = await store.hmget(keys.WITHDRAWN, some)
            for mark, value, (campaign, _, consent) in zip(some, values, part[i:], strict=False):
                if value is not None:
                    consents_by_mark.setdefault(mark, []).append(Consented(campaign, str(consent)))
    cursor = -1
    while cursor != 0:
        items, cursor = await withdrawals.page(store, max(cursor, 0), _PAGE_ROWS)
        yield [Withdrawal(mark, periods, consents_by_mark.get(mark, [])) for mark, periods in items]


def lines(withdrawal: Withdrawal) -> Iterator[tuple[str, ...]]:
    """Yields the lines of a withdrawal in CSV. `from` is empty for an erasure."""
    for start, end in withdrawal.periods:
        times = (iso_ms(start) if start else "", "" if end is None else iso_ms(end))
        for consented in withdrawal.consents or [Consented("", "")]:
            yield (withdrawal.mark.hex(), *times, *consented)


def json_line(withdrawal: Withdrawal) -> bytes:
    """Returns the line of a withdrawal in NDJSON."""
    periods = [
        {"from": iso_ms(start) if start else None, "until": None if end is None else iso_ms(end)}
        for start, end in withdrawal.periods
    ]
    consented = [consent._asdict() for consent in withdrawal.consents]
    return _json({"mark": withdrawal.mark.hex(), "periods": periods, "consents": consented}) + b"\n"
