"""A campaign: its record, the table of the fields that a sender sets, and the codec of stored records."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Any, Literal, NamedTuple, get_args
from zoneinfo import ZoneInfo

import msgspec

from pixel_server import consent
from pixel_server.campaigns.tags import MAX_TAG_CHARACTERS, MAX_TAGS
from pixel_server.logs import Log
from pixel_server.settings import GPC_EFFECTS, GpcEffect, cookie_path
from pixel_server.times import MAX_SECONDS, iso
from pixel_server.tokens import MODES, Mode

log = Log(__name__)

Kind = Literal["email", "web"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Identity = Literal["cookieless", "cookie", "own"]
"""Property by which a web campaign recognises a visitor: a daily hash of address and user agent, a cookie, or
the page's own id. If the visitor has not agreed to a cookie, `cookie` falls back to `cookieless`."""
IDENTITIES: tuple[Identity, ...] = get_args(Identity)
Paths = Literal["exact", "folded"]
"""Names of a web campaign's pages: the path as it is, or without a slash and `index.html` at its end."""
PATHS: tuple[Paths, ...] = get_args(Paths)
Preset = Literal["deliverability", "aggregate", "consented"]
"""Choice of what is kept of recipients that follows a text of law; see docs/law.md."""
PRESET_MODES: dict[str, tuple[str, ...]] = {
    "deliverability": ("last",),
    "aggregate": ("count",),
    "consented": ("pseudonymous", "identified"),
}
"""Modes that a campaign of each preset can have. A new campaign gets the first."""
PRESETS: tuple[Preset, ...] = get_args(Preset)
DATA_KINDS = ("buckets", "days", "recipients", "names")
"""Kinds of data that are kept for a number of days: 15-minute series, daily series, recipients, names."""
DEFAULT_MIN_CELL = 5
MAX_NAME_CHARACTERS = 200
MAX_MAILS = 10**9
MAX_ORIGINS = 100


class Removal(msgspec.Struct, frozen=True, kw_only=True):
    """Data of a campaign that retention removes. A record has one Removal that is due and one that is done.

    buckets: time (s) before which 15-minute series are removed. days: day (`"20261124"`) before which daily
    series are removed. recipients, names: whether these are removed.
    """

    buckets: int = 0
    days: str = ""
    recipients: bool = False
    names: bool = False


class Campaign(msgspec.Struct, frozen=True, kw_only=True):
    """A campaign as the store holds it, in JSON. FIELDS explains the fields that a sender sets.

    Times are seconds since 1970. made_by: `hit` if a hit with a valid token came before anyone created the
    campaign; `demo` if all its data are made up. closed_at: time from which hits are counted, but nothing is
    stored of recipients. leaving: the Removal that is due; readers treat its data as removed. gone: the
    Removal that is done.
    """

    id: str
    name: str
    kind: Kind
    sent: int | None = None
    bounced: int = 0
    time_zone: str = "UTC"
    base_url: str | None = None
    mode: str = "pseudonymous"
    preset: Preset | None = None
    gpc: GpcEffect | None = None
    identity: Identity = "cookieless"
    origins: tuple[str, ...] = ()
    paths: Paths = "exact"
    min_cell: int = DEFAULT_MIN_CELL
    sent_at: int | None = None
    keep: dict[str, int] = {}
    tags: tuple[str, ...] = ()
    closed_at: int | None = None
    created: int = 0
    made_by: Literal["api", "hit", "demo"] = "api"
    leaving: Removal = Removal()
    gone: Removal = Removal()

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)


class Field(NamedTuple):
    """A field of a campaign that its sender sets.

    type: type of its values in the API, on the form and on the command line. label: its name on the form.
    help: its meaning in one or two sentences, for the API and the command line. kinds: kinds of campaign that
    have the field. choices: values of a `mode` or `choice`, and kinds of data of `days_by_kind`. minimum,
    maximum: limits of an `integer`. is_nullable: whether null stands for "not set". is_fixed: whether the
    field cannot change after the first hit. is_audited: whether a change affects what is kept of people, and
    so goes to the audit log.
    """

    name: str
    type: Literal[
        "text", "integer", "instant", "time_zone", "url", "mode", "choice", "days_by_kind", "origins", "tags"
    ]
    label: str
    help: str
    kinds: tuple[Kind, ...] = KINDS
    choices: tuple[str, ...] = ()
    minimum: int = 0
    maximum: int = 0
    is_nullable: bool = False
    is_fixed: bool = False
    is_audited: bool = False


FIELDS = (
    Field("name", "text", "Name", "Name of the campaign, for people."),
    Field(
        "tags",
        "tags",
        "Tags",
        f"Texts to group and find campaigns by: at most {MAX_TAGS}, each of at most {MAX_TAG_CHARACTERS} "
        "characters, without commas. Upper and lower case are the same tag.",
    ),
    Field(
        "sent",
        "integer",
        "Sent",
        "Number of mails sent.",
        kinds=("email",),
        maximum=MAX_MAILS,
        is_nullable=True,
    ),
    Field(
        "bounced",
        "integer",
        "Bounced",
        "Number of mails that came back.",
        kinds=("email",),
        maximum=MAX_MAILS,
    ),
    Field(
        "sent_at",
        "instant",
        "Sent at",
        "Time of sending, as 2026-11-24T09:00:00Z. Days to keep recipients and names count from then.",
        kinds=("email",),
        is_nullable=True,
        is_audited=True,
    ),
    Field(
        "time_zone",
        "time_zone",
        "Time zone",
        "Time zone of the days that are counted, as Europe/Berlin. Fixed after the first hit.",
        is_fixed=True,
    ),
    Field(
        "base_url",
        "url",
        "Base URL",
        "Start of the campaign's links, perhaps with a path. Replaces PIXEL_BASE_URL.",
        is_nullable=True,
    ),
    Field(
        "mode",
        "mode",
        "Mode",
        "Upper limit of what is kept of a recipient. Can only be lowered after the first hit or link.",
        choices=MODES,
        is_audited=True,
    ),
    Field(
        "preset",
        "choice",
        "Preset",
        "What is kept of recipients under a text of law, and so the mode: deliverability (mode last), "
        "aggregate (mode count) or consented (each recipient with a consent_ref). Chosen for a new campaign. "
        "It can only be dropped later.",
        kinds=("email",),
        choices=PRESETS,
        is_nullable=True,
        is_audited=True,
    ),
    Field(
        "gpc",
        "choice",
        "Requests not to be tracked",
        "Effect of `Sec-GPC: 1` and `DNT: 1`. Replaces PIXEL_GPC.",
        choices=GPC_EFFECTS,
        is_nullable=True,
        is_audited=True,
    ),
    Field(
        "keep",
        "days_by_kind",
        "Retention",
        "Days to keep each kind of data. Applies where it is less than PIXEL_KEEP_DAYS_*.",
        choices=DATA_KINDS,
        is_audited=True,
    ),
    Field(
        "min_cell",
        "integer",
        "Smallest shared figure",
        "Smallest number of visits (for mail: opens) of a day that share links and shared keys show.",
        minimum=1,
        maximum=1000,
    ),
    Field(
        "identity",
        "choice",
        "Identity",
        "Property by which a visitor is known: a daily hash of address and user agent (cookieless), a cookie "
        "where the page has consent, or the page's own id. Fixed after the first hit.",
        kinds=("web",),
        choices=IDENTITIES,
        is_fixed=True,
        is_audited=True,
    ),
    Field(
        "origins",
        "origins",
        "Origins",
        "Origins of pages that may send with p.js, as https://www.example.org, or https://*.example.org for "
        "all subdomains. Without origins, all pages may send.",
        kinds=("web",),
    ),
    Field(
        "paths",
        "choice",
        "Paths",
        "Names under which pages are counted from now on: the path as it is (exact), or without a slash, "
        "index.html, index.htm or index.php at its end (folded).",
        kinds=("web",),
        choices=PATHS,
    ),
)
"""Table of the fields that a sender sets. The API, its OpenAPI document, the form and the commands follow it;
`tests/campaigns/test_campaign.py` checks that the record and the documents match it."""

EMAIL_ONLY = tuple(field.name for field in FIELDS if field.kinds == ("email",))
WEB_ONLY = tuple(field.name for field in FIELDS if field.kinds == ("web",))
_FIXED = tuple(field.name for field in FIELDS if field.is_fixed)


class Uses(NamedTuple):
    """Times at which a campaign was used, in seconds, or 0 for never.

    last_link: last time at which links were made. last_upload: last time at which recipients were uploaded.
    """

    first_hit: int
    last_link: int
    last_upload: int


class UnfitField(ValueError):
    """A field does not apply to campaigns of this kind, or contradicts another field."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class UnreadableCampaign(ValueError):
    """This version cannot read the record: a newer version wrote the record, or it is damaged."""

    is_loggable = True

    def __init__(self, campaign: str, reason: str) -> None:
        super().__init__(
            f"the record of campaign {campaign!r} cannot be read ({reason}), and is left as it is"
        )
        self.campaign = campaign


def new_campaign(
    id: str,  # noqa: A002 - the field's own name
    name: str,
    kind: Kind,
    sent: int | None = None,
    *,
    created: float | None = None,
    **fields: Any,
) -> Campaign:
    """Returns a new campaign. created: seconds, by default now by this machine's clock.

    fields: other fields of `Campaign`.
    """
    at = int(time.time() if created is None else created)
    return Campaign(id=id, name=name, kind=kind, sent=sent, created=at, **fields)


def set_mode(fields: dict[str, Any], limits: consent.Consent) -> None:
    """Adds the mode to the fields of a new campaign if they have none: the preset's mode, or the server's.

    Raises UnfitField if this server keeps less than the preset needs.
    """
    preset = fields.get("preset")
    if "mode" in fields or preset is None:
        fields.setdefault("mode", limits.default.mode.name.lower())
        return
    mode = PRESET_MODES[preset][0]
    try:
        fields["mode"] = limits.check(mode)
    except ValueError as error:
        raise UnfitField("preset", f"the preset {preset} needs the mode {mode}, which {error}") from None


def refuse_unfit(kind: str, fields: Iterable[str], campaign: Campaign) -> None:
    """Raises the first of `unfit_fields`, if there are any."""
    for error in unfit_fields(kind, fields, campaign):
        raise error


def unfit_fields(kind: str, fields: Iterable[str], campaign: Campaign) -> Iterator[UnfitField]:
    """Yields an error for each field that does not apply to this kind of campaign or contradicts another.

    fields: names of the fields that were set. campaign: the campaign with these fields set.
    """
    fields = set(fields)
    if kind == "email" and (unfit := sorted(fields.intersection(WEB_ONLY))):
        yield UnfitField(unfit[0], f"{' and '.join(WEB_ONLY)} are for web campaigns")
    if kind == "web":
        for name in EMAIL_ONLY:
            if getattr(campaign, name) and name in fields:
                yield UnfitField(name, f"{' and '.join(EMAIL_ONLY)} are for mail campaigns")
    if not _follows_preset(campaign) and {"mode", "preset"} & fields:
        modes = " or ".join(PRESET_MODES[campaign.preset]) if campaign.preset else ""
        detail = f"the preset {campaign.preset} goes with the mode {modes}: choose that mode, or no preset"
        yield UnfitField("mode" if "mode" in fields else "preset", detail)
    if campaign.sent is not None and campaign.bounced > campaign.sent and {"sent", "bounced"} & fields:
        detail = (
            f"no more mails can come back than were sent: {campaign.bounced} bounced, {campaign.sent} sent"
        )
        yield UnfitField("bounced", detail)


def refuse_new_preset(before: Campaign, after: Campaign) -> None:
    """Raises UnfitField if a change gives an existing campaign a preset: it may have kept more until now."""
    if after.preset not in (before.preset, None):
        raise UnfitField(
            "preset", "a preset is chosen when a campaign is created, and can only be dropped later"
        )


def _follows_preset(campaign: Campaign) -> bool:
    """Returns whether the campaign has no preset, or a mode of its preset."""
    return campaign.preset is None or campaign.mode in PRESET_MODES[campaign.preset]


def changes_fixed_field(before: Campaign, after: Campaign) -> bool:
    """Returns whether a change touches a field that cannot change after the first hit."""
    return any(getattr(before, name) != getattr(after, name) for name in _FIXED)


def raises_mode(before: Campaign, after: Campaign) -> bool:
    """Returns whether a change raises what is kept of recipients, which is refused after a hit or link.

    A campaign that drops the preset `consented` keeps more of recipients without a consent, unless its mode
    becomes `count` or `off`.
    """
    mode = consent.mode_named(after.mode)
    drops_consents = before.preset == "consented" and after.preset is None
    return mode > (Mode.COUNT if drops_consents else consent.mode_named(before.mode))


def campaign_json(campaign: Campaign) -> dict[str, Any]:
    """Returns the campaign as the API shows it."""
    shown: dict[str, Any] = msgspec.to_builtins(campaign)
    for name in ("created", "sent_at", "closed_at"):
        if shown[name] is not None:
            shown[name] = iso(shown[name])
    del shown["leaving"], shown["gone"]
    if campaign.kind == "email":
        shown |= dict.fromkeys(WEB_ONLY)
    return shown


encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Campaign).decode


def decode(record: Any, campaign: str) -> Campaign:
    """Returns the campaign of a stored record. Raises UnreadableCampaign if this version cannot read it."""
    try:
        decoded = _decode(record)
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
        raise UnreadableCampaign(campaign, str(error)[:200] or type(error).__name__) from None
    if fault := _fault(decoded, campaign):
        raise UnreadableCampaign(campaign, fault)
    # A version that does not know presets, or a saved mode of another host, may have changed the mode.
    return decoded if _follows_preset(decoded) else msgspec.structs.replace(decoded, preset=None)


def _fault(decoded: Campaign, campaign: str) -> str:
    """Returns the first reason why this version cannot use a decoded record, or ""."""
    if decoded.id != campaign:
        return "it is another campaign's"
    if decoded.mode not in MODES:
        return "unknown mode"
    if not _is_zone(decoded.time_zone):
        return "unknown time zone"
    times = (decoded.created, decoded.sent_at or 0, decoded.closed_at or 0)
    if min(times) < 0 or max(times) > MAX_SECONDS:
        return "a time out of range"
    if decoded.base_url is not None:
        try:
            cookie_path(decoded.base_url)
        except ValueError:
            return "a base URL that is not a URL"
    return ""


@lru_cache(1024)
def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (OSError, ValueError, LookupError):
        return False
    return True


def decode_readable_fields(record: Any, campaign: str, kind: Kind) -> Campaign:
    """Returns a campaign made from the readable fields of a record that `decode` refuses.

    The campaign's hits are still counted. kind: kind of these hits. An unreadable time zone becomes UTC. An
    unreadable mode becomes `count`, so that nothing is kept of recipients.
    """
    try:
        stored = msgspec.json.decode(record)
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError):
        stored = None
    fields: dict[str, Any] = {"id": campaign, "name": campaign, "kind": kind, "mode": "count"}
    for name, value in stored.items() if isinstance(stored, dict) else ():
        if name in ("id", "name"):
            continue
        with suppress(UnreadableCampaign):
            decode(encode({**fields, name: value}), campaign)
            fields[name] = value
    return decode(encode(fields), campaign)


def encode_change(record: bytes, after: Campaign) -> bytes:
    """Returns the changed record. Keeps the fields of the stored record that only a newer version knows."""
    return encode({**msgspec.json.decode(record), **msgspec.to_builtins(after)})


_reported: set[tuple[str, str]] = set()


def report_unreadable(error: UnreadableCampaign) -> None:
    """Logs an unreadable record, once in each process."""
    report = (error.campaign, str(error))
    if len(_reported) < 10_000 and report not in _reported:
        _reported.add(report)
        log.error(
            "campaign-unreadable",
            "%(error)s; hits are recorded with what is still known of the campaign: update this server",
            campaign=error.campaign,
            error=error,
        )
