"""Whose request it is: the peer, unless the peer is a trusted proxy."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from pixel_server.addresses import is_in_networks, pack
from pixel_server.settings import Settings


class ClientAddress:
    """Finds the client's address of a request.

    X-Forwarded-For is walked from the right, past trusted proxies, to the first address that is none of
    theirs; what cannot be read ends the walk. Where `PIXEL_CLIENT_IP_HEADER` is set, that header of a
    trusted proxy is believed instead.
    """

    def __init__(self, settings: Settings) -> None:
        self._networks = settings.trusted_proxies
        self._unix = settings.trust_unix
        self._header = settings.client_ip_header.lower().encode() if settings.client_ip_header else None
        self._trusts_any = bool(self._networks) or self._unix
        self._trusted = lru_cache(4096)(self._is_trusted)
        self._packed = lru_cache(4096)(pack)

    def of(self, peer: str | None, headers: Mapping[bytes, bytes]) -> bytes:
        """peer: the connection's address, None on a Unix socket. headers: by lower-case name."""
        packed = self._packed(peer) if peer else b""
        if not self._trusts_any or not (self._trusted(packed) if peer else self._unix):
            return packed
        if self._header is not None:
            return _entry(headers.get(self._header, b"")) or packed
        for entry in reversed(headers.get(b"x-forwarded-for", b"")[-2048:].split(b",")):
            found = _entry(entry)
            if not found:
                break
            packed = found
            if not self._trusted(found):
                break
        return packed

    def _is_trusted(self, packed: bytes) -> bool:
        return is_in_networks(packed, self._networks)


def _entry(value: bytes) -> bytes:
    """An address as proxies write it: bare, `1.2.3.4:567`, `[::1]` or `[::1]:567`."""
    text = value.strip().decode("latin-1").strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    return pack(text)
