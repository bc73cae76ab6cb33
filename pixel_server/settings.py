"""Every setting, in one table: its name in the environment, its default, and what it does."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from functools import cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import parse_qs, urlsplit
from zoneinfo import available_timezones

from pixel_server.tokens import MODES

Signals = Literal["ignore", "count", "drop"]
"""What `Sec-GPC: 1` or `DNT: 1` do: nothing; the hit is counted as in mode `count`; it is not kept."""
SIGNALS: tuple[Signals, ...] = get_args(Signals)


MOST_DAYS = 3660
"""Ten years."""


class SettingsError(ValueError):
    """A setting that cannot be used; the message is one line for the operator."""


def _text(value: str) -> str:
    return value


def _path(value: str) -> Path:
    return Path(value)


def _header(value: str) -> str:
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", value):
        raise ValueError("must be the name of a header")
    return value


_REDIS_OPTIONS = {
    *("db", "username", "password"),
    *("ssl_ca_certs", "ssl_cert_reqs", "ssl_certfile", "ssl_keyfile"),
}
"""Of a Redis URL: what each part of this server goes by, not redis-py alone."""


def _redis_url(value: str) -> str:
    try:
        usable = urlsplit(value).scheme in ("redis", "rediss", "unix") and urlsplit(value).port != 0
    except ValueError:
        usable = False
    if not usable or "://" not in value:
        raise ValueError("must be an address that begins with redis://, rediss:// or unix://")
    parts = urlsplit(value)
    if parts.scheme == "unix" and not parts.path:
        raise ValueError("must have the path of a socket after unix://")
    if parts.scheme != "unix" and not re.fullmatch("/?[0-9]*", parts.path):
        raise ValueError("must end in the number of a database, as /0, or in none")
    if parse_qs(parts.query, keep_blank_values=True).keys() - _REDIS_OPTIONS:
        raise ValueError(f"may have after a ? only {', '.join(sorted(_REDIS_OPTIONS))}")
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


def _words(value: str) -> tuple[str, ...]:
    return tuple(value.replace(",", " ").split())


def base_url(value: str) -> str:
    """An http(s) address, perhaps with a path, without the last slash. ValueError: why it is none."""
    try:
        parts = urlsplit(value)
        port_ok = parts.port is None or parts.port > 0
    except ValueError:
        raise ValueError("must be an http or https address") from None
    plain = value.isascii() and value.isprintable() and not set(value) & set(" \"'<>\\^`{|}")
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_ok or not plain:
        raise ValueError("must be an http or https address")
    if "?" in value or "#" in value or "@" in parts.netloc:
        raise ValueError("must have no user, query or fragment")
    if len(value) > 500:
        raise ValueError("must have at most 500 characters")
    return value.rstrip("/")


def cookie_path(url: str | None) -> str:
    """The path of a base URL, without the last slash, as a cookie may have it; "" else, and for none."""
    path = urlsplit(url or "").path
    return path if re.fullmatch(r"[A-Za-z0-9/._~-]*", path) else ""


@cache
def time_zones() -> frozenset[str]:
    """Names that may be given as a time zone; looked up in this list, never as a path."""
    return frozenset(available_timezones()) - {"localtime", "Factory"}


def time_zone(value: str) -> str:
    """A time zone's name. ValueError: it is none."""
    if value not in time_zones():
        raise ValueError("must be a name from the IANA time zone database, as Europe/Berlin")
    return value


def _networks(value: str) -> tuple[IPv4Network | IPv6Network, ...]:
    try:
        return tuple(ip_network(word, strict=False) for word in _words(value) if word != "unix")
    except ValueError as error:
        raise ValueError(f"{error}; give addresses, networks, or the word unix") from None


def _setting(env: str, default: Any, text: str, parse: Callable[[str], Any] = _text) -> Any:
    return field(default=default, metadata={"env": env, "help": text, "parse": parse})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the operator chose. Each field's metadata holds its name in the environment and its help."""

    redis_url: str = _setting(
        "REDIS_URL",
        "redis://127.0.0.1:6379/0",
        "where hits and counters are kept; `up` brings its own if unset",
        _redis_url,
    )
    queue_url: str | None = _setting(
        "PIXEL_QUEUE_URL", None, "Redis of the job queue (default: `REDIS_URL`)", _redis_url
    )
    data: Path = _setting(
        "PIXEL_DATA_DIR", Path("pixel-data"), "directory for secrets and, under `up`, all data", _path
    )
    base_url: str | None = _setting(
        "PIXEL_BASE_URL", None, "address at which the world reaches this server; may carry a path", base_url
    )
    signing: tuple[str, ...] = _setting(
        "PIXEL_SECRET",
        (),
        "keys that sign links, newest first (default: made once in the data directory)",
        _words,
    )
    recipient_secret: str | None = _setting(
        "PIXEL_RECIPIENT_SECRET", None, "key that hashes recipients; never change it (default: made once)"
    )
    api_key: str | None = _setting("PIXEL_API_KEY", None, "an API key of your own, 16 characters or more")
    token_days: int = _setting(
        "PIXEL_TOKEN_DAYS", 400, "days until a link is no longer counted", _number(1, 36_500)
    )
    operator: str | None = _setting(
        "PIXEL_OPERATOR", None, "who runs this server, a name or an address: shown on the privacy page"
    )
    default_mode: str = _setting(
        "PIXEL_DEFAULT_MODE",
        "pseudonymous",
        "how much new campaigns keep of a recipient: `off`, `count`, `last`, `pseudonymous` or `identified`",
        _one_of(*MODES),
    )
    max_mode: str = _setting(
        "PIXEL_MAX_MODE",
        "identified",
        "the most that any campaign may keep, links already sent included",
        _one_of(*MODES),
    )
    time_zone: str = _setting(
        "PIXEL_TIME_ZONE", "UTC", "time zone of new campaigns: whose days are counted", time_zone
    )
    signals: Signals = _setting(
        "PIXEL_GPC",
        "count",
        "what `Sec-GPC: 1` and `DNT: 1` do: `ignore`, `count` (counted, nothing kept of who) or `drop`",
        _one_of(*SIGNALS),
    )
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = _setting(
        "PIXEL_TRUSTED_PROXIES",
        (),
        "proxies whose `X-Forwarded-For` is believed; `unix` for a socket",
        _networks,
    )
    trust_unix: bool = field(default=False, metadata={})
    client_ip_header: str | None = _setting(
        "PIXEL_CLIENT_IP_HEADER",
        None,
        "header in which a trusted proxy gives the client's address instead",
        _header,
    )
    own_networks: tuple[IPv4Network | IPv6Network, ...] = _setting(
        "PIXEL_OWN_NETWORKS",
        (),
        "the sender's own addresses or networks: opens from there are shown apart, and in no rate",
        _networks,
    )
    soon_seconds: int = _setting(
        "PIXEL_SOON_SECONDS",
        5,
        "an open within so many seconds of sending, or up to a minute before (clocks differ), is a "
        "scanner's: a mail takes seconds to arrive and to be noticed. 0: never",
        _number(0, 3600),
    )
    rules: Path | None = _setting(
        "PIXEL_RULES",
        None,
        "a file of rules of your own, added to those in `data/rules.toml`; no two rules of one priority may "
        "have different verdicts",
        _path,
    )
    shards: int = _setting(
        "PIXEL_SHARDS", 4, "slices of all state; fixed when a store is first used", _number(1, 256)
    )
    pending_bytes: int = _setting(
        "PIXEL_PENDING_BYTES",
        32 << 20,
        "memory a web process may hold in hits not yet stored; beyond it, 503",
        _number(1 << 16, 1 << 32),
    )
    spool_bytes: int = _setting(
        "PIXEL_SPOOL_BYTES",
        1 << 30,
        "disk that hits may take in the data directory while Redis is away; beyond it, 503",
        _number(0, 1 << 40),
    )
    memory_reserve: int = _setting(
        "PIXEL_MEMORY_RESERVE",
        16 << 20,
        "memory that hits leave free below Redis's `maxmemory`, at most a quarter of it; beyond, they go to "
        "the spool",
        _number(0, 1 << 40),
    )
    keep_buckets: int = _setting(
        "PIXEL_KEEP_DAYS_BUCKETS", 35, "days that 15-minute series are kept", _number(1, MOST_DAYS)
    )
    keep_days: int = _setting(
        "PIXEL_KEEP_DAYS_DAYS", 1100, "days that daily series are kept", _number(1, MOST_DAYS)
    )
    keep_recipients: int = _setting(
        "PIXEL_KEEP_DAYS_RECIPIENTS",
        400,
        "days after a campaign was sent that single recipients are kept; later opens are only counted",
        _number(1, MOST_DAYS),
    )
    keep_names: int = _setting(
        "PIXEL_KEEP_DAYS_NAMES",
        90,
        "days after a campaign was sent that names which were uploaded are kept",
        _number(1, MOST_DAYS),
    )
    dead_letters: int = _setting(
        "PIXEL_DEAD_LETTERS",
        10_000,
        "unreadable hits kept a shard; when full, it stops",
        _number(1, 10**7),
    )
    keep_dead_letters: int = _setting(
        "PIXEL_KEEP_DAYS_DEAD_LETTERS", 7, "days that unreadable hits are kept", _number(1, MOST_DAYS)
    )
    rewrite_minutes: int = _setting(
        "PIXEL_REWRITE_MINUTES",
        0,
        "minutes after which counted addresses are gone from the append-only file too: Redis is told to "
        "rewrite it; 0: when Redis does so by itself. `up` with its own Valkey takes 60",
        _number(0, 525_600),
    )

    @property
    def networks(self) -> Path:
        """Where the operator's lists of networks are."""
        return self.data / "networks"

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """The settings of this environment. SettingsError: the first that cannot be used."""
        environ = os.environ if environ is None else environ
        chosen: dict[str, Any] = {}
        for setting in fields(cls):
            env = setting.metadata.get("env")
            if not env or not (value := environ.get(env, "").strip()):
                continue
            try:
                value.encode()
                chosen[setting.name] = setting.metadata["parse"](value)
            except UnicodeEncodeError:
                raise SettingsError(f"{env}: must be UTF-8 text") from None
            except ValueError as error:
                secret = any(word in env for word in ("SECRET", "KEY", "URL"))  # a URL may hold a password
                shown = "" if secret else f"={value[:100]!r}"
                raise SettingsError(f"{env}{shown}: {error}") from None
        chosen["trust_unix"] = "unix" in _words(environ.get("PIXEL_TRUSTED_PROXIES", ""))
        settings = cls(**chosen)
        _refuse_weak(settings)
        return settings


_OF_ALL = ("o", "p", "p.js", "api", "privacy", "healthz", "readyz", "static", "s", "sign-in", "sign-out")
_OF_PAGES = ("new", "compare", "campaigns", "keys", "recipients", "withdrawals", "kept", "audit")
PATHS = frozenset(_OF_ALL + _OF_PAGES)
"""What paths of this server begin with."""


def _refuse_weak(settings: Settings) -> None:
    path = urlsplit(settings.base_url or "").path
    if set(path) & set("%;") or not PATHS.isdisjoint(path.split("/")[1:2]):
        raise SettingsError(
            "PIXEL_BASE_URL: its path must not begin like one of this server (/o, /p, /api, /keys and so on) "
            "or contain % or ;"
        )
    if settings.api_key is not None and not (len(settings.api_key) >= 16 and settings.api_key.isascii()):
        raise SettingsError("PIXEL_API_KEY: must have 16 characters or more, of ASCII")
    if any(len(secret) < 16 for secret in settings.signing):
        raise SettingsError("PIXEL_SECRET: each key must have 16 characters or more")
    if settings.recipient_secret is not None and len(settings.recipient_secret) < 16:
        raise SettingsError("PIXEL_RECIPIENT_SECRET: must have 16 characters or more")


def unknown(environ: Mapping[str, str]) -> list[str]:
    """A line for each name that begins like a setting of ours and is none: mistyped, it does nothing."""
    known = [name for name, _, _ in table()]
    lines = []
    for name in sorted(environ):
        if name.startswith("PIXEL_") and name not in known:
            near = get_close_matches(name, known, 1)
            lines.append(f"{name} is no setting and does nothing{f'; {near[0]} is one' if near else ''}")
    return lines


def exported_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Returns the settings in this environment that other processes may use: no secret, no place of data."""
    elsewhere = ("REDIS_URL", "PIXEL_QUEUE_URL", "PIXEL_DATA_DIR")
    found = {name: environ.get(name, "").strip() for name, _, _ in table() if name not in elsewhere}
    if path := found["PIXEL_RULES"]:
        found["PIXEL_RULES"] = str(Path(path).absolute())
    return {name: value for name, value in found.items() if value and not _is_secret(name, value)}


def chosen(environ: Mapping[str, str]) -> dict[str, str]:
    """What this environment sets, by name; of what is secret, or holds a password, only that it is set."""
    found = {name: environ.get(name, "").strip() for name, _, _ in table()}
    return {name: "(set)" if _is_secret(name, value) else value for name, value in found.items() if value}


def _is_secret(name: str, value: str) -> bool:
    parts = urlsplit(value) if "URL" in name else None
    has_password = parts is not None and (parts.password is not None or "password" in parse_qs(parts.query))
    return "SECRET" in name or "KEY" in name or has_password


def table() -> list[tuple[str, str, str]]:
    """(name, default, help) of each setting, for the README and `pixel-server settings`."""
    rows = []
    for setting in fields(Settings):
        if "env" in setting.metadata:
            default = setting.default
            shown = "" if default in (None, ()) else str(default)
            rows.append((setting.metadata["env"], shown, setting.metadata["help"]))
    return rows
