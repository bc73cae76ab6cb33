"""The form of a campaign: its fields as text, and back to what the API takes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from pixel_server.campaigns.campaign import WEB_ONLY, Campaign
from pixel_server.dashboard import forms
from pixel_server.settings import time_zones

MODES = {
    "off": "Nothing. No pixel is made, and of mails already sent nothing is counted.",
    "count": "That there was a hit and an open. Nobody is told apart.",
    "last": "As count, and of each recipient the day of the last open in any campaign.",
    "pseudonymous": "A hash of each recipient, with first and last open and how many.",
    "identified": "As pseudonymous, and the recipients and names of a list that you upload.",
}
"""What each keeps of a recipient."""
WEB_MODES = {
    "off": "Nothing; nothing is counted.",
    "count": "That there was a view. Visitors are not told apart.",
    "last": "As count: a web site has no recipients.",
    "pseudonymous": "Visitors are told apart, as the identity says.",
    "identified": "As pseudonymous: a web site has no list of names.",
}
MAIL_ONLY = ("last", "identified")
"""Modes that are another one's of a web site."""
IDENTITIES = {
    "cookieless": "One address and browser on one day. Nothing is stored in the browser.",
    "cookie": "A signed cookie, for at most 13 months, once the page says that its reader agreed.",
    "own": "The id that your page gives, kept hashed.",
}
SIGNALS = {
    "ignore": "Ignore it",
    "count": "Count it, keep nothing of who it was",
    "drop": "Keep nothing, do not count",
}
KEPT = {
    "buckets": "15-minute series",
    "days": "Daily series",
    "recipients": "Single recipients",
    "names": "Uploaded names",
}
_TEXTS = ("id", "name", "kind", "mode", "identity")
_OF_MAIL = ("sent", "bounced", "sent_at", "keep_recipients", "keep_names")


def texts(campaign: Campaign) -> dict[str, str]:
    """Each field as it stands in the form. Only those of the campaign's kind."""
    shown = {
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
        **{f"keep_{kind}": _number(campaign.keep.get(kind)) for kind in KEPT},
    }
    other = WEB_ONLY if campaign.kind == "email" else _OF_MAIL
    return {name: text for name, text in shown.items() if name not in other}


def content(fields: Mapping[str, str], zone: str) -> dict[str, Any]:
    """What the API takes, of fields that were filled in; those that are not there are left out.

    zone: where the time of sending is meant, unless it has an offset.
    """
    found: dict[str, Any] = {name: fields[name].strip() for name in (*_TEXTS, "time_zone") if name in fields}
    for name in ("sent", "bounced", "min_cell"):
        if name in fields:
            found[name] = forms.whole(fields[name])
    if found.get("bounced", 0) is None:
        found["bounced"] = 0
    for name in ("base_url", "gpc"):
        if name in fields:
            found[name] = fields[name].strip() or None
    if "origins" in fields:
        found["origins"] = forms.lines(fields["origins"])
    if "sent_at" in fields:
        found["sent_at"] = _instant(fields["sent_at"].strip(), zone)
    days = {kind: forms.whole(fields[f"keep_{kind}"]) for kind in KEPT if f"keep_{kind}" in fields}
    if days:
        found["keep"] = {kind: value for kind, value in days.items() if value is not None}
    return found


def of_kind(fields: Mapping[str, str], kind: str) -> dict[str, str]:
    """Without the fields that only the other kind has: in a new campaign's form both stand."""
    other = {"email": WEB_ONLY, "web": _OF_MAIL}.get(kind, ())
    return {name: text for name, text in fields.items() if name not in other}


def changes(campaign: Campaign, fields: Mapping[str, str]) -> dict[str, Any]:
    """What the API takes, of the fields that are not as they were."""
    were = texts(campaign)
    before = content({name: were[name] for name in fields if name in were}, campaign.time_zone)
    after = content(fields, fields.get("time_zone", campaign.time_zone))
    return {name: value for name, value in after.items() if name not in before or before[name] != value}


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def _local(at: int | None, zone: ZoneInfo) -> str:
    """As `<input type=datetime-local>` has it; seconds only where there are some."""
    if at is None:
        return ""
    here = datetime.fromtimestamp(at, UTC).astimezone(zone).replace(tzinfo=None)
    return here.isoformat(timespec="seconds" if here.second else "minutes")


def _instant(text: str, zone: str) -> str | None:
    """With its offset; what is no date and time stays as it is, to be refused."""
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
        known = zone if zone in time_zones() else "UTC"
        return (at if at.tzinfo else at.replace(tzinfo=ZoneInfo(known))).isoformat()
    except (ValueError, OverflowError):
        return text
