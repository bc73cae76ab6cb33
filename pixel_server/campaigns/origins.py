"""Origins of pages: brings them into the form that browsers send, and compares them. `*.` is a wildcard."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address

_PORT = "[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]"
_BYTE = "25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9]"
_NAME = "([a-z0-9_-]{1,30}[.]){0,7}[a-z_-][a-z0-9_-]{0,30}"
PATTERN = rf"^((https?://)?[*][.]{_NAME}|https?://({_NAME}|(({_BYTE})[.]){{3}}({_BYTE})))(:({_PORT}))?$"
"""Pattern of the usual spelling, for the OpenAPI document. `normalise` accepts more spellings, and IPv6
addresses."""
_SCHEMES = {"http": "80", "https": "443"}
"""Default port of each scheme."""
_SCHEME_OF_PORT = {port: scheme for scheme, port in _SCHEMES.items()}
_match_origin = re.compile(
    r"(?:(https?)://)?(\*\.)?(?:\[([0-9a-f:.]{2,45})\]|([^\s/?#@\\:\[\]*]{1,253}))(?::([0-9]{1,5}))?/?", re.I
).fullmatch
_is_host = re.compile(r"([a-z0-9_-]+\.)*[a-z0-9_-]+\.?").fullmatch
_MAX_HOST_LENGTH = 253
_ends_in_number = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\.?").fullmatch
"""Matches hosts that browsers read as IPv4 addresses (https://url.spec.whatwg.org/#ends-in-a-number-checker)."""
_remove_ignored = re.compile(r"[\u00ad\u200b\u200e\u200f\u2060\ufe00-\ufe0f\ufeff]").sub
"""Removes characters that nobody sees and that come along when a name is copied (ignored by UTS 46)."""


def normalise(text: str) -> str:
    """Returns an origin as browsers send it: `"https://xn--bcher-kva.example"` for
    `"HTTPS://Bücher.example:443/"`.

    `https://*.example.org` matches all subdomains of `example.org` over HTTPS. `*.example.org` matches them
    over HTTP and HTTPS. `*.example.org:443` becomes `https://*.example.org`, because browsers leave out a
    default port. Raises ValueError if the text is not an origin.
    """
    match = _match_origin(_remove_ignored("", text).strip())
    if match is None:
        raise ValueError("must be an origin, as https://www.example.org")
    scheme, wildcard, address, name, port = match.groups(default="")
    host = _ipv6_host(address) if address else _named_host(name)
    is_address = address or _ends_in_number(host)
    if (
        not host
        or (wildcard and is_address)
        or not (scheme or wildcard)
        or (port and not 0 < int(port) < 65_536)
    ):
        raise ValueError("must be an origin, as https://www.example.org")
    port = port.lstrip("0")
    scheme = scheme.lower() or _SCHEME_OF_PORT.get(port, "")
    start = f"{scheme}://" if scheme else ""
    return start + wildcard + host + (f":{port}" if port and port != _SCHEMES.get(scheme) else "")


def normalise_stored(origins: Iterable[str]) -> tuple[str, ...]:
    """Returns the origins of a stored campaign. Earlier versions stored origins as senders wrote them."""
    normal = []
    for origin in origins:
        try:
            normal.append(normalise(origin))
        except ValueError:
            normal.append(origin)
    return tuple(normal)


def is_listed(origin: str, origins: Iterable[str]) -> bool:
    """Returns whether an origin, as a browser sends it, is among `origins` or matches a wildcard there."""
    if origin in origins:
        return True
    scheme, _, host = origin.partition("://")
    return scheme in _SCHEMES and any(
        listed_host.startswith("*.") and listed_scheme in ("", scheme) and host.endswith(listed_host[1:])
        for listed_scheme, _, listed_host in (listed.rpartition("://") for listed in origins)
    )


def _ipv6_host(address: str) -> str:
    """Returns an IPv6 address in brackets, or "" if the text is not an address."""
    try:
        return f"[{IPv6Address(address)}]"
    except ValueError:
        return ""


def _named_host(name: str) -> str:
    """Returns a host name in lower case, with labels beyond ASCII in Punycode (RFC 5891).

    Returns "" if the text is not a host name. Browsers read a name that ends in a number as an IPv4 address:
    `127.1` as 127.0.0.1. Such a name must be an IPv4 address of four numbers.
    """
    labels = unicodedata.normalize("NFKC", name.lower()).replace("\u3002", ".").split(".")
    host = ".".join(
        label if label.isascii() else "xn--" + label.encode("punycode").decode() for label in labels
    )
    if len(host) > _MAX_HOST_LENGTH or not _is_host(host):
        return ""
    if not _ends_in_number(host):
        return host
    try:
        return str(IPv4Address(host.removesuffix(".")))
    except ValueError:
        return ""
