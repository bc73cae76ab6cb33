"""The addresses to which a request may be sent.

An endpoint's host is looked up for each try, every address of the answer is checked, and the connection goes
to an address that was checked. So a name whose address changes in between (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns the addresses of a host. Raises OSError."""

_NEVER = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT, RFC 6598
        "192.0.0.0/24",
        "192.88.99.0/24",  # 6to4 relays, RFC 7526
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/8",  # unspecified, loopback, IPv4-compatible and IPv4-mapped
        "64:ff9b::/96",  # NAT64, RFC 6052: leads to any IPv4 address
        "64:ff9b:1::/48",  # NAT64 of this network, RFC 8215
        "100::/64",
        "2001::/23",  # Teredo and other protocols
        "2002::/16",  # 6to4: leads to any IPv4 address
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    )
)
"""Networks that Python calls global in some versions, or that lead to private addresses."""


class RefusedAddressError(Exception):
    """An endpoint's host has an address to which nothing may be sent. The text is one sentence."""

    is_loggable = True


def is_public(address: Address) -> bool:
    """Returns whether an address is one of the public internet."""
    if any(address in network for network in _NEVER if network.version == address.version):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


async def look_up(host: str, port: int) -> Sequence[str]:
    """Returns the addresses of a host, in the order in which the system prefers them. Raises OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


async def addresses(
    host: str, port: int, is_private_allowed: bool, resolve: Resolve = look_up
) -> Sequence[str]:
    """Returns the addresses to which a request to this host may connect, at least one.

    is_private_allowed: PIXEL_WEBHOOK_PRIVATE. Raises RefusedAddressError if one of the addresses is not
    public, or OSError if the host has no address.
    """
    found = await resolve(host, port)
    if not found:
        raise OSError(f"{host} has no address")
    if not is_private_allowed:
        for text in found:
            if not is_public(ip_address(text.partition("%")[0])):
                raise RefusedAddressError(
                    f"{host} has the address {text}, which is not public; PIXEL_WEBHOOK_PRIVATE=1 allows it"
                )
    return found
