"""Campaigns side by side: their rates, and whether each differs from the first by more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pixel_server.campaigns import Campaign
from pixel_server.report import rates

Read = tuple[Campaign, dict[str, Any]]
"""A campaign, and its `stats` of all time."""


def side_by_side(found: Sequence[Read]) -> dict[str, Any]:
    """What `GET /api/compare` answers. Pure."""
    first = found[0]
    return {
        "items": [
            {
                "campaign": campaign.id,
                "name": campaign.name,
                "totals": stats["totals"],
                "open_rate": stats["open_rate"],
                "over": stats["over"],
                "closed_at": stats["closed_at"],
                "to_first": _difference((campaign, stats), first) if place else None,
            }
            for place, (campaign, stats) in enumerate(found)
        ],
        "next": None,
    }


def _difference(one: Read, first: Read) -> rates.Difference | None:
    """Of the rates of recipients with an open by a person; None where either has no rate."""
    a, b = _counts(one), _counts(first)
    return None if a is None or b is None else rates.differs(a, b)


def _counts(read: Read) -> tuple[int, int] | None:
    _, stats = read
    if stats["open_rate"] is None:
        return None
    return stats["totals"]["unique_opens_person"], stats["delivered"]
