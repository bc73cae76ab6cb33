"""Converts a campaign to the texts of its form, and the form to the content of an API call. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from pixel_server.campaigns.campaign import WEB_ONLY, Campaign
from pixel_server.dashboard import forms
from pixel_server.settings import time_zones

MODES = {
    "off": "Nothing. No pixel is created, and opens of mails already sent are not counted.",
    "count": "Only the number of requests and opens. Recipients are not told apart.",
    "last": "The same as count, and for each recipient the day of the last open in any campaign.",
    "pseudonymous": "A hash of each recipient, the first and last open, and the number of opens.",
    "identified": "The same as pseudonymous, and the recipients and names of a list that you upload.",
}
"""What is stored about a recipient, by mode."""
WEB_MODES = {
    "off": "Nothing, and nothing is counted.",
    "count": "Only the number of views. Visitors are not told apart.",
    "last": "The same as count: a web site has no recipients.",
    "pseudonymous": "Visitors are told apart, in the way that the identity sets.",
    "identified": "The same as pseudonymous: a web site has no list of names.",
}
"""What is stored about a visitor, by mode."""
MAIL_ONLY = ("last", "identified")
"""Modes that are the same as another mode for a web site."""
IDENTITIES = {
    "cookieless": "By IP address and browser, for one day. Nothing is stored in the browser.",
    "cookie": "By a signed cookie, for at most 13 months, after the page reports that the visitor agreed.",
    "own": "By the id that your page gives. Only a hash of the id is stored.",
}
SIGNALS = {
    "ignore": "Ignore",
    "count": "Count, but store nothing about the person",
    "drop": "Do not count, and store nothing",
}
KEEP_LABELS = {
    "buckets": "15-minute series",
    "days": "Daily series",
    "recipients": "Recipients",
    "names": "Uploaded names",
}
_TEXTS = ("id", "name", "kind", "mode", "identity")
_MAIL_ONLY_FIELDS = ("sent", "bounced", "sent_at", "keep_recipients", "keep_names")


def texts(campaign: Campaign) -> dict[str, str]:
    """Returns the text of each field of the form, without the fields of the other kind."""
    fields = {
        "id": campaign.id,
        "name": campaign.name,
        "kind": campaign.kind,
        "sent": _number(campaign.sent),
        "bounced": _number(campaign.bounced or None),
        "sent_at": _local(campaign.sent_at, campaign.zone),
        "time_zone": campaign.time_zone,
        "base_url": campaign.base_url or "",
        "mode": campaign.mode,
        "gpc": campaign.gpc or "",
        "min_cell": str(campaign.min_cell),
        "identity": campaign.identity,
        "origins": "\n".join(campaign.origins),
        **{f"keep_{kind}": _number(campaign.keep.get(kind)) for kind in KEEP_LABELS},
    }
    other = WEB_ONLY if campaign.kind == "email" else _MAIL_ONLY_FIELDS
    return {name: text for name, text in fields.items() if name not in other}


def content(fields: Mapping[str, str], zone: str) -> dict[str, Any]:
    """Returns the content of an API call for the submitted fields. Missing fields are left out.

    zone: the time zone of the time of sending, unless that has an offset.
    """
    body: dict[str, Any] = {name: fields[name].strip() for name in (*_TEXTS, "time_zone") if name in fields}
    for name in ("sent", "bounced", "min_cell"):
        if name in fields:
            body[name] = forms.parse_whole(fields[name])
    if body.get("bounced", 0) is None:
        body["bounced"] = 0
    for name in ("base_url", "gpc"):
        if name in fields:
            body[name] = fields[name].strip() or None
    if "origins" in fields:
        body["origins"] = forms.lines(fields["origins"])
    if "sent_at" in fields:
        body["sent_at"] = _iso_instant(fields["sent_at"].strip(), zone)
    days = {
        kind: forms.parse_whole(fields[f"keep_{kind}"]) for kind in KEEP_LABELS if f"keep_{kind}" in fields
    }
    if days:
        body["keep"] = {kind: value for kind, value in days.items() if value is not None}
    return body


def of_kind(fields: Mapping[str, str], kind: str) -> dict[str, str]:
    """Returns the fields without those of the other kind. A new form has the fields of both."""
    other = {"email": WEB_ONLY, "web": _MAIL_ONLY_FIELDS}.get(kind, ())
    return {name: text for name, text in fields.items() if name not in other}


def changes(campaign: Campaign, fields: Mapping[str, str]) -> dict[str, Any]:
    """Returns the content of an API call for the fields that were changed."""
    old = texts(campaign)
    before = content({name: old[name] for name in fields if name in old}, campaign.time_zone)
    after = content(fields, fields.get("time_zone", campaign.time_zone))
    return {name: value for name, value in after.items() if name not in before or before[name] != value}


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def _local(at: int | None, zone: ZoneInfo) -> str:
    """Returns the value of an `<input type=datetime-local>`: `"2026-11-24T09:30"`."""
    if at is None:
        return ""
    local = datetime.fromtimestamp(at, UTC).astimezone(zone).replace(tzinfo=None)
    return local.isoformat(timespec="seconds" if local.second else "minutes")


def _iso_instant(text: str, zone: str) -> str | None:
    """Returns the time with its offset. Returns an invalid time unchanged, so that the API refuses it."""
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
        known_zone = zone if zone in time_zones() else "UTC"
        return (at if at.tzinfo else at.replace(tzinfo=ZoneInfo(known_zone))).isoformat()
    except (ValueError, OverflowError):
        return text
