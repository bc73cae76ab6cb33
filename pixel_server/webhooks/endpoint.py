"""An endpoint: the record of a URL to which events are sent, its checks, and its codec."""

from __future__ import annotations

import base64
import re
import secrets as random
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from pixel_server.one_line import has_control_characters
from pixel_server.slug import SLUG_RULE, is_slug
from pixel_server.times import iso
from pixel_server.webhooks.event import CORRECTION, OPENS, PERSONAL, TEST, TYPES, Event

FORMAT = 1
MAX_URL_CHARACTERS = 1000
MAX_NAME_CHARACTERS = 200
MAX_CAMPAIGNS = 100
"""Largest number of campaigns that an endpoint can name."""
MAX_EVENTS_PER_REQUEST = 100
MAX_SECRETS = 5
"""Largest number of secrets that sign a request."""
SECRET_BYTES = 32
_MIN_SECRET_BYTES, _MAX_SECRET_BYTES = 24, 64
_SECRET_PREFIX = "whsec_"  # noqa: S105 - not a secret, but what each of them begins with
PEOPLE_SCOPE = "people"

_is_host = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+").fullmatch


class EndpointError(ValueError):
    """A field of an endpoint cannot be used. The text is the end of a sentence about the field."""

    is_loggable = True

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class Secret(msgspec.Struct, frozen=True):
    """A secret that signs requests: `"whsec_..."`. until: time (s) at which it stops signing, or None."""

    text: str
    until: int | None = None


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """The record of an endpoint, in JSON. Times are seconds since 1970.

    events: the TYPES that it wants. campaigns: ids of the campaigns whose events it wants, () for all; events
    that belong to no campaign, such as withdrawals, it gets in any case.
    events_per_request: 1, or the largest number of events in the list that each request then carries; fixed.
    secrets: newest first. disabled_because: why this server disabled the endpoint, "" if it did not. scopes:
    those of the caller who made it; without `people` it gets no events on recipients. made_by: for the audit
    log, such as `key 1f3a`.
    """

    format: int = FORMAT
    id: str
    url: str
    name: str = ""
    events: tuple[str, ...]
    campaigns: tuple[str, ...] = ()
    events_per_request: int = 1
    secrets: tuple[Secret, ...]
    is_enabled: bool = True
    disabled_because: str = ""
    scopes: tuple[str, ...] = ()
    created: int = 0
    made_by: str = ""

    def wants(self, event: Event) -> bool:
        """Returns whether the event is to be sent to this endpoint."""
        if event.type == TEST or not self.is_enabled:
            return False
        if event.recipient and PEOPLE_SCOPE not in self.scopes:
            return False
        if event.campaign and self.campaigns and event.campaign not in self.campaigns:
            return False
        if event.type == CORRECTION:
            return not set(OPENS).isdisjoint(self.events)
        return event.type in self.events

    def signing_secrets(self, now: float) -> list[str]:
        """Returns the secrets that sign now, newest first. now: s."""
        return [secret.text for secret in self.secrets if secret.until is None or now < secret.until]


class Wanted(msgspec.Struct, frozen=True):
    """Events that the enabled endpoints want together. campaigns: ids by type; None stands for all."""

    campaigns: dict[str, frozenset[str] | None] = {}

    def has(self, event_type: str, campaign: str = "") -> bool:
        """Returns whether an endpoint wants events of this type, and of this campaign if one is given."""
        if event_type not in self.campaigns:
            return False
        wanted = self.campaigns[event_type]
        return wanted is None or not campaign or campaign in wanted


NOTHING_WANTED = Wanted()


def union(endpoints: Iterable[Endpoint]) -> Wanted:
    """Returns what these endpoints want together."""
    wanted: dict[str, frozenset[str] | None] = {}
    for endpoint in endpoints:
        is_allowed = PEOPLE_SCOPE in endpoint.scopes
        for event_type in endpoint.events if endpoint.is_enabled else ():
            if event_type in PERSONAL and not is_allowed:
                continue
            known = wanted.get(event_type, frozenset())
            is_all = known is None or not endpoint.campaigns
            wanted[event_type] = None if is_all else (known or frozenset()) | set(endpoint.campaigns)
    return Wanted(wanted) if wanted else NOTHING_WANTED


encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Endpoint).decode


def decode(record: bytes) -> Endpoint:
    """Returns the endpoint of a stored record. Raises ValueError if this version cannot read it."""
    try:
        endpoint = _decode(record)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"the record of a webhook cannot be read: {error}") from None
    if endpoint.format > FORMAT:
        raise ValueError(f"webhook of format {endpoint.format}, this version reads {FORMAT}")
    return endpoint


def new_id() -> str:
    """Returns an id for a new endpoint: `"3f9a0c51d2"`."""
    return random.token_hex(5)


def new_secret() -> str:
    """Returns a random secret: `"whsec_"` and 32 bytes in base64."""
    return _SECRET_PREFIX + base64.b64encode(random.token_bytes(SECRET_BYTES)).decode()


def check_secret(text: str) -> str:
    """Returns the secret. Raises EndpointError if it is not `whsec_` and 24 to 64 bytes in base64."""
    try:
        size = len(base64.b64decode(text.removeprefix(_SECRET_PREFIX), validate=True))
    except ValueError:
        size = 0
    if not text.startswith(_SECRET_PREFIX) or not _MIN_SECRET_BYTES <= size <= _MAX_SECRET_BYTES:
        raise EndpointError("secret", "must be whsec_ and 24 to 64 bytes in base64")
    return text


def check_url(url: str, is_private_allowed: bool) -> str:
    """Returns the URL. Raises EndpointError if no request can be sent there.

    is_private_allowed: whether PIXEL_WEBHOOK_PRIVATE allows private addresses, and with them http.
    """
    if len(url) > MAX_URL_CHARACTERS:
        raise EndpointError("url", f"must have at most {MAX_URL_CHARACTERS:,} characters")
    if not re.fullmatch(r"[!-~]+", url) or set(url) & set("\"'<>\\^`{|}"):
        raise EndpointError("url", "must be an https address of ASCII characters; write others as %XX")
    try:
        parts = urlsplit(url)
        is_valid = _is_host(parts.hostname or "") and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid or parts.scheme not in ("https", "http"):
        raise EndpointError("url", "must be an https address")
    if parts.scheme == "http" and not is_private_allowed:
        raise EndpointError("url", "must be an https address; http is allowed with PIXEL_WEBHOOK_PRIVATE=1")
    if "@" in parts.netloc or "#" in url:
        raise EndpointError("url", "must have no user and no fragment")
    return url


def field_errors(
    values: Mapping[str, Any], scopes: Collection[str], is_private_allowed: bool
) -> list[EndpointError]:
    """Returns an error for each of these fields that cannot be used. Skips fields whose value is None.

    scopes: the endpoint's scopes.
    """
    checks: dict[str, Callable[[Any], object]] = {
        "url": lambda url: check_url(url, is_private_allowed),
        "events": lambda events: _check_events(events, scopes),
        "name": _check_name,
        "campaigns": _check_campaigns,
        "events_per_request": _check_events_per_request,
        "secret": check_secret,
    }
    errors = []
    for name, check_value in checks.items():
        try:
            if values.get(name) is not None:
                check_value(values[name])
        except EndpointError as error:
            errors.append(error)
    return errors


def check(endpoint: Endpoint, is_private_allowed: bool) -> Endpoint:
    """Returns the endpoint. Raises EndpointError, with the name of the first field that cannot be used."""
    values = {name: getattr(endpoint, name) for name in endpoint.__struct_fields__}
    if errors := field_errors(values, endpoint.scopes, is_private_allowed):
        raise errors[0]
    for secret in endpoint.secrets:
        check_secret(secret.text)
    return endpoint


def _check_name(name: str) -> None:
    if len(name) > MAX_NAME_CHARACTERS:
        raise EndpointError("name", f"must be text of at most {MAX_NAME_CHARACTERS} characters")
    if has_control_characters(name):
        raise EndpointError("name", "must not contain control characters")


def _check_campaigns(campaigns: Collection[str]) -> None:
    if len(campaigns) > MAX_CAMPAIGNS:
        raise EndpointError("campaigns", f"must be at most {MAX_CAMPAIGNS}; name none for all campaigns")
    if not all(map(is_slug, campaigns)):
        raise EndpointError("campaigns", f"each {SLUG_RULE}")


def _check_events_per_request(count: int) -> None:
    if not 1 <= count <= MAX_EVENTS_PER_REQUEST:
        raise EndpointError("events_per_request", f"must be from 1 to {MAX_EVENTS_PER_REQUEST}")


def _check_events(events: Collection[str], scopes: Collection[str]) -> None:
    if not events or not set(events) <= set(TYPES) or len(set(events)) != len(events):
        raise EndpointError("events", f"must be some of: {', '.join(TYPES)}")
    if PEOPLE_SCOPE not in scopes and (personal := [name for name in events if name in PERSONAL]):
        raise EndpointError("events", f"{', '.join(personal)}: needs the scope {PEOPLE_SCOPE}")


def to_json(endpoint: Endpoint) -> dict[str, Any]:
    """Returns the endpoint as the API shows it: without its secrets, with times in ISO 8601.

    `secrets` has an object for each secret, newest first: {"hint": its last 4 characters, "until": time}.
    """
    shown: dict[str, Any] = msgspec.to_builtins(endpoint)
    del shown["format"]
    shown["created"] = iso(endpoint.created)
    shown["secrets"] = [
        {"hint": secret.text[-4:], "until": None if secret.until is None else iso(secret.until)}
        for secret in endpoint.secrets
    ]
    return shown
