"""How long what is kept, and since when the rest is gone. Pure; `workers.retention` takes it away.

A setting of the server says how many days of each kind; a campaign may have fewer. Series go day by day.
Recipients and names go for a whole campaign at once, so many days after it was sent: after `sent_at`; without
one, after its last link, first hit or last upload, whichever was latest.

A retention round by itself takes no more than what became due within a day (`leaps`). More than that is due
at once only after a long outage, when a setting was lowered, or when Redis's clock jumped. An operator must
then say that it may go (`pixel-server retention run --yes`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from pixel_server.campaigns.campaign import Campaign, Removal, Uses
from pixel_server.consent import mode
from pixel_server.settings import Settings
from pixel_server.times import DAY
from pixel_server.tokens import Mode

KINDS = ("buckets", "days", "recipients", "names")
FORMAT = 1


class Keep(NamedTuple):
    """Days, by kind."""

    buckets: int
    days: int
    recipients: int
    names: int


def of_server(settings: Settings) -> Keep:
    return Keep(settings.keep_buckets, settings.keep_days, settings.keep_recipients, settings.keep_names)


def keep(settings: Settings, campaign: Campaign) -> Keep:
    """What holds for a campaign."""
    most = of_server(settings)
    return Keep(*(min(days, campaign.keep.get(kind, days)) for kind, days in zip(KINDS, most, strict=True)))


def oldest_bucket(campaign: Campaign, days: int, now: float) -> int:
    """Where the 15-minute series that are kept begin: a midnight of UTC, seconds."""
    left = campaign.leaving.buckets
    first = int(now) // DAY * DAY - days * DAY
    # What lies in the future was written while Redis's clock was ahead.
    return max(left, first) if left <= now else first


def oldest_day(campaign: Campaign, days: int, now: float) -> str:
    """Where the daily series that are kept begin: YYYYMMDD in the campaign's zone."""
    today = datetime.fromtimestamp(now, campaign.zone).date()
    first = (today - timedelta(days=days)).strftime("%Y%m%d")
    return max(campaign.leaving.days, first) if campaign.leaving.days <= today.strftime("%Y%m%d") else first


def sent(campaign: Campaign, uses: Uses) -> int | None:
    """When it was sent, as far as can be told: seconds; None: it never was."""
    return campaign.sent_at if campaign.sent_at is not None else max(uses) or None


def mode_of(settings: Settings, campaign: Campaign) -> Mode:
    """The most that a campaign keeps: its own mode, or the server's if that is less."""
    return min(mode(campaign.mode), mode(settings.max_mode))


def leaving(campaign: Campaign, uses: Uses, days: Keep, most: Mode, now: float) -> Removal:
    """What is not to be there any more. Series that are gone stay so, whatever settings say later."""
    at = sent(campaign, uses)
    is_closed = campaign.closed_at is not None or is_over(at, days.recipients, now)
    recipients = is_closed or most < Mode.PSEUDONYMOUS
    names = recipients or most < Mode.IDENTIFIED or is_over(at, days.names, now)
    is_email = campaign.kind == "email"
    return Removal(
        buckets=oldest_bucket(campaign, days.buckets, now),
        days=oldest_day(campaign, days.days, now),
        recipients=is_email and recipients,
        names=is_email and names,
    )


def leaps(campaign: Campaign, uses: Uses, days: Keep, most: Mode, now: float) -> set[str]:
    """Returns the kinds of which more is due than became due within a day.

    What a lowered mode takes away goes by no clock, and is never among them.
    """
    before, at, found = campaign.leaving, sent(campaign, uses), set()
    is_late = oldest_bucket(campaign, days.buckets, now) - before.buckets > DAY
    if is_late:
        found.add("buckets")
    if oldest_day(campaign, days.days, now - DAY) > before.days:
        found.add("days")
    slack = 0 if is_late and before.buckets else 1
    if campaign.closed_at is None and most >= Mode.PSEUDONYMOUS and any(uses):
        if is_over(at, days.recipients + slack, now):
            found.add("recipients")
        if most == Mode.IDENTIFIED and uses.last_upload and is_over(at, days.names + slack, now):
            found.add("names")
    return found


def waits(value: bytes | None) -> dict[str, int]:
    """Returns what the last round left for `--yes`, by kind. value: as it is kept in SWEEP."""
    found = json.loads(value) if value else {}
    return found["waits"] if found.get("format") == FORMAT else {}


def pack_waits(found: Mapping[str, int]) -> str:
    """Returns what `waits` reads: `{"format": 1, "waits": {"days": 12}}`."""
    return json.dumps({"format": FORMAT, "waits": dict(sorted(found.items()))})


def text(found: Mapping[str, int]) -> str:
    """Says what waits, and what to do. found: how many, by kind."""
    listed = ", ".join(f"{count} {kind}" for kind, count in sorted(found.items()))
    return (
        f"retention waits, for more than a day's worth is due at once ({listed}): "
        "if clocks and PIXEL_KEEP_... are right, run `pixel-server retention run --yes`"
    )


def is_closing(campaign: Campaign, uses: Uses, days: Keep, now: float) -> bool:
    """Whether its time is over, so that from now on its hits are only counted."""
    return campaign.kind == "email" and is_over(sent(campaign, uses), days.recipients, now)


def is_over(at: int | None, days: int, now: float) -> bool:
    """Whether so many days have passed since then; since never, they have not."""
    return at is not None and now >= at + days * DAY
