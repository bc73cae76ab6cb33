"""The client's address of a request: the address of the peer, unless the peer is a trusted proxy."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from pixel_server.addresses import is_in_networks, pack
from pixel_server.settings import Settings

FORWARDING_HEADERS = frozenset(
    (
        *(b"forwarded", b"via", b"x-real-ip", b"true-client-ip", b"cf-connecting-ip", b"x-forwarded-for"),
        *(b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-proto", b"x-forwarded-server"),
    )
)
"""Headers by which proxies tell of themselves or of the client, in lower case."""
_MAX_FORWARDED_BYTES = 2048
"""Bytes of X-Forwarded-For that are read, from the right."""


class ClientAddress:
    """Finds the client's address of a request, honouring trusted proxies.

    Headers are read only if the peer is a trusted proxy. X-Forwarded-For is read from the right, past trusted
    proxies, to the first address that is not a trusted proxy's. An entry that is not an address ends the
    search. If `PIXEL_CLIENT_IP_HEADER` is set, the client's address is read from that header instead.
    """

    def __init__(self, settings: Settings) -> None:
        self._networks = settings.trusted_proxies
        self._trusts_unix = settings.trust_unix
        self._header = settings.client_ip_header.lower().encode() if settings.client_ip_header else None
        self._trusts_any = bool(self._networks) or self._trusts_unix
        self._is_trusted_cached = lru_cache(4096)(self._is_trusted)
        self._pack_cached = lru_cache(4096)(pack)

    def resolve(self, peer: str | None, headers: Mapping[bytes, bytes]) -> bytes:
        """Returns the client's address, 4 or 16 bytes, b"" if no address is known.

        peer: the connection's address, None on a Unix socket. headers: values by lower-case name.
        """
        packed = self._pack_cached(peer) if peer else b""
        if not self._trusts_any or not (self._is_trusted_cached(packed) if peer else self._trusts_unix):
            return packed
        if self._header is not None:
            return _parse_entry(headers.get(self._header, b"")) or packed
        for entry in reversed(headers.get(b"x-forwarded-for", b"")[-_MAX_FORWARDED_BYTES:].split(b",")):
            address = _parse_entry(entry)
            if not address:
                break
            packed = address
            if not self._is_trusted_cached(address):
                break
        return packed

    def is_forwarded(self, headers: Mapping[bytes, bytes]) -> bool:
        """Returns whether a request came through a proxy, trusted or not, that says so in a header."""
        return self._header in headers or not FORWARDING_HEADERS.isdisjoint(headers)

    def _is_trusted(self, packed: bytes) -> bool:
        return is_in_networks(packed, self._networks)


def _parse_entry(entry: bytes) -> bytes:
    """Returns the address in an entry that a proxy wrote, b"" if the entry holds no address.

    An entry is for example `1.2.3.4`, `1.2.3.4:567`, `[::1]` or `[::1]:567`.
    """
    text = entry.strip().decode("latin-1").strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    return pack(text)
