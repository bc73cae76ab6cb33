"""Checks of the fields of requests.

A check returns the value, converted if the code needs another type. It raises ValueError if the value is bad.
The text of the error is the end of a sentence about the field: `"must be true or false"`.
"""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from ipaddress import ip_address
from typing import Any
from zoneinfo import ZoneInfo

from pixel_server import consent_ref
from pixel_server.api.request_body import Check
from pixel_server.campaigns import campaign as campaigns
from pixel_server.campaigns import origins as origin_texts
from pixel_server.campaigns import retention
from pixel_server.campaigns import tags as tag_texts
from pixel_server.campaigns.campaign import DATA_KINDS
from pixel_server.campaigns.retention import KeepDays
from pixel_server.consent import Consent
from pixel_server.consent_ref import ConsentRef
from pixel_server.mail.links import check_recipient
from pixel_server.one_line import has_control_characters
from pixel_server.scopes import CAMPAIGN_SCOPE, MAX_SCOPES, METRICS_SCOPE, SCOPES, is_scope
from pixel_server.settings import Settings, parse_base_url, parse_time_zone
from pixel_server.slug import SLUG_RULE, is_slug
from pixel_server.times import InstantOutOfRangeError, parse_end_of_day, parse_instant, parse_time

MAX_NAME_CHARACTERS, MAX_ORIGINS = campaigns.MAX_NAME_CHARACTERS, campaigns.MAX_ORIGINS
PAGE_SIZE, MAX_PAGE_SIZE = 100, 1000
"""Number of items on a page of a list: the default, and the largest."""
MAX_RECIPIENTS = 10_000
"""Largest number of recipients in one JSON body."""
MAX_TEXT_CHARACTERS = 2048
MAX_HEADERS = 100
MAX_DELAY_SECONDS = 10**9

_has_surrogates = re.compile("[\ud800-\udfff]").search


def slug(value: Any) -> str:
    if not isinstance(value, str) or not is_slug(value):
        raise ValueError(SLUG_RULE)
    return value


def name(value: Any) -> str:
    if not isinstance(value, str) or not 1 <= len(value.strip()) <= len(value) <= MAX_NAME_CHARACTERS:
        raise ValueError(f"must be text of 1 to {MAX_NAME_CHARACTERS} characters")
    if has_control_characters(value):
        raise ValueError("must not contain control characters")
    return value


def text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT_CHARACTERS or _has_surrogates(value):
        raise ValueError(f"must be text of at most {MAX_TEXT_CHARACTERS:,} characters")
    return value


def string(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be text")
    return value


def recipient(value: Any) -> str:
    return check_recipient(string(value))


def recipients(value: Any) -> list[Any]:
    """Checks that the value is a list, but not the items of the list."""
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_RECIPIENTS:
        raise ValueError(f"must be a list of 1 to {MAX_RECIPIENTS:,} recipients")
    return value


def consent(value: Any) -> ConsentRef:
    return consent_ref.parse(string(value))


def flag(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError("must be true or false")
    return value


def one_of(*choices: str) -> Check:
    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            raise ValueError(f"must be one of: {', '.join(choices)}")
        return value

    return check


def integer(minimum: int, maximum: int) -> Check:
    def check(value: Any) -> int:
        if type(value) is float and value.is_integer():
            value = int(value)  # 4.0 is an integer in JSON
        if type(value) is not int or not minimum <= value <= maximum:
            raise ValueError(f"must be a whole number from {minimum} to {maximum:,}")
        return value

    return check


def or_null(check: Check) -> Check:
    def check_or_null(value: Any) -> Any:
        try:
            return None if value is None else check(value)
        except ValueError as error:
            raise ValueError(f"{error}, or null") from None

    return check_or_null


def time_zone(value: Any) -> str:
    return parse_time_zone(value if isinstance(value, str) else "")


def base_url(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be an http or https address")
    return parse_base_url(value)


def origins(value: Any) -> tuple[str, ...]:
    """Returns the origins without duplicates, as browsers write them."""
    try:
        if not isinstance(value, list) or len(value) > MAX_ORIGINS:
            raise ValueError
        return tuple(dict.fromkeys(origin_texts.normalise(string(item)) for item in value))
    except ValueError:
        raise ValueError(
            f"must be a list of at most {MAX_ORIGINS} origins, as https://www.example.org or "
            "https://*.example.org"
        ) from None


def tags(value: Any) -> tuple[str, ...]:
    """Returns the tags without duplicates."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("must be a list of texts")
    return tag_texts.normalise(value)


def instant(value: Any) -> int:
    """Converts an RFC 3339 date and time with an offset to seconds since 1970."""
    try:
        return parse_instant(string(value), None)
    except InstantOutOfRangeError:
        raise
    except ValueError:
        raise ValueError("must be a date and time with its offset, as 2026-11-24T09:00:00Z") from None


instant_or_null = or_null(instant)


def with_offset(text: str, zone: ZoneInfo) -> str:
    """Adds the offset of a zone to a date and time without an offset.

    A date alone stands for the first instant of the day: `"2026-11-24"` becomes
    `"2026-11-24T00:00:00+01:00"`. Returns an invalid text unchanged, so that `instant` refuses it.
    """
    try:
        at = parse_time(text)
        return (at if at.tzinfo else at.replace(tzinfo=zone)).isoformat()
    except (ValueError, OverflowError):
        return text


def with_offset_or_end_of_day(text: str, zone: ZoneInfo) -> str:
    """Does the same as `with_offset`, but a date alone stands for the end of the day."""
    try:
        return with_offset((date.fromisoformat(text.strip()) + timedelta(days=1)).isoformat(), zone)
    except (ValueError, OverflowError):
        return with_offset(text, zone)


def local_instant(text: str, zone: ZoneInfo, *, is_end: bool = False) -> int:
    """Converts a day, or a date and time, of a zone to seconds since 1970. is_end: a day means its end."""
    try:
        return parse_end_of_day(text, zone) if is_end else parse_instant(text, zone)
    except InstantOutOfRangeError:
        raise
    except ValueError:
        raise ValueError("must be a day or a time, as 2026-11-24 or 2026-11-24T18:00") from None


def day(value: Any) -> int:
    """Converts a day to the time at which the day begins in UTC, in seconds: `"2026-11-24"` to 1795478400."""
    try:
        if not isinstance(value, str) or not re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
            raise ValueError
        return int(datetime.fromisoformat(f"{value}T00:00:00Z").timestamp())
    except ValueError:
        raise ValueError("must be a day, as 2026-11-24") from None


def days_by_kind(limits: KeepDays) -> Check:
    """Returns the check of `keep`, the days to keep each kind of data: `{"recipients": 30}`.

    limits: the largest number of days for each kind.
    """

    def check(value: Any) -> dict[str, int]:
        if not isinstance(value, dict):
            raise ValueError("must be an object of days by kind")
        for kind, days in value.items():
            if kind not in DATA_KINDS:
                raise ValueError(f"must be days by: {', '.join(DATA_KINDS)}")
            limit = getattr(limits, kind)
            if type(days) is not int or not 1 <= days <= limit:
                raise ValueError(f"{kind} must be a whole number from 1 to {limit}, the server's own limit")
        return value

    return check


def address(value: Any) -> str:
    try:
        return str(ip_address(text(value)))
    except ValueError:
        raise ValueError("must be an IPv4 or IPv6 address") from None


def headers(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > MAX_HEADERS:
        raise ValueError("must be an object of headers")
    return {text(name): text(header) for name, header in value.items()}


def delay(value: Any) -> float:
    """Checks the seconds from sending to the open."""
    if type(value) not in (int, float) or not 0 <= value <= MAX_DELAY_SECONDS:
        raise ValueError(f"must be seconds from 0 to {MAX_DELAY_SECONDS}")
    return float(value)


def scopes(value: Any) -> list[str]:
    """Checks the scopes of an API key. Removes duplicates and moves the scopes of campaigns to the end."""
    known = (*SCOPES, METRICS_SCOPE)
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_SCOPES:
        raise ValueError(f"must be a list of 1 to {MAX_SCOPES} scopes")
    if not all(isinstance(item, str) and is_scope(item) for item in value):
        raise ValueError(f"must be a list of: {', '.join(known)}, {CAMPAIGN_SCOPE}CAMPAIGN")
    return [
        *(scope for scope in known if scope in value),
        *sorted(set(value) - set(known)),
    ]


def campaign_checks(settings: Settings) -> dict[str, Check]:
    """Returns the check of each field of a campaign that a sender can set, by the field's name."""
    return {field.name: _check_of(field, settings) for field in campaigns.FIELDS}


def _check_of(field: campaigns.Field, settings: Settings) -> Check:
    by_type: dict[str, Check] = {
        "text": name,
        "integer": integer(field.minimum, field.maximum),
        "instant": instant,
        "time_zone": time_zone,
        "url": base_url,
        "mode": Consent(settings).check,
        "choice": one_of(*field.choices),
        "days_by_kind": days_by_kind(retention.server_days(settings)),
        "origins": origins,
        "tags": tags,
    }
    check = by_type[field.type]
    return or_null(check) if field.is_nullable else check
