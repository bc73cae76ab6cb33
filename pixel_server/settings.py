"""The table of settings: each setting's name in the environment, its default, and its help."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from functools import cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit
from zoneinfo import available_timezones

from pixel_server import logs, sign_in_scopes, smtp_url, store_url
from pixel_server.addresses import parse_host_port
from pixel_server.sign_in_scopes import SignInScopes
from pixel_server.slug import SLUG_RULE, is_slug
from pixel_server.tokens import MODES

GpcEffect = Literal["ignore", "count", "drop"]
"""Effect of `Sec-GPC: 1` or `DNT: 1`: none, the hit counts as in mode `count`, or it is not recorded."""
GPC_EFFECTS: tuple[GpcEffect, ...] = get_args(GpcEffect)

MAX_DAYS = 3660
"""Largest number of days for which a setting may keep data: ten years."""


class SettingsError(ValueError):
    """A setting has a value that cannot be used. The message is one line for the operator."""

    is_loggable = True


def _text(value: str) -> str:
    return value


def _path(value: str) -> Path:
    return Path(value)


def _header(value: str) -> str:
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", value):
        raise ValueError("must be the name of a header")
    return value


def _redis_url(value: str) -> str:
    store_url.check_files(store_url.parse(value))
    return value


def _smtp_url(value: str) -> str:
    smtp_url.parse(value)
    return value


def _campaign(value: str) -> str:
    if not is_slug(value):
        raise ValueError(SLUG_RULE)
    return value


def _host_port(value: str) -> str:
    parse_host_port(value)
    return value


def _number(lowest: int, highest: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        number = int(value) if re.fullmatch("-?[0-9]{1,18}", value) else None
        if number is None or not lowest <= number <= highest:
            raise ValueError(f"must be a whole number from {lowest} to {highest}")
        return number

    return parse


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in choices:
            raise ValueError(f"must be one of: {', '.join(choices)}")
        return value

    return parse


def _word_of(*choices: str) -> Callable[[str], str]:
    """Returns a parser like `_one_of`, which also accepts capitals: `INFO`."""
    return lambda value: _one_of(*choices)(value.lower())


def _words(value: str) -> tuple[str, ...]:
    return tuple(value.replace(",", " ").split())


def parse_base_url(value: str) -> str:
    """Returns an http(s) address without the slash at its end. The address may have a path.

    Raises ValueError with the reason if the value is not such an address.
    """
    try:
        parts = urlsplit(value)
        has_valid_port = parts.port is None or parts.port > 0
    except ValueError:
        raise ValueError("must be an http or https address") from None
    has_valid_characters = value.isascii() and value.isprintable() and not set(value) & set(" \"'<>\\^`{|}")
    is_valid = has_valid_port and has_valid_characters
    if parts.scheme not in ("http", "https") or not parts.hostname or not is_valid:
        raise ValueError("must be an http or https address")
    if "?" in value or "#" in value or "@" in parts.netloc:
        raise ValueError("must have no user, query or fragment")
    if len(value) > 500:
        raise ValueError("must have at most 500 characters")
    return value.rstrip("/")


def _link(value: str) -> str:
    """Returns an http(s) address, or a path such as `/oauth2/sign_out`, with a query or without."""
    if not re.fullmatch(r"https?://[A-Za-z0-9.:\[\]-]+(?:[/?][!-~]*)?|/(?![/\\])[!-~]*", value):
        raise ValueError("must be an http or https address, or a path that begins with one slash")
    return value


def cookie_path(url: str | None) -> str:
    """Returns the path of a base URL for a cookie: `"/px"` for `"https://site.example/px"`.

    Returns "" if the URL is None, or if a cookie cannot have its path.
    """
    path = urlsplit(url or "").path
    return path if re.fullmatch(r"[A-Za-z0-9/._~-]*", path) else ""


@cache
def time_zones() -> frozenset[str]:
    """Returns the names of all time zones. Look up each name here first: ZoneInfo would open it as a path."""
    return frozenset(available_timezones()) - {"localtime", "Factory"}


def parse_time_zone(value: str) -> str:
    """Returns the name of a time zone. Raises ValueError if no time zone has this name."""
    if value not in time_zones():
        raise ValueError("must be a name from the IANA time zone database, such as Europe/Berlin")
    return value


def _networks(value: str) -> tuple[IPv4Network | IPv6Network, ...]:
    try:
        return tuple(ip_network(word, strict=False) for word in _words(value) if word != "unix")
    except ValueError as error:
        raise ValueError(f"{error}; give addresses, networks, or the word unix") from None


_SECRET_WORDS = ("SECRET", "KEY", "URL", "RELAY_TO")
"""Words in the names of settings whose values are never shown in an error."""


def _setting(env: str, default: Any, text: str, parse: Callable[[str], Any] = _text) -> Any:
    return field(default=default, metadata={"env": env, "help": text, "parse": parse})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The operator's settings. Each field's metadata holds its name in the environment and its help.

    trust_unix: whether PIXEL_TRUSTED_PROXIES has the word `unix`.
    """

    redis_url: str = _setting(
        "REDIS_URL",
        "redis://127.0.0.1:6379/0",
        "Redis, cluster or sentinels of the Redis that stores hits and counters. `up` starts its own Redis "
        "if this is not set.",
        _redis_url,
    )
    queue_url: str | None = _setting(
        "PIXEL_QUEUE_URL",
        None,
        "Redis of the job queue. Default: `REDIS_URL`. Must be set if `REDIS_URL` names a cluster.",
        _redis_url,
    )
    data: Path = _setting(
        "PIXEL_DATA_DIR",
        Path("pixel-data"),
        "Directory for the secrets, the spool and, under `up`, all data.",
        _path,
    )
    base_url: str | None = _setting(
        "PIXEL_BASE_URL", None, "Public address of this server. It may have a path.", parse_base_url
    )
    signing_secrets: tuple[str, ...] = _setting(
        "PIXEL_SECRET",
        (),
        "Keys that sign links, newest first. Default: a key that is created in the data directory.",
        _words,
    )
    recipient_secret: str | None = _setting(
        "PIXEL_RECIPIENT_SECRET",
        None,
        "Key that hashes recipients. Never change it. Default: a key that is created in the data directory.",
    )
    api_key: str | None = _setting(
        "PIXEL_API_KEY", None, "An API key of your choice, with at least 16 characters."
    )
    token_days: int = _setting(
        "PIXEL_TOKEN_DAYS", 400, "Days after which a link is no longer counted.", _number(1, 36_500)
    )
    operator: str | None = _setting(
        "PIXEL_OPERATOR",
        None,
        "Name or address of whoever runs this server, shown on privacy, shared and sign-in pages.",
    )
    default_mode: str = _setting(
        "PIXEL_DEFAULT_MODE",
        "pseudonymous",
        "How much a new campaign stores of a recipient: `off`, `count`, `last`, `pseudonymous` or "
        "`identified`.",
        _one_of(*MODES),
    )
    max_mode: str = _setting(
        "PIXEL_MAX_MODE",
        "identified",
        "The most that any campaign may store of a recipient. It also limits links that were sent before.",
        _one_of(*MODES),
    )
    time_zone: str = _setting(
        "PIXEL_TIME_ZONE", "UTC", "Time zone of new campaigns. Their days are counted in it.", parse_time_zone
    )
    gpc_effect: GpcEffect = _setting(
        "PIXEL_GPC",
        "count",
        "Effect of `Sec-GPC: 1` and `DNT: 1`: `ignore` (none), `count` (the hit is counted, and nothing is "
        "stored of the recipient or visitor) or `drop` (the hit is not recorded).",
        _one_of(*GPC_EFFECTS),
    )
    withdraw_on: str = _setting(
        "PIXEL_WITHDRAW_ON",
        "none",
        "Events of mail services that withdraw a recipient: `none`, `complained` (a complaint of spam), or "
        "`unsubscribed` (an unsubscription or a complaint).",
        _one_of("none", "complained", "unsubscribed"),
    )
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = _setting(
        "PIXEL_TRUSTED_PROXIES",
        (),
        "Addresses or networks of proxies whose `X-Forwarded-For` is trusted; `unix` for a Unix socket.",
        _networks,
    )
    trust_unix: bool = field(default=False, metadata={})
    metrics_from: tuple[IPv4Network | IPv6Network, ...] = _setting(
        "PIXEL_METRICS_FROM",
        (),
        "Addresses or networks that may read `/metrics` without an API key. This machine always may.",
        _networks,
    )
    client_ip_header: str | None = _setting(
        "PIXEL_CLIENT_IP_HEADER",
        None,
        "Header in which a trusted proxy sends the client's address, in place of `X-Forwarded-For`.",
        _header,
    )
    sign_in_header: str | None = _setting(
        "PIXEL_SIGN_IN_HEADER",
        None,
        "Header in which a trusted proxy names the user whom it signed in, such as `Remote-User`.",
        _header,
    )
    sign_in_groups_header: str | None = _setting(
        "PIXEL_SIGN_IN_GROUPS_HEADER",
        None,
        "Header in which the proxy names the user's groups, separated by commas, such as `Remote-Groups`.",
        _header,
    )
    sign_in_scopes: SignInScopes | None = _setting(
        "PIXEL_SIGN_IN_SCOPES",
        None,
        "What these users may do, such as `anna=read,people; group:marketing=read; *=read:spring`.",
        sign_in_scopes.parse,
    )
    sign_out_url: str | None = _setting(
        "PIXEL_SIGN_OUT_URL",
        None,
        "Address at which the proxy signs a user out. It may be a path, such as `/oauth2/sign_out`.",
        _link,
    )
    own_networks: tuple[IPv4Network | IPv6Network, ...] = _setting(
        "PIXEL_OWN_NETWORKS",
        (),
        "The sender's own addresses or networks. Opens from there are shown separately, and no "
        "rate includes them.",
        _networks,
    )
    soon_seconds: int = _setting(
        "PIXEL_SOON_SECONDS",
        5,
        "An open by a mail program or browser within this many seconds of sending is a scanner's: a mail "
        "takes longer to arrive and to be noticed. Such an open up to a minute before sending is a scanner's "
        "too, because clocks differ. 0 turns this off.",
        _number(0, 3600),
    )
    delivery_seconds: int = _setting(
        "PIXEL_DELIVERY_SECONDS",
        600,
        "Seconds after sending within which mail gateways fetch images. In this time, or if the time of "
        "sending is not known, every open from the networks of Proofpoint, Mimecast and Cisco is a "
        "scanner's. Later, an open from there by a browser is a person's. In this time, opens of one link by "
        "different browsers also count as a burst.",
        _number(0, 86_400),
    )
    rules_file: Path | None = _setting(
        "PIXEL_RULES",
        None,
        "File with rules of your own, which are added to the shipped `rules.toml`. Two rules of the same "
        "priority must have the same verdict.",
        _path,
    )
    networks_refresh: str = _setting(
        "PIXEL_NETWORKS_REFRESH",
        "weekly",
        "How often workers fetch the lists of networks that Apple, Google, Microsoft and OpenAI publish: "
        "`weekly` or `off`. Apart from webhooks and "
        "reports of Amazon SES, these are the only requests that this server sends out.",
        _one_of("weekly", "off"),
    )
    shards: int = _setting(
        "PIXEL_SHARDS",
        4,
        "Number of slices of the stored data. It is fixed when a store is first used.",
        _number(1, 256),
    )
    pending_bytes: int = _setting(
        "PIXEL_PENDING_BYTES",
        32 << 20,
        "Bytes of memory in a web process for hits that are not stored yet. Beyond that, hits are answered "
        "503.",
        _number(1 << 16, 1 << 32),
    )
    spool_bytes: int = _setting(
        "PIXEL_SPOOL_BYTES",
        1 << 30,
        "Bytes of disk in the data directory for hits while Redis is away. Beyond that, hits are answered "
        "503.",
        _number(0, 1 << 40),
    )
    tail_seconds: int = _setting(
        "PIXEL_TAIL_SECONDS",
        30,
        "Seconds for which a web process keeps stored hits in memory, if Redis has replicas. When a replica "
        "is promoted that lacks some of them, they are sent to it again. 0 turns this off.",
        _number(0, 3600),
    )
    tail_bytes: int = _setting(
        "PIXEL_TAIL_BYTES",
        32 << 20,
        "Bytes of memory in a web process for the hits that it keeps for a promoted replica.",
        _number(1 << 16, 1 << 32),
    )
    replicas: int = _setting(
        "PIXEL_REPLICAS",
        0,
        "Number of replicas that must have a hit before it is answered as recorded. If fewer have it in "
        "time, the hit goes to the spool.",
        _number(0, 10),
    )
    memory_reserve: int = _setting(
        "PIXEL_MEMORY_RESERVE",
        16 << 20,
        "Bytes of Redis's `maxmemory` that hits leave free, at most a quarter of `maxmemory`. If less is "
        "free, hits go to the spool.",
        _number(0, 1 << 40),
    )
    keep_buckets: int = _setting(
        "PIXEL_KEEP_DAYS_BUCKETS", 35, "Days for which 15-minute series are stored.", _number(1, MAX_DAYS)
    )
    keep_days: int = _setting(
        "PIXEL_KEEP_DAYS_DAYS", 1100, "Days for which daily series are stored.", _number(1, MAX_DAYS)
    )
    visit_sample: int = _setting(
        "PIXEL_VISIT_SAMPLE",
        1000,
        "Visits of each site and day of which records are stored, for 90 days, so that figures can be "
        "filtered. 0 stores none.",
        _number(0, 10_000),
    )
    keep_recipients: int = _setting(
        "PIXEL_KEEP_DAYS_RECIPIENTS",
        400,
        "Days after the sending of a campaign for which its single recipients are stored. Later opens are "
        "only counted.",
        _number(1, MAX_DAYS),
    )
    keep_names: int = _setting(
        "PIXEL_KEEP_DAYS_NAMES",
        90,
        "Days after the sending of a campaign for which uploaded names are stored.",
        _number(1, MAX_DAYS),
    )
    max_dead_letters: int = _setting(
        "PIXEL_DEAD_LETTERS",
        10_000,
        "Number of unreadable hits that a shard stores. A shard that stores this many stops.",
        _number(1, 10**7),
    )
    keep_dead_letters: int = _setting(
        "PIXEL_KEEP_DAYS_DEAD_LETTERS", 7, "Days for which unreadable hits are stored.", _number(1, MAX_DAYS)
    )
    webhook_private: int = _setting(
        "PIXEL_WEBHOOK_PRIVATE",
        0,
        "1 lets webhooks be sent to private addresses, such as 10.0.0.7 or this machine, and over http. "
        "Otherwise whoever may add a webhook could reach into the network of this server.",
        _number(0, 1),
    )
    webhook_queue: int = _setting(
        "PIXEL_WEBHOOK_QUEUE",
        100_000,
        "Number of events that may wait for one webhook. Beyond that, events are dropped and counted.",
        _number(100, 10**7),
    )
    keep_webhooks: int = _setting(
        "PIXEL_KEEP_DAYS_WEBHOOKS",
        7,
        "Days for which the log of a webhook is stored, and events that could not be delivered in a day.",
        _number(1, MAX_DAYS),
    )
    rewrite_minutes: int = _setting(
        "PIXEL_REWRITE_MINUTES",
        0,
        "Minutes for which the append-only file of Redis may keep the addresses of counted hits. A rewrite "
        "removes them. 0 leaves rewrites to Redis. `up` with its own Valkey uses 60.",
        _number(0, 525_600),
    )
    hang_seconds: int = _setting(
        "PIXEL_HANG_SECONDS",
        30,
        "Seconds without a heartbeat after which `up`, `serve` and `work` kill a process that they started, "
        "and start it again. 0 turns this off, for example to attach a debugger.",
        _number(0, 3600),
    )

    relay_to: str | None = _setting(
        "PIXEL_RELAY_TO",
        None,
        "Mail server to which `pixel-server relay` passes mails: `smtp://user:password@mail.example.org:587`.",
        _smtp_url,
    )
    relay_listen: str = _setting(
        "PIXEL_RELAY_LISTEN",
        "127.0.0.1:2525",
        "Address and port at which the relay takes mails.",
        _host_port,
    )
    relay_campaign: str | None = _setting(
        "PIXEL_RELAY_CAMPAIGN",
        None,
        "Campaign of a mail that names none in the field `X-Pixel-Campaign`.",
        _campaign,
    )
    relay_each: int = _setting(
        "PIXEL_RELAY_EACH",
        0,
        "1 offers LMTP, in which a mail to several recipients goes to each with a pixel of their own.",
        _number(0, 1),
    )
    relay_require_pixel: int = _setting(
        "PIXEL_RELAY_REQUIRE_PIXEL",
        0,
        "1 refuses a mail that gets no pixel. Otherwise such a mail is passed on without one.",
        _number(0, 1),
    )
    relay_certificate: Path | None = _setting(
        "PIXEL_RELAY_CERT",
        None,
        "File with the certificate of the relay and its chain, in PEM. It is loaded again when it changes.",
        _path,
    )
    relay_tls_key: Path | None = _setting(
        "PIXEL_RELAY_TLS_KEY", None, "File with the key of the relay's certificate, in PEM.", _path
    )
    relay_users: Path | None = _setting(
        "PIXEL_RELAY_USERS",
        None,
        "File of the users who may send through the relay; `pixel-server relay-user NAME` writes it. It is "
        "needed if the relay listens on an address that other machines reach.",
        _path,
    )
    relay_connections: int = _setting(
        "PIXEL_RELAY_CONNECTIONS", 100, "Number of connections that the relay takes.", _number(1, 1000)
    )
    relay_size: int = _setting(
        "PIXEL_RELAY_SIZE",
        50 << 20,
        "Bytes of the largest mail that the relay takes. The limit of the next server holds too.",
        _number(1 << 16, 1 << 30),
    )
    relay_memory: int = _setting(
        "PIXEL_RELAY_MEMORY",
        200 << 20,
        "Bytes of all mails that the relay has in memory. A mail beyond them is to be sent again later.",
        _number(1 << 16, 1 << 34),
    )

    log_form: str = _setting(
        "PIXEL_LOG", "text", "Form of the lines of the log: `text` or `json`.", _word_of(*logs.FORMS)
    )
    log_level: str = _setting(
        "PIXEL_LOG_LEVEL",
        "info",
        "Lowest level of the lines of the log: `debug`, `info`, `warning` or `error`.",
        _word_of(*logs.LEVELS),
    )

    @property
    def networks_directory(self) -> Path:
        """Returns the directory of the operator's lists of networks."""
        return self.data / "networks"

    @property
    def refreshed_networks_directory(self) -> Path:
        """Returns the directory of the refreshed lists of networks, which are copied from the store."""
        return self.data / "networks-refreshed"

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Returns the settings of an environment. Raises SettingsError for the first unusable setting."""
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        for setting in fields(cls):
            env = setting.metadata.get("env")
            if not env or not (value := environ.get(env, "").strip()):
                continue
            try:
                value.encode()
                values[setting.name] = setting.metadata["parse"](value)
            except UnicodeEncodeError:
                raise SettingsError(f"{env}: must be UTF-8 text") from None
            except ValueError as error:
                is_secret = any(word in env for word in _SECRET_WORDS)  # a URL may hold a password
                shown = "" if is_secret else f"={value[:100]!r}"
                raise SettingsError(f"{env}{shown}: {error}") from None
        values["trust_unix"] = "unix" in _words(environ.get("PIXEL_TRUSTED_PROXIES", ""))
        settings = cls(**values)
        _check(settings)
        return settings


_SHARED_PATHS = (
    *(
        "o",
        "p",
        "p.js",
        "in",
        "api",
        "privacy",
        "healthz",
        "readyz",
        "metrics",
        "static",
        "s",
        "sign-in",
        "sign-out",
    ),
)
_DASHBOARD_PATHS = (
    *(
        "new",
        "compare",
        "audience",
        "campaigns",
        "keys",
        "deliveries",
        "recipients",
        "webhooks",
        "withdrawals",
        "kept",
        "audit",
        "settings",
    ),
)
RESERVED_PATHS = frozenset(_SHARED_PATHS + _DASHBOARD_PATHS)
"""First parts of the paths of this server, such as `api` of `/api/keys`."""


def _check(settings: Settings) -> None:
    """Raises SettingsError if settings do not fit together, or a value cannot be used with this server."""
    if settings.queue_url is not None and store_url.parse(settings.queue_url).kind == "cluster":
        raise SettingsError(
            "PIXEL_QUEUE_URL: must not name a cluster, because the job queue runs on one Redis"
        )
    if settings.queue_url is None and store_url.parse(settings.redis_url).kind == "cluster":
        raise SettingsError(
            "PIXEL_QUEUE_URL: must name a Redis for the job queue, because REDIS_URL names a cluster"
        )
    path = urlsplit(settings.base_url or "").path
    if set(path) & set("%;") or not RESERVED_PATHS.isdisjoint(path.split("/")[1:2]):
        raise SettingsError(
            "PIXEL_BASE_URL: its path must not begin with a path of this server (/o, /p, /api, /keys and so "
            "on), and must not contain % or ;"
        )
    if settings.api_key is not None and not (len(settings.api_key) >= 16 and settings.api_key.isascii()):
        raise SettingsError("PIXEL_API_KEY: must have 16 characters or more, of ASCII")
    if any(len(secret) < 16 for secret in settings.signing_secrets):
        raise SettingsError("PIXEL_SECRET: each key must have 16 characters or more")
    if settings.recipient_secret is not None and len(settings.recipient_secret) < 16:
        raise SettingsError("PIXEL_RECIPIENT_SECRET: must have 16 characters or more")
    _check_sign_in(settings)


def _check_sign_in(settings: Settings) -> None:
    """Raises SettingsError if the settings of the sign-in by a proxy do not fit together."""
    scopes, groups_header = settings.sign_in_scopes, settings.sign_in_groups_header
    if settings.sign_in_header is None:
        dependent = {
            "PIXEL_SIGN_IN_GROUPS_HEADER": groups_header,
            "PIXEL_SIGN_IN_SCOPES": scopes,
            "PIXEL_SIGN_OUT_URL": settings.sign_out_url,
        }
        for name, value in dependent.items():
            if value is not None:
                raise SettingsError(
                    f"{name}: has no effect without PIXEL_SIGN_IN_HEADER; set both or neither"
                )
        return
    if not settings.trusted_proxies and not settings.trust_unix:
        raise SettingsError(
            "PIXEL_SIGN_IN_HEADER: set PIXEL_TRUSTED_PROXIES to the address of the proxy that sends it"
        )
    if any(network.prefixlen == 0 for network in settings.trusted_proxies):
        raise SettingsError(
            "PIXEL_SIGN_IN_HEADER: PIXEL_TRUSTED_PROXIES must not name all addresses, because each of them "
            "can sign in as any user"
        )
    if scopes is None:
        raise SettingsError(
            "PIXEL_SIGN_IN_HEADER: set PIXEL_SIGN_IN_SCOPES, which says what each user may do"
        )
    if scopes.groups and groups_header is None:
        raise SettingsError(
            "PIXEL_SIGN_IN_SCOPES: names groups, so set PIXEL_SIGN_IN_GROUPS_HEADER to the header in which "
            "the proxy sends them"
        )
    if groups_header is not None and groups_header.lower() == settings.sign_in_header.lower():
        raise SettingsError("PIXEL_SIGN_IN_GROUPS_HEADER: must not be the header of PIXEL_SIGN_IN_HEADER")


SECRET_NAMES = (
    *("REDIS_URL", "PIXEL_QUEUE_URL", "PIXEL_RELAY_TO"),
    *("PIXEL_SECRET", "PIXEL_RECIPIENT_SECRET", "PIXEL_API_KEY"),
)
"""Settings that can also be read from a file: `PIXEL_SECRET_FILE=/run/secrets/signing`."""
MAX_SECRET_BYTES = 64 << 10
"""Largest size of such a file."""


def read_secret_files(environ: MutableMapping[str, str]) -> None:
    """Replaces `PIXEL_SECRET_FILE` by `PIXEL_SECRET` with the file's text, and so on for SECRET_NAMES.

    Raises SettingsError if a file cannot be read or is empty, or if both variables are set.
    """
    for name in SECRET_NAMES:
        file_name = f"{name}_FILE"
        path = environ.pop(file_name, "").strip()
        if not path:
            continue
        if environ.get(name, "").strip():
            raise SettingsError(f"{name} and {file_name} are both set: unset one of them")
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read(MAX_SECRET_BYTES).strip()
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not a UTF-8 text"
            raise SettingsError(f"{file_name}: cannot read {path}: {why}") from None
        if not text:
            raise SettingsError(f"{file_name}: {path} is empty")
        if "\0" in text:
            raise SettingsError(f"{file_name}: {path} is not a text")
        environ[name] = text


def unknown_name_warnings(environ: Mapping[str, str]) -> list[str]:
    """Returns a line for each name in the environment that begins with PIXEL_ and is not a setting.

    Such a name is mistyped, and has no effect.
    """
    setting_names = [name for name, _, _ in table()]
    lines = []
    for name in sorted(environ):
        if name.startswith("PIXEL_") and name not in setting_names:
            similar = get_close_matches(name, setting_names, 1)
            hint = f"; did you mean {similar[0]}?" if similar else ""
            lines.append(f"{name} is not a setting and has no effect{hint}")
    return lines


def exported_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Returns the settings that `up` passes on to commands: no secrets, no Redis URLs, no data directory."""
    places = ("REDIS_URL", "PIXEL_QUEUE_URL", "PIXEL_DATA_DIR")
    values = {name: environ.get(name, "").strip() for name, _, _ in table() if name not in places}
    if path := values["PIXEL_RULES"]:
        values["PIXEL_RULES"] = str(Path(path).absolute())
    return {name: value for name, value in values.items() if value and not _is_secret(name, value)}


def shown_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Returns the settings in an environment, by name. Shows a secret or a URL with a password as `(set)`."""
    values = {name: environ.get(name, "").strip() for name, _, _ in table()}
    return {name: "(set)" if _is_secret(name, value) else value for name, value in values.items() if value}


def _is_secret(name: str, value: str) -> bool:
    is_url = "URL" in name or name == "PIXEL_RELAY_TO"
    return "SECRET" in name or "KEY" in name or (is_url and store_url.has_password(value))


def table() -> list[tuple[str, str, str]]:
    """Returns (name, default, help) of each setting, for the documents and `pixel-server settings`."""
    rows = []
    for setting in fields(Settings):
        if "env" in setting.metadata:
            default = setting.default
            shown = "" if default in (None, ()) else str(default)
            rows.append((setting.metadata["env"], shown, setting.metadata["help"]))
    return rows
