"""Which sums of visits follow from other sums of visits. A sum is an int: each bit is one kind of visit."""

from __future__ import annotations

from collections.abc import Iterable

PRIME = 2**61 - 1

Row = dict[int, int]
"""Coefficients modulo PRIME by the number of the bit, without zeros."""
Rows = list[tuple[int, Row]]
"""Rows, each with the number of a bit at which it has a 1 and all later rows have a 0."""


def span(sums: Iterable[int]) -> Rows:
    """Returns rows whose combinations are the combinations of these sums."""
    rows: Rows = []
    for bits in sums:
        if row := _reduced(bits, rows):
            lead = next(iter(row))
            inverse = pow(row[lead], -1, PRIME)
            rows.append((lead, {place: n * inverse % PRIME for place, n in row.items()}))
    return rows


def follows(bits: int, rows: Rows) -> bool:
    """Returns whether a sum is a combination of the rows."""
    return not _reduced(bits, rows)


def _reduced(bits: int, rows: Rows) -> Row:
    row = {place: 1 for place in range(bits.bit_length()) if bits >> place & 1}
    for lead, other in rows:
        if factor := row.get(lead):
            for place, n in other.items():
                row[place] = (row.get(place, 0) - factor * n) % PRIME
            row = {place: n for place, n in row.items() if n}
    return row
