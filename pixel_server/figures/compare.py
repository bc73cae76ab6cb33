"""Campaigns side by side: their rates, and whether each differs from the first by more than chance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pixel_server.campaigns.campaign import Campaign
from pixel_server.figures import open_rate

Read = tuple[Campaign, dict[str, Any]]
"""A campaign, and its `stats`."""
Counts = Callable[[Read], tuple[int, int] | None]
"""(successes, of how many)."""


def side_by_side(found: Sequence[Read]) -> dict[str, Any]:
    """What `GET /api/compare` answers. Pure."""
    return {
        "items": [
            {
                "campaign": campaign.id,
                "name": campaign.name,
                "totals": stats["totals"],
                "open_rate": stats["open_rate"],
                "over": stats["over"],
                "closed_at": stats["closed_at"],
                "to_first": difference,
            }
            for (campaign, stats), difference in zip(found, to_first(found, openers), strict=True)
        ],
        "next": None,
    }


def to_first(found: Sequence[Read], counts: Counts) -> list[open_rate.Difference | None]:
    """How each differs from the first by these counts. None: the first, and where either has none. Pure."""
    first = counts(found[0])
    given = [None, *map(counts, found[1:])]
    return [None if one is None or first is None else open_rate.differs(one, first) for one in given]


def openers(read: Read) -> tuple[int, int] | None:
    """(with an open by a person, how many), of recipients whose client does not hide them; None: not known.

    Of all delivered, the campaign with more who are hidden would have fewer openers, read or not. Anonymous
    opens may be of visible readers: where there are any, nothing is known of these.
    """
    _, stats = read
    hidden = stats["hidden"]
    if stats["open_rate"] is None or hidden is None or stats["totals"]["opens_anonymous"]:
        return None
    visible = stats["delivered"] - hidden["recipients"]
    return stats["totals"]["unique_opens_person"] - hidden["person"], visible


def bounces(read: Read) -> tuple[int, int] | None:
    """(visits of one view, visits); None: not known. Visits of one visitor are alike: it is a rough guide."""
    _, stats = read
    bounced, visits = stats["totals"].get("bounces"), stats["totals"].get("visits")
    return None if bounced is None or visits is None or bounced > visits else (bounced, visits)
