"""IP addresses as text and as packed bytes, and whether they lie in networks."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from urllib.parse import urlsplit

MAPPED = b"\0" * 10 + b"\xff\xff"
"""First 12 bytes of an IPv4-mapped IPv6 address: `::ffff:192.0.2.1` (RFC 4291, 2.5.5.2)."""

NAT64 = b"\0\x64\xff\x9b" + b"\0" * 8
"""First 12 bytes of an IPv4 address behind a translator: `64:ff9b::192.0.2.1` (RFC 6052, 2.1)."""

HOUSEHOLD_BYTES = 8
"""Number of first bytes of an address by which a visitor is recognised: all 4 of IPv4, and the /64 network of
IPv6, because a device takes another address of its /64 each day (RFC 8981)."""


def pack(text: str) -> bytes:
    """Returns the 4 or 16 bytes of an address, and b"" if the text is not an address.

    An address that holds an IPv4 address becomes IPv4: `"192.0.2.1"`, `"::ffff:192.0.2.1"` and
    `"64:ff9b::192.0.2.1"` give `b"\\xc0\\0\\2\\1"`.
    An IPv6 zone is left out: `"fe80::1%eth0"` becomes `fe80::1`.
    """
    try:
        if ":" in text:
            return unmapped(inet_pton(AF_INET6, text.partition("%")[0]))
        return inet_pton(AF_INET, text)
    except (OSError, ValueError):
        return b""


def unpack(packed: bytes) -> str:
    """Returns the text of an address of 4 or 16 bytes. Raises ValueError for another number of bytes."""
    return inet_ntop(AF_INET if len(packed) == 4 else AF_INET6, packed)


def unmapped(packed: bytes) -> bytes:
    """Returns the 4 bytes of an IPv4-mapped or translated address, and every other address as it is."""
    return packed[12:] if len(packed) == 16 and packed.startswith((MAPPED, NAT64)) else packed


def is_in_networks(packed: bytes, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    """Returns whether an address of 4 or 16 bytes lies in one of the networks. Returns False for b""."""
    if not networks or not packed:
        return False
    number, bits = int.from_bytes(packed), len(packed) * 8
    return any(
        network.max_prefixlen == bits
        and number >> (bits - network.prefixlen) == int(network.network_address) >> (bits - network.prefixlen)
        for network in networks
    )


def parse_host_port(address: str) -> tuple[str, int]:
    """Returns the host and the port of an address: `("::1", 9100)` of `"[::1]:9100"`. Raises ValueError."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError("must be an address and a port, such as 127.0.0.1:9100")
    return host.strip("[]"), int(port)


def is_local(base_url: str) -> bool:
    """Returns whether only this machine can reach a URL: `http://127.0.0.1:8000`."""
    host = urlsplit(base_url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
