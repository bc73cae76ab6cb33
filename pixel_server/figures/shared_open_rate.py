"""The open rate that a key of the scope `read:CAMPAIGN` may read. Pure.

It counts first opens up to a day, and grows in steps: the days since the last step are added once they have
enough first opens together. So the difference of two answers, or of an answer and the days that are shown,
is never a small number of people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pixel_server.campaigns.campaign import Campaign
from pixel_server.figures import disclosure, ranges
from pixel_server.figures.ranges import Range


class FirstOpens(NamedTuple):
    """Recipients who opened up to the end of a day. opened: with any open. person: with an open by a person.

    day_count: number of days that are counted.
    """

    opened: int
    person: int
    day_count: int


def rate(
    series: Sequence[Mapping[str, Any]],
    campaign: Campaign,
    time_range: Range,
    until: float,
    delivered: int | None,
) -> dict[str, Any] | None:
    """Returns `{low, high, until}`, or None if the rate is withheld or not known.

    series: of all days of the campaign, from an answer of `stats.read`. until: time (s) before which every
    hit is counted. delivered: number of mails sent less mails bounced.
    """
    ends = [*time_range.starts()[1:], time_range.end]
    closed = [
        item
        for item, end in zip(series, ends, strict=True)
        if end + disclosure.PUBLISH_DELAY_SECONDS <= until
    ]
    if delivered is None or any(_is_unknown(item) for item in closed):
        return None
    first_opens = count_first_opens(closed, campaign)
    unopened = delivered - first_opens.opened
    if not first_opens.day_count or unopened < 0 or 0 < unopened < campaign.min_cell:
        return None
    return {
        "low": round(first_opens.person / delivered, 6),
        "high": round(first_opens.opened / delivered, 6),
        "until": ranges.show(ends[first_opens.day_count - 1], time_range.zone),
    }


def _is_unknown(item: Mapping[str, Any]) -> bool:
    return item["unique_opens"] is None or item["unique_opens_person"] is None or item["opens_anonymous"] != 0


def count_first_opens(days: Sequence[Mapping[str, Any]], campaign: Campaign) -> FirstOpens:
    """Returns the first opens up to the last day on which a step is complete.

    A step is complete if each of these numbers of its days is 0 or at least `min_cell`: openers, openers by a
    person, openers by machines only, and openers on days whose own number is withheld.
    """
    counted = FirstOpens(0, 0, 0)
    opened = person = withheld = 0
    for number, day in enumerate(days, 1):
        opened += day["unique_opens"]
        person += day["unique_opens_person"]
        shown = disclosure.shown_day(day, campaign)["unique_opens"]
        withheld += day["unique_opens"] if shown is None else 0
        parts = (opened, person, opened - person, withheld)
        if opened and not any(disclosure.is_small(part, campaign.min_cell) for part in parts):
            counted = FirstOpens(counted.opened + opened, counted.person + person, number)
            opened = person = withheld = 0
    return counted
