"""IP addresses: text, packed bytes and networks."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from pixel_server import addresses


@pytest.mark.parametrize(
    ("text", "packed", "normal"),
    [
        ("192.0.2.1", b"\xc0\0\2\1", "192.0.2.1"),
        ("::ffff:192.0.2.1", b"\xc0\0\2\1", "192.0.2.1"),
        ("64:ff9b::c000:201", b"\xc0\0\2\1", "192.0.2.1"),
        ("64:ff9b:1::c000:201", b"\0\x64\xff\x9b\0\1" + b"\0" * 6 + b"\xc0\0\2\1", "64:ff9b:1::c000:201"),
        ("2001:DB8::1", b"\x20\1\x0d\xb8" + b"\0" * 11 + b"\1", "2001:db8::1"),
        ("fe80::1%eth0", b"\xfe\x80" + b"\0" * 13 + b"\1", "fe80::1"),
    ],
)
def test_pack_address_gives_bytes_that_unpack_to_its_normal_text(text: str, packed: bytes, normal: str):
    assert addresses.pack(text) == packed
    assert addresses.unpack(packed) == normal


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "1.2.3", "1.2.3.4.5", "1.2.3.4 ", "1.2.3.4%eth0", "1.2.3.4%a:b", "::1::", "\0"),
        *("\N{FULLWIDTH DIGIT ONE}.2.3.4", "1" * 999),
    ],
)
def test_pack_no_address_returns_no_bytes(text: str):
    assert addresses.pack(text) == b""


def test_unmapped_other_address_stays_as_it_is():
    ipv6 = ip_address("2001:db8::1").packed
    assert [addresses.unmapped(packed) for packed in (b"", b"\xc0\0\2\1", ipv6)] == [
        b"",
        b"\xc0\0\2\1",
        ipv6,
    ]


@pytest.mark.parametrize("text", ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/33", "0.0.0.0/0", "::/0"])
def test_is_in_networks_any_address_agrees_with_ipaddress(text: str):
    network = ip_network(text)
    for other in ("10.255.255.255", "11.0.0.0", "192.0.2.7", "192.0.2.8", "2001:db8::1", "2001:db8:8000::1"):
        address = ip_address(other)
        assert addresses.is_in_networks(address.packed, [network]) == (address in network)
    assert not addresses.is_in_networks(b"", [network])
