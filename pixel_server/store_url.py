"""Parses the addresses of stores: one Redis, a cluster, or a Redis that sentinels watch.

    redis://user:password@host:port/db                          one Redis
    unix:///path/of/socket?db=1                                 one Redis
    redis+cluster://user:password@host:port,host:port           some nodes of a cluster
    redis+sentinel://user:password@host:port,host:port/NAME/db  sentinels, and the name of the primary

`rediss`, `rediss+cluster` and `rediss+sentinel` use TLS, also on the connections to sentinels. The user and
the password are those of Redis. Sentinels that need a password have the options sentinel_username and
sentinel_password.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import parse_qsl, unquote

Address = tuple[str, int]
"""Host and TCP port: `("10.0.0.1", 6379)`."""
Kind = Literal["single", "cluster", "sentinel"]
VerifyMode = Literal["required", "optional", "none"]

REDIS_PORT = 6379
SENTINEL_PORT = 26379

_SCHEMES: dict[str, Kind] = {
    **{"redis": "single", "rediss": "single", "unix": "single"},
    **{"redis+cluster": "cluster", "rediss+cluster": "cluster"},
    **{"redis+sentinel": "sentinel", "rediss+sentinel": "sentinel"},
}
_PARTS = re.compile(r"([a-z+]*)://([^/?#]*)([^?#]*)(?:\?([^#]*))?(#?)", re.DOTALL)
_HOST = re.compile(r"(?:\[([^\s\[\]]+)\]|([^\s:\[\]]*))(?::([0-9]{1,5}))?")
_TLS_OPTIONS = frozenset({"ssl_ca_certs", "ssl_cert_reqs", "ssl_certfile", "ssl_keyfile"})
_SENTINEL_OPTIONS = frozenset({"sentinel_username", "sentinel_password"})
_PASSWORD = re.compile(r"//.*:.*@|[?&][a-z_]*password=")


@dataclass(frozen=True, slots=True)
class Tls:
    """The TLS options of an address. ca_file, certificate_file, key_file: paths, or "" without one."""

    ca_file: str = ""
    verify: VerifyMode = "required"
    certificate_file: str = ""
    key_file: str = ""


@dataclass(frozen=True, slots=True)
class SignIn:
    """User and password, each "" without one."""

    username: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """The parts of a store's address.

    addresses: of the Redis, of nodes of the cluster, or of the sentinels; empty if `socket_path` is set.
    socket_path: path of a unix socket, or "". name: the name by which the sentinels know the primary, or "".
    sign_in: at the Redis, or at each node. sentinel_sign_in: at each sentinel. tls: None without TLS.
    """

    kind: Kind
    addresses: tuple[Address, ...] = ()
    socket_path: str = ""
    name: str = ""
    db: int = 0
    sign_in: SignIn = SignIn()
    sentinel_sign_in: SignIn = SignIn()
    tls: Tls | None = None

    def client_options(self) -> dict[str, Any]:
        """Returns the arguments of redis.Redis for the Redis or any of the nodes, without its address."""
        options: dict[str, Any] = {"db": self.db, **sign_in_options(self.sign_in)}
        return options | self.tls_options()

    def tls_options(self) -> dict[str, Any]:
        """Returns the arguments of redis.Redis for TLS."""
        tls = self.tls
        if tls is None:
            return {}
        return {
            "ssl": True,
            "ssl_ca_certs": tls.ca_file or None,
            "ssl_cert_reqs": tls.verify,
            "ssl_certfile": tls.certificate_file or None,
            "ssl_keyfile": tls.key_file or None,
        }

    def shown(self) -> str:
        """Returns the address for a log line, without users and passwords.

        "127.0.0.1:6379", "unix:///run/redis.sock", "redis+cluster://a:6379,b:6379" or
        "redis+sentinel://a:26379,b:26379/NAME".
        """
        if self.socket_path:
            return f"unix://{self.socket_path}"
        hosts = ",".join(map(shown_address, self.addresses))
        if self.kind == "single":
            return hosts
        return f"redis+{self.kind}://{hosts}" + (f"/{self.name}" if self.name else "")


def parse(url: str) -> StoreUrl:
    """Returns the parts of an address. Raises ValueError with the reason, without a part of the address."""
    match = _PARTS.match(url)
    scheme, authority, path, query, fragment = match.groups() if match else ("", "", "", "", "")
    kind = _SCHEMES.get(scheme)
    if kind is None:
        raise ValueError(
            "must be an address that begins with redis://, rediss://, unix://, redis+cluster:// or "
            "redis+sentinel://"
        )
    if fragment:
        raise ValueError("must not contain a #; write %23 for a # in a password")
    options = _options(query or "", kind, has_tls=scheme.startswith("rediss"))
    user, _, hosts = authority.rpartition("@")
    username, _, password = user.partition(":")
    sign_in = SignIn(
        unquote(username) or options.get("username", ""), unquote(password) or options.get("password", "")
    )
    tls = _tls(options) if scheme.startswith("rediss") else None
    if scheme == "unix":
        if not path:
            raise ValueError("must have the path of a socket after unix://")
        return StoreUrl(
            kind, socket_path=unquote(path), db=_db(options.get("db", "")), sign_in=sign_in, tls=tls
        )
    name, db_text = _name_and_db(kind, path)
    db = _db(options.get("db", db_text))
    if kind == "cluster" and db:
        raise ValueError("must not have the number of a database: a cluster has one database")
    sentinel_sign_in = SignIn(options.get("sentinel_username", ""), options.get("sentinel_password", ""))
    return StoreUrl(
        kind,
        _addresses(kind, hosts),
        name=name,
        db=db,
        sign_in=sign_in,
        sentinel_sign_in=sentinel_sign_in,
        tls=tls,
    )


def check_files(url: StoreUrl) -> None:
    """Raises ValueError if a file for TLS does not exist."""
    tls = url.tls or Tls()
    for path in (tls.ca_file, tls.certificate_file, tls.key_file):
        if path and not Path(path).is_file():
            raise ValueError(f"there is no file {path[:200]!r}")


def without_password(url: str) -> str:
    """Returns the address of a store for a log line; see `StoreUrl.shown`."""
    return parse(url).shown()


def has_password(url: str) -> bool:
    """Returns whether an address contains a password. The address may be unusable."""
    return _PASSWORD.search(unquote(url)) is not None


def shown_address(address: Address) -> str:
    """Returns `"10.0.0.1:6379"`, or `"[::1]:6379"`."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def sign_in_options(sign_in: SignIn) -> dict[str, Any]:
    """Returns the arguments of redis.Redis that sign in."""
    return {"username": sign_in.username or None, "password": sign_in.password or None}


def _options(query: str, kind: Kind, has_tls: bool) -> dict[str, str]:
    """Returns what follows the `?`. Raises ValueError for an option that this address cannot have."""
    options = dict(reversed(parse_qsl(query, keep_blank_values=True)))  # the first value of an option holds
    allowed = {"db", "username", "password"} | _TLS_OPTIONS
    if kind == "sentinel":
        allowed |= _SENTINEL_OPTIONS
    if options.keys() - allowed:
        raise ValueError(f"can have only these options after a ?: {', '.join(sorted(allowed))}")
    if not has_tls and options.keys() & _TLS_OPTIONS:
        raise ValueError(f"must begin with rediss to have the options {', '.join(sorted(_TLS_OPTIONS))}")
    return options


def _tls(options: dict[str, str]) -> Tls:
    modes: tuple[VerifyMode, ...] = get_args(VerifyMode)
    text = options.get("ssl_cert_reqs", "required")
    verify = next((mode for mode in modes if mode == text), None)
    if verify is None:
        raise ValueError(f"its option ssl_cert_reqs must be one of: {', '.join(modes)}")
    files = [options.get(name, "") for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")]
    return Tls(files[0], verify, files[1], files[2])


def _addresses(kind: Kind, hosts: str) -> tuple[Address, ...]:
    """Returns the hosts, each once. Raises ValueError if a host or a port cannot be used."""
    if kind == "single" and "," in hosts:
        raise ValueError("must have one host; several hosts need redis+cluster:// or redis+sentinel://")
    addresses = [_address(kind, text.strip()) for text in hosts.split(",")]
    return tuple(dict.fromkeys(addresses))


def _address(kind: Kind, text: str) -> Address:
    match = _HOST.fullmatch(text)
    if match is None:
        raise ValueError("must begin with redis://host:port; write % codes for @ : / ? # in a password")
    host = unquote(match[1] or match[2])
    if not host and kind != "single":
        raise ValueError(f"must have the hosts after redis+{kind}://, with a comma between two hosts")
    default_port = SENTINEL_PORT if kind == "sentinel" else REDIS_PORT
    port = default_port if match[3] is None else int(match[3])
    if not 0 < port < 1 << 16:
        raise ValueError("must begin with redis://host:port, and a port is from 1 to 65535")
    return host or "127.0.0.1", port


def _name_and_db(kind: Kind, path: str) -> tuple[str, str]:
    """Returns the primary's name and the database of a path: `("main", "1")` for `/main/1`."""
    path = path.removeprefix("/")
    if kind != "sentinel":
        return "", path
    name, _, db_text = path.partition("/")
    if not name:
        raise ValueError("must end in the name by which the sentinels know the primary, such as /mymaster")
    return unquote(name), db_text


def _db(text: str) -> int:
    if not re.fullmatch("[0-9]{0,9}", text):
        raise ValueError("must end in the number of a database, such as /0, or have no path")
    return int(text or 0)
