"""The timeline of one recipient: everything that is stored with its time, over all campaigns. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

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


def events(stored: Mapping[str, Any]) -> list[Event]:
    """Returns all events of a recipient, the newest first. stored: as `api.recipients.show` returns it."""
    found = [event for row in stored["campaigns"] for event in _of_campaign(row)]
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


def _of_campaign(row: Mapping[str, Any]) -> Iterator[Event]:
    campaign = row["campaign"]
    if row["last_mail_day"]:
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


def opened_by(row: Mapping[str, Any], which: str) -> str:
    """Returns who made an open: `"by a person"`, `"by a machine"`, or "" if it is not known.

    which: `first` or `last`.
    """
    if row[f"{which}_open_person"] == row[f"{which}_open"]:
        return "by a person"
    machines = row["opens_prefetch"] + row["opens_scanner"]
    return "by a machine" if machines + row["opens_person"] == row["opens"] else ""
