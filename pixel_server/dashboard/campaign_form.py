"""Converts a campaign to the texts of its form, and the form to the content of an API call. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from pixel_server.api.fields import with_offset
from pixel_server.campaigns.campaign import EMAIL_ONLY, FIELDS, PRESET_MODES, WEB_ONLY, Campaign, Field
from pixel_server.campaigns.tags import SEPARATOR
from pixel_server.dashboard import forms
from pixel_server.settings import time_zones

MODES = {
    "off": "Nothing. No pixel is created, and opens of mails already sent are not counted.",
    "count": "Only the number of requests and opens. Recipients are not told apart.",
    "last": "Only the number of opens, and of each recipient the day of the last open in any campaign.",
    "pseudonymous": "A hash of each recipient, the first and last open, and the number of opens.",
    "identified": "Recipients and names of a list that you upload, first and last open, and number of opens.",
}
"""Texts that say what is stored about a recipient, by mode."""
MAIN_MODES = {
    "identified": "Addresses and names of a list that you upload. You must tell your recipients.",
    "pseudonymous": "How each recipient opens, under a key in place of the address.",
    "count": "Only numbers. Recipients are not told apart.",
}
"""Texts of the modes that the form for a new campaign offers first: what the sender sees of a recipient."""
SAMPLES = {
    "identified": "ada@example.org opened 2 times",
    "pseudonymous": "Recipient 810aea0d opened 2 times",
    "count": "540 opens, nobody named",
}
"""One row of what the sender sees with each of these modes."""
NO_ANSWER = "choose an answer"
"""Error message if neither an answer nor a preset sets the mode of a new mailing."""
WEB_MODE = "web_mode"
"""Name of the field with the mode of a new web site. The form for a new campaign has both kinds of modes."""
MODE_NAMES = {
    "identified": "Yes, with addresses",
    "pseudonymous": "No, only keys",
    "last": "No, only the last day",
    "count": "No, only numbers",
    "off": "No, and count nothing",
}
"""Names of the modes of a mailing: answers to QUESTION."""
WEB_MODE_NAMES = {
    "identified": "Visitors, told apart",
    "pseudonymous": "Visitors, told apart",
    "last": "Only numbers",
    "count": "Only numbers",
    "off": "Nothing",
}
"""Names of the modes of a web site: answers to WEB_QUESTION."""
KIND_NAMES = {"email": "Mailing", "web": "Web site"}
"""Names of the kinds of campaign on pages."""
WEB_MODES = {
    "off": "Nothing, and nothing is counted.",
    "count": "Only the number of views. Visitors are not told apart.",
    "last": "Only the number of views. A web site has no recipients whose last open could be stored.",
    "pseudonymous": "Visitors are told apart, in the way that the identity sets.",
    "identified": "Visitors are told apart, in the way that the identity sets. A web site has no names.",
}
"""Texts that say what is stored about a visitor, by mode."""
MAIL_ONLY_MODES = ("last", "identified")
"""Modes that, for a web site, mean the same as another mode."""
PRESETS = {
    "deliverability": "Only the day of the last open of a recipient",
    "aggregate": "Only counts, by pixels that are the same for all",
    "consented": "Opens of recipients whose consent is on record",
}
"""Texts that say what a campaign of each preset stores."""
PATH_NAMES = {"exact": "As they are", "folded": "Folded"}
PATHS = {
    "exact": "/tea, /tea/ and /tea/index.html are three pages.",
    "folded": "/tea, /tea/ and /tea/index.html are one page, /tea.",
}
IDENTITY_NAMES = {"cookieless": "Without a cookie", "cookie": "By a cookie", "own": "By your own id"}
IDENTITIES = {
    "cookieless": "By IP address and browser, for one day. Nothing is stored in the browser.",
    "cookie": "By a signed cookie, for at most 13 months, after the page reports that the visitor agreed.",
    "own": "By the id that your page gives. Only a hash of the id is stored.",
}
GPC_EFFECTS = {
    "ignore": "Ignore",
    "count": "Count without personal data",
    "drop": "Do not count",
}
KEEP_LABELS = {
    "buckets": "15-minute series",
    "days": "Daily series",
    "recipients": "Recipients",
    "names": "Uploaded names",
}
_EMAIL_KEPT = ("recipients", "names")
"""Kinds of data that only a mail campaign has."""


def _control_id(field: Field) -> str:
    """Returns the id of the field's first control: `mode-off` or `keep_buckets`."""
    if field.type == "days_by_kind":
        return f"{field.name}_{field.choices[0]}"
    is_radio = field.type in ("mode", "choice") and not field.is_nullable
    return f"{field.name}-{field.choices[0]}" if is_radio else field.name


LABELS = {
    "id": ("Id", "id"),
    "kind": ("Kind", "kind-email"),
    **{field.name: (field.label, _control_id(field)) for field in FIELDS},
}
"""Label of each field of the form, and the id of its first control."""
_ORDER_OF_REST = (
    *("bounced", "sent_at", "identity", "origins", "paths", "preset", "mode", "gpc", "keep"),
    *("time_zone", "tags", "base_url", "min_cell"),
)
ORDER = "name", "sent", *_ORDER_OF_REST, "id", "kind"
"""Fields of the form for a campaign that exists, in the order of the page."""
ORDER_OF_NEW = "kind", "name", "sent", "mode", "id", *(name for name in _ORDER_OF_REST if name != "mode")
"""Fields of the form for a new campaign, in the order of the page."""
QUESTION = "Do you want to see who opened?"
WEB_QUESTION = "What is stored about visitors?"


def labels(is_web: bool) -> dict[str, tuple[str, str]]:
    """Returns LABELS in the order of the form for a campaign that exists, with the question for the mode."""
    mode = WEB_QUESTION if is_web else QUESTION, LABELS["mode"][1]
    return {name: mode if name == "mode" else LABELS[name] for name in ORDER}


def labels_of_new(is_web: bool, modes: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Returns LABELS in the order of the form for a new campaign, which asks for the mode.

    modes: that can be chosen first.
    """
    mode = (WEB_QUESTION, f"{WEB_MODE}-off") if is_web else (QUESTION, f"mode-{next(iter(modes), 'off')}")
    return {name: mode if name == "mode" else LABELS[name] for name in ORDER_OF_NEW}


def main_modes(default: str, chosen: str) -> dict[str, str]:
    """Returns the texts of the modes that the form for a new campaign offers first.

    They include the server's default mode and the chosen mode ("" if none is chosen).
    """
    more = {name: MODES[name] for name in (default, chosen) if name in MODES and name not in MAIN_MODES}
    return {**MAIN_MODES, **more}


def web_modes(current: str) -> dict[str, str]:
    """Returns the texts of the modes that a web site can choose, and of its current mode."""
    return {name: text for name, text in WEB_MODES.items() if name not in MAIL_ONLY_MODES or name == current}


def texts(campaign: Campaign) -> dict[str, str]:
    """Returns the text of each field of a campaign's form. Leaves out fields of the other kind."""
    texts = {"id": campaign.id, "kind": campaign.kind}
    for field in FIELDS:
        if campaign.kind in field.kinds:
            texts |= _texts_of(field, getattr(campaign, field.name), campaign)
    return texts


def _texts_of(field: Field, value: Any, campaign: Campaign) -> dict[str, str]:
    if field.type == "days_by_kind":
        kinds = [kind for kind in field.choices if campaign.kind == "email" or kind not in _EMAIL_KEPT]
        return {f"{field.name}_{kind}": _number(value.get(kind)) for kind in kinds}
    if field.type == "integer":
        return {field.name: _number(value or None if _empty_means_zero(field) else value)}
    if field.type == "instant":
        return {field.name: _local_text(value, campaign.zone)}
    if field.type == "origins":
        return {field.name: "\n".join(value)}
    if field.type == "tags":
        return {field.name: ", ".join(value)}
    return {field.name: value or ""}


def _empty_means_zero(field: Field) -> bool:
    """Returns whether an empty text stands for 0, because null is not a value of the field."""
    return not field.is_nullable and field.minimum == 0


def content(fields: Mapping[str, str], zone: str) -> dict[str, Any]:
    """Returns the content of an API call for the submitted fields. Missing fields are left out.

    zone: the time zone of `sent_at`, if the text of `sent_at` has no offset.
    """
    body: dict[str, Any] = {name: fields[name].strip() for name in ("id", "kind") if name in fields}
    for field in FIELDS:
        if field.type == "days_by_kind":
            names = {kind: f"{field.name}_{kind}" for kind in field.choices}
            days = {kind: forms.parse_whole(fields[name]) for kind, name in names.items() if name in fields}
            if days:
                body[field.name] = {kind: value for kind, value in days.items() if value is not None}
        elif field.name in fields:
            body[field.name] = _value_of(field, fields[field.name], zone)
    return body


def _value_of(field: Field, text: str, zone: str) -> Any:
    """Returns a field's value as the API takes it. Returns an invalid text unchanged: the API refuses it."""
    if field.type == "integer":
        number = forms.parse_whole(text)
        return 0 if number is None and _empty_means_zero(field) else number
    if field.type == "instant":
        return _iso_instant(text.strip(), zone)
    if field.type == "origins":
        return forms.lines(text)
    if field.type == "tags":
        return [tag.strip() for tag in text.split(SEPARATOR) if tag.strip()]
    return text.strip() or (None if field.is_nullable else "")


def of_kind(fields: Mapping[str, str], kind: str) -> dict[str, str]:
    """Returns the fields of one kind. The form for a new campaign has the fields of both kinds."""
    mail_retention = tuple(f"keep_{data}" for data in _EMAIL_KEPT)
    other_fields = {"email": WEB_ONLY, "web": (*EMAIL_ONLY, *mail_retention, "mode")}.get(kind, ())
    found = {name: text for name, text in fields.items() if name not in other_fields}
    if kind == "web" and WEB_MODE in fields:
        found["mode"] = fields[WEB_MODE]
    return found


def with_mode_of_preset(content: dict[str, Any]) -> dict[str, Any]:
    """Returns the content for a new mailing, with an empty mode if neither an answer nor a preset sets it.

    The preset wins over an answer that it does not allow.
    """
    content = {"mode": "", **content}
    modes = PRESET_MODES.get(content.get("preset") or "")
    if modes is None or content["mode"] in modes:
        return content
    del content["mode"]
    return content


def changes(campaign: Campaign, fields: Mapping[str, str]) -> dict[str, Any]:
    """Returns the content of an API call for the fields that were changed."""
    old = texts(campaign)
    before = content({name: old[name] for name in fields if name in old}, campaign.time_zone)
    after = content(fields, fields.get("time_zone", campaign.time_zone))
    return {name: value for name, value in after.items() if name not in before or before[name] != value}


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def _local_text(at: int | None, zone: ZoneInfo) -> str:
    """Returns the value of an `<input type=datetime-local>`: `"2026-11-24T09:30"`."""
    if at is None:
        return ""
    local = datetime.fromtimestamp(at, UTC).astimezone(zone).replace(tzinfo=None)
    return local.isoformat(timespec="seconds" if local.second else "minutes")


def _iso_instant(text: str, zone: str) -> str | None:
    """Returns the time with its offset, or None if the text is empty."""
    return with_offset(text, ZoneInfo(zone if zone in time_zones() else "UTC")) if text else None
