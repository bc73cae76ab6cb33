"""How long what is kept, and since when the rest is gone. Pure; `workers.retention` takes it away.

A setting of the server says how many days of each kind; a campaign may have fewer. Series go day by day.
Recipients and names go for a whole campaign at once, so many days after it was sent: after `sent_at`; without
one, after its last link, first hit or last upload, whichever was latest.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from pixel_server.campaigns import Campaign, Gone, Uses
from pixel_server.consent import mode
from pixel_server.series import DAY
from pixel_server.settings import Settings
from pixel_server.tokens import Mode

KINDS = ("buckets", "days", "recipients", "names")


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
    return max(campaign.leaving.buckets, int(now) // DAY * DAY - days * DAY)


def oldest_day(campaign: Campaign, days: int, now: float) -> str:
    """Where the daily series that are kept begin: YYYYMMDD in the campaign's zone."""
    first = datetime.fromtimestamp(now, campaign.zone).date() - timedelta(days=days)
    return max(campaign.leaving.days, first.strftime("%Y%m%d"))


def sent(campaign: Campaign, uses: Uses) -> int | None:
    """When it was sent, as far as can be told: seconds; None: it never was."""
    return campaign.sent_at if campaign.sent_at is not None else max(uses) or None


def mode_of(settings: Settings, campaign: Campaign) -> Mode:
    """The most that a campaign keeps: its own mode, or the server's if that is less."""
    return min(mode(campaign.mode), mode(settings.max_mode))


def leaving(campaign: Campaign, uses: Uses, days: Keep, most: Mode, now: float) -> Gone:
    """What is not to be there any more. Series that are gone stay so, whatever settings say later."""
    at = sent(campaign, uses)
    is_closed = campaign.closed_at is not None or is_over(at, days.recipients, now)
    recipients = is_closed or most < Mode.PSEUDONYMOUS
    names = recipients or most < Mode.IDENTIFIED or is_over(at, days.names, now)
    is_email = campaign.kind == "email"
    return Gone(
        buckets=oldest_bucket(campaign, days.buckets, now),
        days=oldest_day(campaign, days.days, now),
        recipients=is_email and recipients,
        names=is_email and names,
    )


def is_closing(campaign: Campaign, uses: Uses, days: Keep, now: float) -> bool:
    """Whether its time is over, so that from now on its hits are only counted."""
    return campaign.kind == "email" and is_over(sent(campaign, uses), days.recipients, now)


def is_over(at: int | None, days: int, now: float) -> bool:
    """Whether so many days have passed since then; since never, they have not."""
    return at is not None and now >= at + days * DAY
