"""The client's address, behind trusted and other proxies."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from pixel_server.collect.client_address import ClientAddress
from pixel_server.settings import Settings

NONE, PROXIES = "", "10.0.0.0/8 2001:db8::/32"


def client_address(trusted: str, peer: str | None, header: str = "", **headers: str) -> str:
    """Returns the client's address as text. headers: names with `_` in place of `-`."""
    environ = {"PIXEL_TRUSTED_PROXIES": trusted, "PIXEL_CLIENT_IP_HEADER": header}
    named = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    packed = ClientAddress(Settings.from_env(environ)).resolve(peer, named)
    return str(ip_address(packed)) if packed else ""


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded", "expected"),
    [
        (NONE, "203.0.113.9", "", "203.0.113.9"),
        (NONE, "203.0.113.9", "198.51.100.1", "203.0.113.9"),
        (NONE, "10.0.0.1", "198.51.100.1", "10.0.0.1"),
        (NONE, "2001:db8::9", "", "2001:db8::9"),
        (NONE, "::ffff:203.0.113.9", "", "203.0.113.9"),
        (NONE, "fe80::1%eth0", "", "fe80::1"),
        (NONE, "localhost", "", ""),
        (NONE, None, "198.51.100.1", ""),
        (PROXIES, "203.0.113.9", "198.51.100.1", "203.0.113.9"),
        (PROXIES, "10.0.0.1", "", "10.0.0.1"),
        (PROXIES, "10.0.0.1", "198.51.100.1", "198.51.100.1"),
        (PROXIES, "::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
        (PROXIES, "2001:db8::1", "198.51.100.1", "198.51.100.1"),
        (PROXIES, "10.0.0.1", "203.0.113.66, 198.51.100.1", "198.51.100.1"),
        (PROXIES, "10.0.0.1", "203.0.113.66, 198.51.100.1, 10.0.0.2,10.0.0.3", "198.51.100.1"),
        (PROXIES, "10.0.0.1", "203.0.113.66, 10.9.9.9, 198.51.100.1, 10.0.0.2", "198.51.100.1"),
        (PROXIES, "10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        (PROXIES, "10.0.0.1", "198.51.100.1:4711", "198.51.100.1"),
        (PROXIES, "10.0.0.1", "[2a00::1]", "2a00::1"),
        (PROXIES, "10.0.0.1", "[2a00::1]:4711", "2a00::1"),
        (PROXIES, "10.0.0.1", "2a00::1", "2a00::1"),
        (PROXIES, "10.0.0.1", '"198.51.100.1"', "198.51.100.1"),
        (PROXIES, "10.0.0.1", "::ffff:198.51.100.1", "198.51.100.1"),
        (PROXIES, "10.0.0.1", "203.0.113.66, unknown", "10.0.0.1"),
        (PROXIES, "10.0.0.1", "203.0.113.66, unknown, 10.0.0.2", "10.0.0.2"),
        (PROXIES, "10.0.0.1", "203.0.113.66,, 10.0.0.2", "10.0.0.2"),
        (PROXIES, "10.0.0.1", "203.0.113.66,", "10.0.0.1"),
        (PROXIES, "10.0.0.1", "198.51.100.1é", "10.0.0.1"),
        (PROXIES, "10.0.0.1", "198.51.100.1\0", "10.0.0.1"),
        (PROXIES, "10.0.0.1", "198.51.100.256", "10.0.0.1"),
        (PROXIES, "10.0.0.1", "0x7f.1", "10.0.0.1"),
        (PROXIES, "10.0.0.1", "203.0.113.66, " * 10_000 + "198.51.100.1", "198.51.100.1"),
        (PROXIES, None, "198.51.100.1", ""),
        ("unix", None, "198.51.100.1", "198.51.100.1"),
        ("unix", None, "203.0.113.66, 198.51.100.1", "198.51.100.1"),
        ("unix", None, "", ""),
        ("unix", "10.0.0.1", "198.51.100.1", "10.0.0.1"),
        ("unix 10.0.0.0/8", None, "198.51.100.1, 10.0.0.2", "198.51.100.1"),
    ],
)
def test_client_address_forwarded_for_passes_trusted_proxies(
    trusted: str, peer: str | None, forwarded: str, expected: str
):
    headers = {"x_forwarded_for": forwarded} if forwarded else {}
    assert client_address(trusted, peer, **headers) == expected


@pytest.mark.parametrize(
    ("trusted", "peer", "headers", "expected"),
    [
        ("10.0.0.0/8", "10.0.0.1", {"x_real_ip": "198.51.100.1"}, "198.51.100.1"),
        ("10.0.0.0/8", "10.0.0.1", {"x_real_ip": "[2a00::1]:80"}, "2a00::1"),
        (
            "10.0.0.0/8",
            "10.0.0.1",
            {"x_real_ip": "198.51.100.1", "x_forwarded_for": "203.0.113.66"},
            "198.51.100.1",
        ),
        ("10.0.0.0/8", "10.0.0.1", {"x_forwarded_for": "203.0.113.66"}, "10.0.0.1"),
        ("10.0.0.0/8", "10.0.0.1", {"x_real_ip": "198.51.100.1,203.0.113.66"}, "10.0.0.1"),
        ("10.0.0.0/8", "203.0.113.9", {"x_real_ip": "198.51.100.1"}, "203.0.113.9"),
        ("", "203.0.113.9", {"x_real_ip": "198.51.100.1"}, "203.0.113.9"),
        ("unix", None, {"x_real_ip": "198.51.100.1"}, "198.51.100.1"),
        ("unix", None, {}, ""),
    ],
)
def test_client_address_chosen_header_counts_from_trusted_proxies(
    trusted: str, peer: str | None, headers: dict[str, str], expected: str
):
    assert client_address(trusted, peer, "X-Real-IP", **headers) == expected
