"""The timeline of one recipient: everything that is stored with its time, over all campaigns. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from pixel_server.counters import histogram
from pixel_server.dashboard import formatting
from pixel_server.times import DAY, iso, iso_day

MAX_EVENTS = 100
"""Largest number of events on a page, the newest first."""


class Event(NamedTuple):
    """An event. at: ISO 8601; a date alone if only the day is stored. campaign: id, or "" if it has none."""

    at: str
    text: str
    campaign: str = ""

    @property
    def is_day(self) -> bool:
        """Returns whether only the day is known."""
        return len(self.at) == len("2026-11-24")


def events(stored: Mapping[str, Any], sent_at: Mapping[str, int | None]) -> list[Event]:
    """Returns all events of a recipient, the newest first. stored: as `api.recipients.show` returns it.

    sent_at: time of sending of campaigns by id, seconds, or None if it is not set.
    """
    found = [
        event for row in stored["campaigns"] for event in _of_campaign(row, sent_at.get(row["campaign"]))
    ]
    if stored["last_open_day"]:
        found.append(Event(stored["last_open_day"], "Last open of any mailing with mode “last”"))
    for period in stored["withdrawals"]:
        if period["from"]:
            found.append(Event(period["from"], "Withdrew: not recorded from here on"))
        if period["until"]:
            found.append(Event(period["until"], "Allowed recording again"))
    return sorted(found, reverse=True)


def newest_first(campaigns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the rows of campaigns, that with the newest event first."""
    return sorted(campaigns, key=_newest, reverse=True)


def _newest(row: Mapping[str, Any]) -> tuple[str, str]:
    return max((event.at for event in _of_campaign(row)), default=""), row["campaign"]


def is_sent_on(row: Mapping[str, Any], sent_at: int | None) -> bool:
    """Returns whether the recipient's last mail was sent on the UTC day of the campaign's time of sending."""
    return sent_at is not None and row["last_mail_day"] == iso_day(sent_at // DAY)


def _of_campaign(row: Mapping[str, Any], sent_at: int | None = None) -> Iterator[Event]:
    campaign = row["campaign"]
    if sent_at is not None and is_sent_on(row, sent_at):
        yield Event(iso(sent_at), "Mailing sent", campaign)
    elif row["last_mail_day"]:
        yield Event(row["last_mail_day"], "Mail sent", campaign)
    if row["consent_ref"]:
        version, _, time = row["consent_ref"].rpartition("@")
        yield Event(time, f"Consented to the notice {version}", campaign)
    if not row["opens"]:
        return
    is_single = row["first_open"] == row["last_open"]
    label = "Opened" if is_single else "First open"
    yield Event(row["first_open"], f"{label}{_comma_by(row, 'first')}", campaign)
    if row["first_open_person"] not in (None, row["first_open"], row["last_open"]):
        yield Event(row["first_open_person"], "First open by a person", campaign)
    between = (None, row["first_open"], row["last_open"], row["first_open_person"])
    if row["last_open_person"] not in between:
        yield Event(row["last_open_person"], "Last open by a person", campaign)
    if not is_single:
        yield Event(row["last_open"], f"Last open of {row['opens']:,}{_comma_by(row, 'last')}", campaign)


def _comma_by(row: Mapping[str, Any], which: str) -> str:
    by = opened_by(row, which)
    return f", {by}" if by else ""


def delay(row: Mapping[str, Any], sent_at: int | None) -> str:
    """Returns how long after sending a person first opened: `"about 1 d 10 h after the mailing was sent"`.

    sent_at: time of sending of the campaign, seconds, or None if it is not set. The stored delay names only a
    range of times. If it fits the time of sending, the time between the two instants is exact. Otherwise this
    recipient's mail was sent at a time of its own, and the text is the range: `"about 1 d 9 h to 1 d 12 h
    after this recipient's own mail was sent"`. Returns "" if the delay is not known.
    """
    if row["time_to_open"] is None:
        return ""
    first, last = histogram.delay_bounds(row["time_to_open"])
    if sent_at is not None:
        seconds = datetime.fromisoformat(row["first_open_person"]).timestamp() - sent_at
        if first - 1 <= seconds <= last + 1:
            return f"about {formatting.span(seconds)} after the mailing was sent"
    ends = list(dict.fromkeys(formatting.span(each) for each in (first, last)))
    return f"about {' to '.join(ends)} after this recipient's own mail was sent"


def opened_by(row: Mapping[str, Any], which: str) -> str:
    """Returns who made an open: `"by a person"`, `"by a machine"`, or "" if it is not known.

    which: `first` or `last`.
    """
    if row[f"{which}_open_person"] == row[f"{which}_open"]:
        return "by a person"
    machines = row["opens_prefetch"] + row["opens_scanner"]
    return "by a machine" if machines + row["opens_person"] == row["opens"] else ""
