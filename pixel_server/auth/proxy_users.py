"""Sign-in by a proxy: finds the user whom a trusted proxy names in a header of each request.

The header counts only if the peer of the connection is itself a trusted proxy (PIXEL_TRUSTED_PROXIES): anyone
else could write any name into it. The proxy must set or remove the header in every request that it passes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pixel_server.addresses import is_in_networks, pack
from pixel_server.logs import Log
from pixel_server.settings import Settings
from pixel_server.sign_in_scopes import is_name

log = Log(__name__)


class ProxyUser(NamedTuple):
    """A user whom a proxy signed in. scopes: what PIXEL_SIGN_IN_SCOPES gives this user."""

    name: str
    scopes: frozenset[str]


class UnusableHeader(ValueError):
    """A trusted proxy sent a header that names no user clearly. The message says why, and has no value."""

    is_loggable = True


class ProxyUsers:
    """Finds the user of a request. Logs once that a header came from elsewhere than a trusted proxy."""

    def __init__(self, settings: Settings) -> None:
        self._header = _lower(settings.sign_in_header)
        self._groups_header = _lower(settings.sign_in_groups_header)
        self._scopes = settings.sign_in_scopes
        self._networks, self._trusts_unix = settings.trusted_proxies, settings.trust_unix
        self._has_warned = False

    def find(self, peer: str | None, headers: Sequence[tuple[bytes, bytes]]) -> ProxyUser | None:
        """Returns the user of a request, or None if no trusted proxy names a user.

        peer: the address of the connection, None on a Unix socket. headers: pairs of lower-case name and
        value. Raises UnusableHeader.
        """
        if self._header is None or self._scopes is None:
            return None
        values = [value for name, value in headers if name == self._header]
        if not values:
            return None
        if not self._is_trusted(peer):
            self._warn_once()
            return None
        name = _decode_name(values)
        return ProxyUser(name, self._scopes.of(name, self._groups(headers))) if name else None

    def _groups(self, headers: Sequence[tuple[bytes, bytes]]) -> list[str]:
        """Returns the user's groups. A name that is not UTF-8 fits no group. Raises UnusableHeader."""
        values = [value for name, value in headers if name == self._groups_header]
        if len(values) > 1:
            raise UnusableHeader("the header of groups was sent more than once")
        text = b"".join(values).decode("utf-8", "surrogateescape")
        return [group.strip(" \t") for group in text.split(",")]

    def _is_trusted(self, peer: str | None) -> bool:
        return self._trusts_unix if peer is None else is_in_networks(pack(peer), self._networks)

    def _warn_once(self) -> None:
        if not self._has_warned:
            self._has_warned = True
            log.warning(
                "sign-in-header-ignored",
                "a request with the header of PIXEL_SIGN_IN_HEADER did not come from a proxy of "
                "PIXEL_TRUSTED_PROXIES: the header is ignored, and nobody is signed in; if your proxy sent "
                "it, add its address there (each process logs this once)",
            )


def _lower(header: str | None) -> bytes | None:
    return header.lower().encode() if header else None


def _decode_name(values: Sequence[bytes]) -> str:
    """Returns the user's name, "" if the header is empty. Raises UnusableHeader."""
    if len(values) > 1:
        raise UnusableHeader("the header of the user was sent more than once")
    try:
        name = values[0].strip(b" \t").decode()
    except UnicodeDecodeError:
        raise UnusableHeader("the name of the user is not UTF-8") from None
    if name and not is_name(name):
        raise UnusableHeader(
            "the name of the user has an invisible character, a comma, a semicolon, or over 256 characters"
        )
    return name
