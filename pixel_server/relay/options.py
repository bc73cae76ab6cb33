"""The options of the relay, and the rule that strangers cannot send through it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pixel_server.relay.users import read_users
from pixel_server.settings import Settings, SettingsError
from pixel_server.smtp_url import SmtpUrl, is_loopback
from pixel_server.smtp_url import parse as parse_smtp_url


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How the relay works. certificate, key: files of its own TLS, or None. users: file of users, or None.

    each: whether to offer LMTP. requires_pixel: whether to refuse a mail that gets no pixel. max_bytes:
    largest size of a mail. memory_bytes: of all mails together. max_clients: number of connections.
    """

    to: SmtpUrl
    campaign: str | None = None
    each: bool = False
    requires_pixel: bool = False
    certificate: Path | None = None
    key: Path | None = None
    users: Path | None = None
    max_bytes: int = 50 << 20
    memory_bytes: int = 200 << 20
    max_clients: int = 100


def options_of(settings: Settings, host: str) -> Options:
    """Returns the options that the settings hold. host: address that the relay listens on.

    Raises SettingsError if they cannot be used: above all, if strangers could send through it.
    """
    certificate, key, users = settings.relay_certificate, settings.relay_tls_key, settings.relay_users
    if settings.relay_to is None:
        raise SettingsError("PIXEL_RELAY_TO: set it, or --to, to the mail server to which mails go")
    if (certificate is None) != (key is None):
        raise SettingsError("PIXEL_RELAY_CERT and PIXEL_RELAY_TLS_KEY: set both or neither")
    if users is not None and certificate is None:
        raise SettingsError(
            "PIXEL_RELAY_USERS: set PIXEL_RELAY_CERT and PIXEL_RELAY_TLS_KEY too, because passwords are "
            "taken over TLS only"
        )
    if users is None and not is_loopback(host):
        raise SettingsError(
            f"the relay would be open to everybody who reaches {host}: let it listen on 127.0.0.1, or set "
            "PIXEL_RELAY_USERS"
        )
    if users is not None:
        read_users(users)
    return Options(
        to=parse_smtp_url(settings.relay_to),
        campaign=settings.relay_campaign,
        each=bool(settings.relay_each),
        requires_pixel=bool(settings.relay_require_pixel),
        certificate=certificate,
        key=key,
        users=users,
        max_bytes=settings.relay_size,
        memory_bytes=settings.relay_memory,
        max_clients=settings.relay_connections,
    )
