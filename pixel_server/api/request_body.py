"""JSON that came in: read strictly, checked field by field, every bad field named."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from ipaddress import ip_address
from typing import Any, NoReturn

from starlette.requests import Request

from pixel_server.api import request_stream
from pixel_server.auth import api_keys
from pixel_server.campaigns import retention
from pixel_server.campaigns.campaign import DATA_KINDS, IDENTITIES
from pixel_server.campaigns.retention import KeepDays
from pixel_server.consent import Consent
from pixel_server.problems import Problem
from pixel_server.settings import SIGNALS, Settings, parse_base_url, parse_time_zone
from pixel_server.slug import IN_WORDS, is_slug

LIMIT = 2 << 20
MAX_NAME = 200
MAX_SENT = 10**9
PAGE, MOST_PAGE = 100, 1000
MOST_ORIGINS = 100
MOST_UNKNOWN = 100
"""Fields of an object that are not known, up to which each is named."""
MAX_TEXT, MAX_DELAY = 2048, 10**9

Check = Callable[[Any], Any]
"""Takes a field's value, gives it back as it is used. ValueError: what is wrong with it."""

ORIGIN = r"^https?://([a-z0-9_.-]{1,253}|\[[0-9a-f:.]{2,45}\])(:[0-9]{1,5})?$"
"""As browsers write one: in lower case, without a slash at its end."""
_surrogates = re.compile("[\ud800-\udfff]").search
_unfit = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]").search


async def read(request: Request) -> Any:
    """The JSON of a request. Problem 400, 408, 413, 415: it is none, late, too large, of another type."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Problem(415, "send JSON, with Content-Type: application/json")
    try:
        body = await request_stream.whole(request, LIMIT)
    except request_stream.Unfit as error:
        raise Problem(error.status, f"the body {error}", headers=error.headers) from None
    try:
        return json.loads(
            body.decode(), object_pairs_hook=_no_duplicates, parse_constant=_refuse, parse_int=_whole
        )
    except UnicodeDecodeError:
        raise Problem(400, "the body is not UTF-8") from None
    except RecursionError:
        raise Problem(400, "the JSON is nested too deeply") from None
    except ValueError as error:
        raise Problem(400, f"the body is not JSON as it is accepted: {error}") from None


def check(body: Any, known: Mapping[str, Check], required: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The fields of an object. Problem 422: each bad, missing or unknown one."""
    fields, errors = examine(body, known, required)
    if errors:
        raise Problem(422, "some fields cannot be used", errors)
    return fields


def examine(
    body: Any, known: Mapping[str, Check], required: frozenset[str] = frozenset()
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(the good fields, what is wrong with the others)."""
    if not isinstance(body, dict):
        raise Problem(422, "send a JSON object")
    if len(body) > len(known) + MOST_UNKNOWN:
        raise Problem(422, f"an object has {len(body)} fields; {len(known)} are known")
    fields: dict[str, Any] = {}
    errors = [{"field": name, "message": "is missing"} for name in sorted(required - body.keys())]
    for name, value in body.items():
        if name not in known:
            errors.append({"field": name[:100], "message": "is not known"})
            continue
        try:
            fields[name] = known[name](value)
        except ValueError as error:
            errors.append({"field": name, "message": str(error)})
    return fields, errors


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


def _whole(digits: str) -> int:
    if len(digits) > 30:
        raise ValueError("a number has too many digits")
    return int(digits)


def slug(value: Any) -> str:
    if not isinstance(value, str) or not is_slug(value):
        raise ValueError(IN_WORDS)
    return value


def name(value: Any) -> str:
    if not isinstance(value, str) or not 1 <= len(value.strip()) <= len(value) <= MAX_NAME:
        raise ValueError(f"must be text of 1 to {MAX_NAME} characters")
    if _unfit(value):
        raise ValueError("must not contain control characters")
    return value


def one_of(*choices: str) -> Check:
    def checked(value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            raise ValueError(f"must be one of: {', '.join(choices)}")
        return value

    return checked


def sent(value: Any) -> int | None:
    if type(value) is float and value.is_integer():
        value = int(value)  # 4.0 is a whole number in JSON
    if value is not None and (type(value) is not int or not 0 <= value <= MAX_SENT):
        raise ValueError(f"must be a whole number from 0 to {MAX_SENT:,}, or null")
    return value


def bounced(value: Any) -> int:
    found = sent(value)
    if found is None:
        raise ValueError(f"must be a whole number from 0 to {MAX_SENT:,}")
    return found


def time_zone(value: Any) -> str:
    return parse_time_zone(value if isinstance(value, str) else "")


def base_url(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError("must be an http or https address, or null")
    return parse_base_url(value)


def origins(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MOST_ORIGINS or not all(map(_is_origin, value)):
        raise ValueError(f"must be a list of at most {MOST_ORIGINS} origins, as https://www.example.org")
    return tuple(value)


def _is_origin(value: Any) -> bool:
    return isinstance(value, str) and not value.endswith("\n") and re.match(ORIGIN, value) is not None


def whole(lowest: int, highest: int) -> Check:
    def checked(value: Any) -> int:
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is not int or not lowest <= value <= highest:
            raise ValueError(f"must be a whole number from {lowest} to {highest}")
        return value

    return checked


def signals(value: Any) -> str | None:
    return None if value is None else one_of(*SIGNALS)(value)


def flag(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError("must be true or false")
    return value


def instant(value: Any) -> int:
    """Seconds since 1970 of an RFC 3339 date and time."""
    try:
        if not isinstance(value, str):
            raise ValueError
        at = datetime.fromisoformat(value)
        seconds = int(at.timestamp()) if at.tzinfo is not None else -1
    except (ValueError, OverflowError):
        seconds = -1
    if not 0 <= seconds < 2**32:
        raise ValueError("must be a date and time with its offset, as 2026-11-24T09:00:00Z")
    return seconds


def day(value: Any) -> int:
    """Where a day of UTC begins, seconds since 1970."""
    try:
        if not isinstance(value, str) or not re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
            raise ValueError
        return int(datetime.fromisoformat(f"{value}T00:00:00Z").timestamp())
    except ValueError:
        raise ValueError("must be a day, as 2026-11-24") from None


def instant_or_null(value: Any) -> int | None:
    return None if value is None else instant(value)


def keep(most: KeepDays) -> Check:
    """Days by kind, each at most the server's."""

    def checked(value: Any) -> dict[str, int]:
        if not isinstance(value, dict):
            raise ValueError("must be an object of days by kind")
        for kind, days in value.items():
            if kind not in DATA_KINDS:
                raise ValueError(f"must be days by: {', '.join(DATA_KINDS)}")
            limit = getattr(most, kind)
            if type(days) is not int or not 1 <= days <= limit:
                raise ValueError(f"{kind} must be a whole number from 1 to {limit}, as the server keeps them")
        return value

    return checked


def text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT or _surrogates(value):
        raise ValueError(f"must be text of at most {MAX_TEXT} characters")
    return value


def address(value: Any) -> str:
    try:
        return str(ip_address(text(value)))
    except ValueError:
        raise ValueError("must be an IPv4 or IPv6 address") from None


def headers(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > 100:
        raise ValueError("must be an object of headers")
    return {text(name): text(content) for name, content in value.items()}


def delay(value: Any) -> float | None:
    if value is not None and (type(value) not in (int, float) or not 0 <= value <= MAX_DELAY):
        raise ValueError(f"must be seconds from 0 to {MAX_DELAY}, or null")
    return value if value is None else float(value)


def scopes(value: Any) -> list[str]:
    """Of an API key; without doubles, those of campaigns last."""
    if not isinstance(value, list) or not 1 <= len(value) <= api_keys.MAX_SCOPES:
        raise ValueError(f"must be a list of 1 to {api_keys.MAX_SCOPES} scopes")
    if not all(isinstance(item, str) and api_keys.is_scope(item) for item in value):
        raise ValueError(
            f"must be a list of: {', '.join(api_keys.SCOPES)}, {api_keys.CAMPAIGN_SCOPE}CAMPAIGN"
        )
    return [
        *(scope for scope in api_keys.SCOPES if scope in value),
        *sorted(set(value) - set(api_keys.SCOPES)),
    ]


def of_campaign(settings: Settings) -> dict[str, Check]:
    """The fields of a campaign that may be changed."""
    return {
        "name": name,
        "sent": sent,
        "bounced": bounced,
        "time_zone": time_zone,
        "base_url": base_url,
        "mode": Consent(settings).check,
        "gpc": signals,
        "sent_at": instant_or_null,
        "keep": keep(retention.server_days(settings)),
        "identity": one_of(*IDENTITIES),
        "origins": origins,
        "min_cell": whole(1, 1000),
    }
