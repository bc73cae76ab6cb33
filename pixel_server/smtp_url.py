"""Parses the address of the mail server to which `pixel-server relay` sends.

    smtp://user:password@mail.example.org:587    STARTTLS; port 587 without a port
    smtps://user:password@mail.example.org       TLS from the first byte; port 465 without a port

Options: `?tls=off` sends without TLS, `?tls=on` uses STARTTLS also on this machine, and
`?ssl_ca_certs=FILE` names the certificates that are trusted in place of the system's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlsplit

Tls = Literal["off", "starttls", "whole"]
"""TLS of a connection: none, after STARTTLS, or from the first byte."""

_PORTS = {"smtp": 587, "smtps": 465}
_is_host = re.compile(r"[A-Za-z0-9._:-]+").fullmatch
_FORM = "must be smtp://user:password@host:port or smtps://..., with %40 for an @ in the user or password"


@dataclass(frozen=True, slots=True)
class SmtpUrl:
    """The parts of an address. user, password: both "" without a sign-in. ca_file: a path, or ""."""

    host: str
    port: int
    tls: Tls
    user: str = ""
    password: str = field(default="", repr=False)
    ca_file: str = ""

    @property
    def shown(self) -> str:
        """Returns the address without user and password: `"mail.example.org:587"`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse(value: str) -> SmtpUrl:
    """Returns the parts of an address. Raises ValueError, whose text does not quote the address."""
    try:
        parts = urlsplit(value)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError(_FORM) from None
    is_text = value.isascii() and value.isprintable() and " " not in value
    if parts.scheme not in _PORTS or not _is_host(host) or parts.path.strip("/") or "#" in value or port == 0:
        raise ValueError(_FORM)
    if not is_text or bool(parts.username) != bool(parts.password):
        raise ValueError(_FORM)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if not (user + password).isascii() or not (user + password).isprintable():
        raise ValueError("user and password must be printable ASCII")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    tls = options.pop("tls", "off" if is_loopback(host) else "on")
    ca_file = options.pop("ssl_ca_certs", "")
    if options or tls not in ("on", "off"):
        raise ValueError("takes the options tls=on, tls=off and ssl_ca_certs=FILE only")
    if ca_file and not Path(ca_file).is_file():
        raise ValueError(f"no file {ca_file!r}")
    is_whole = parts.scheme == "smtps"
    if user and tls == "off" and not is_whole and not is_loopback(host):
        raise ValueError("would send a password without TLS: leave out tls=off, or the user")
    kind: Tls = "whole" if is_whole else "starttls" if tls == "on" else "off"
    return SmtpUrl(host, port or _PORTS[parts.scheme], kind, user, password, ca_file)


def is_loopback(host: str) -> bool:
    """Returns whether a host is this machine: `localhost`, `127.0.0.1` or `::1`."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
