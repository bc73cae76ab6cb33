"""Puts the pixel into a mail on its way, by the fields `X-Pixel-Campaign` and `X-Pixel-Mode`. Pure."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import NamedTuple

from pixel_server.logs import Log
from pixel_server.mail.links import Minter, parse_mode
from pixel_server.mail.message import add_pixel_to_bytes
from pixel_server.mail.placement import AlreadyThere, EmbedError, TooLarge
from pixel_server.mail.sealed import Refused
from pixel_server.relay.numbers import Reason
from pixel_server.slug import is_slug
from pixel_server.tokens import Mode

log = Log(__name__)

CAMPAIGN_FIELD, MODE_FIELD = b"x-pixel-campaign", b"x-pixel-mode"
_SIGNATURES = (b"dkim-signature", b"arc-message-signature")
"""Fields that sign other fields, so that no field may be taken out."""
MAX_TEXT_BYTES, MAX_HEADER_BYTES, MAX_PARTS = 500_000, 256_000, 5_000
"""Sizes of a mail above which it gets no pixel. So adding a pixel takes seconds at most, whatever a client
sends. Parts are counted by lines that begin with two dashes."""
_field = re.compile(rb"([!-9;-~]+)[ \t]*:([^\n]*\n(?:[ \t][^\n]*\n)*+)").match


class NoMinter(ValueError):
    """No link can be made for a campaign. The text says why, and names the campaign at most."""

    is_loggable = True


class Rules(NamedTuple):
    """How mails get their pixel.

    campaign: the campaign of a mail that names none, or None. minter_of: returns the minter of a campaign; it
    raises NoMinter.
    """

    campaign: str | None
    minter_of: Callable[[str], Minter]


class Prepared(NamedTuple):
    """A mail as it goes on. why_without: why it has no pixel, or "". reason: the same in a word, or None."""

    raw: bytes
    why_without: str = ""
    reason: Reason | None = None


class _Fields(NamedTuple):
    """Instructions in a mail's header. bare: the mail without the fields. modes, campaigns: their values.

    header_bytes: size of the header.
    """

    bare: bytes
    header_bytes: int
    campaigns: set[str]
    modes: set[str]
    is_signed: bool


def prepare(raw: bytes, recipients: list[str], rules: Rules) -> Prepared:
    """Returns a mail as it goes to these recipients, with the pixel if there is one recipient.

    Takes the fields of this relay out of the header, unless a DKIM signature could cover them. Changes
    nothing else. Never raises an error: a mail that cannot have a pixel goes on without one.
    """
    fields = _read_fields(raw)
    if fields.is_signed:
        return Prepared(raw, "it is signed already (DKIM or ARC)", "signed")
    try:
        return _add_pixel(fields, recipients, rules)
    except (EmbedError, ValueError) as error:
        return Prepared(fields.bare, str(error), _reason_of(error))
    except Exception as error:  # the mail goes on, whatever is wrong with it or with this program
        log.error(
            "relay-pixel-failed",
            "a mail goes on without a pixel, because of a fault of this program: please report this line",
            exc=error,
        )
        return Prepared(fields.bare, "the pixel could not be added", "failed")


def _add_pixel(fields: _Fields, recipients: list[str], rules: Rules) -> Prepared:
    """Returns the mail with its pixel, or without one and the reason. Raises ValueError for other reasons."""
    bare = fields.bare
    campaigns = fields.campaigns or {rules.campaign or ""}
    campaign = next(iter(campaigns))
    if len(campaigns) > 1:
        return Prepared(bare, "it names several campaigns", "campaign")
    if not campaign:
        why = "it names no campaign: set X-Pixel-Campaign in the mail, or --campaign here"
        return Prepared(bare, why, "campaign")
    if not is_slug(campaign):
        return Prepared(bare, "its X-Pixel-Campaign is not the id of a campaign", "campaign")
    modes = [parse_mode(mode) for mode in fields.modes]
    if Mode.OFF in modes:
        return Prepared(bare, "its X-Pixel-Mode is off", "mode")
    if len(recipients) != 1:
        why = "it has several recipients: send each recipient a mail of their own"
        return Prepared(bare, why, "recipients")
    if fields.header_bytes > MAX_HEADER_BYTES or bare.count(b"\n--") > MAX_PARTS:
        return Prepared(bare, "its header is too large, or it has too many parts", "size")
    minter = rules.minter_of(campaign)
    mode = min([minter.mode, *modes])
    now, limit = int(time.time()), MAX_TEXT_BYTES
    changed = add_pixel_to_bytes(
        bare, minter, campaign, recipients[0], mode=mode, sent_at=now, max_text_bytes=limit
    )
    # The pixel stands after the last line end if the HTML has no `</body>`.
    ends_line = not changed.raw or changed.raw.endswith(b"\r\n")
    whole = changed.raw if ends_line else changed.raw + b"\r\n"
    if not changed.why_unchanged:
        return Prepared(whole)
    return Prepared(whole, changed.why_unchanged, "mode" if mode is Mode.OFF else "text")


def _reason_of(error: ValueError) -> Reason:
    """Returns why a mail has no pixel, in a word."""
    reasons: dict[type[ValueError], Reason] = {
        NoMinter: "no-link",
        Refused: "signed",
        AlreadyThere: "has-pixel",
        TooLarge: "size",
    }
    return reasons.get(type(error), "unreadable")


def _read_fields(raw: bytes) -> _Fields:
    """Reads the header up to its first line that neither begins nor continues a field."""
    kept: list[bytes] = []
    campaigns: set[str] = set()
    modes: set[str] = set()
    is_signed, end = False, 0
    while field := _field(raw, end):
        name, start, end = field[1].lower(), end, field.end()
        if name in (CAMPAIGN_FIELD, MODE_FIELD):
            value = b" ".join(field[2].split()).decode("utf-8", "replace")
            (campaigns if name == CAMPAIGN_FIELD else modes).add(value)
        else:
            kept.append(raw[start:end])
            is_signed = is_signed or name in _SIGNATURES
    bare = b"".join([*kept, raw[end:]]) if campaigns or modes else raw
    return _Fields(bare, end, campaigns, {mode.lower() for mode in modes}, is_signed)
