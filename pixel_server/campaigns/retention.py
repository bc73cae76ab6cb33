"""Retention: the number of days for which each kind of data is kept, and the data due for removal. Pure.

`workers.retention` removes the data. The server's settings hold the days for each kind of data; a campaign
may have fewer. Series are removed day by day. Recipients and names are removed for a whole campaign at once,
a number of days after its time of sending: `sent_at`, or the latest of its last link, first hit and last
upload.

A round of retention removes a kind of data only if at most a day's worth is due (`overdue_kinds`). More is
due at once only after a long outage, after a setting was lowered, or when Redis's clock jumped. An operator
must then allow the removal with `pixel-server retention run --yes`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from pixel_server.campaigns.campaign import Campaign, Removal, Uses
from pixel_server.consent import mode_named
from pixel_server.settings import Settings
from pixel_server.times import DAY
from pixel_server.tokens import Mode

FORMAT = 1


class KeepDays(NamedTuple):
    """Number of days for which each kind of data is kept."""

    buckets: int
    days: int
    recipients: int
    names: int


def server_days(settings: Settings) -> KeepDays:
    """Returns the days of the server's settings."""
    return KeepDays(settings.keep_buckets, settings.keep_days, settings.keep_recipients, settings.keep_names)


def campaign_days(settings: Settings, campaign: Campaign) -> KeepDays:
    """Returns the days that apply to a campaign: the server's, or the campaign's own if these are fewer."""
    limits = server_days(settings)._asdict()
    return KeepDays(**{kind: min(days, campaign.keep.get(kind, days)) for kind, days in limits.items()})


def oldest_bucket(campaign: Campaign, days: int, now: float) -> int:
    """Returns the start of the 15-minute series that are kept: a midnight in UTC, in seconds."""
    removed_before = campaign.leaving.buckets
    first = int(now) // DAY * DAY - days * DAY
    # A time in the future was written while Redis's clock was ahead.
    return max(removed_before, first) if removed_before <= now else first


def oldest_day(campaign: Campaign, days: int, now: float) -> str:
    """Returns the first day of the daily series that are kept, in the campaign's zone, as `"20261124"`."""
    removed_before = campaign.leaving.days
    today = datetime.fromtimestamp(now, campaign.zone).date()
    first = (today - timedelta(days=days)).strftime("%Y%m%d")
    return max(removed_before, first) if removed_before <= today.strftime("%Y%m%d") else first


def sending_time(campaign: Campaign, uses: Uses) -> int | None:
    """Returns the time of sending (s), or else the latest use, or None if the campaign was never used."""
    return campaign.sent_at if campaign.sent_at is not None else max(uses) or None


def effective_mode(settings: Settings, campaign: Campaign) -> Mode:
    """Returns the campaign's mode, or the server's limit if that keeps less."""
    return min(mode_named(campaign.mode), mode_named(settings.max_mode))


def due_removal(campaign: Campaign, uses: Uses, days: KeepDays, effective: Mode, now: float) -> Removal:
    """Returns the data that is due. Removed series stay removed if a setting is raised later."""
    sent_at = sending_time(campaign, uses)
    is_closed = campaign.closed_at is not None or is_over(sent_at, days.recipients, now)
    recipients = is_closed or effective < Mode.PSEUDONYMOUS
    names = recipients or effective < Mode.IDENTIFIED or is_over(sent_at, days.names, now)
    is_email = campaign.kind == "email"
    return Removal(
        buckets=oldest_bucket(campaign, days.buckets, now),
        days=oldest_day(campaign, days.days, now),
        recipients=is_email and recipients,
        names=is_email and names,
    )


def overdue_kinds(campaign: Campaign, uses: Uses, days: KeepDays, effective: Mode, now: float) -> set[str]:
    """Returns each kind of data with more than a day's worth due.

    Data that is due because of a lowered mode is never overdue, because no clock decides that it is due.
    """
    recorded, sent_at = campaign.leaving, sending_time(campaign, uses)
    kinds = set()
    are_buckets_overdue = oldest_bucket(campaign, days.buckets, now) - recorded.buckets > DAY
    if are_buckets_overdue:
        kinds.add("buckets")
    if oldest_day(campaign, days.days, now - DAY) > recorded.days:
        kinds.add("days")
    slack_days = 0 if are_buckets_overdue and recorded.buckets else 1  # 0 if no round ran for a day
    if campaign.closed_at is None and effective >= Mode.PSEUDONYMOUS and any(uses):
        if is_over(sent_at, days.recipients + slack_days, now):
            kinds.add("recipients")
        has_names = effective == Mode.IDENTIFIED and uses.last_upload
        if has_names and is_over(sent_at, days.names + slack_days, now):
            kinds.add("names")
    return kinds


def unpack_waiting(value: bytes | None) -> dict[str, int]:
    """Returns the counts of data that wait for `--yes`, by kind, from the stored text of `pack_waiting`."""
    stored = json.loads(value) if value else {}
    return stored["waits"] if stored.get("format") == FORMAT else {}


def pack_waiting(waiting: Mapping[str, int]) -> str:
    """Returns the stored text of the counts of waiting data: `{"format": 1, "waits": {"days": 12}}`."""
    return json.dumps({"format": FORMAT, "waits": dict(sorted(waiting.items()))})


def waiting_message(waiting: Mapping[str, int]) -> str:
    """Returns a line for the operator: the data that waits for `--yes`, and what to do."""
    listed = ", ".join(f"{count} {kind}" for kind, count in sorted(waiting.items()))
    return (
        f"retention waits, because more than a day's worth is due at once ({listed}): "
        "if clocks and PIXEL_KEEP_DAYS_* are right, run `pixel-server retention run --yes`"
    )


def is_closing(campaign: Campaign, uses: Uses, days: KeepDays, now: float) -> bool:
    """Returns whether a mail campaign's days to keep recipients are over, so that hits are only counted."""
    return campaign.kind == "email" and is_over(sending_time(campaign, uses), days.recipients, now)


def is_over(start: int | None, days: int, now: float) -> bool:
    """Returns whether `days` days have passed since `start` (s). Returns False if `start` is None."""
    return start is not None and now >= start + days * DAY
