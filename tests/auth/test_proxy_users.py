"""The user whom a proxy names: which peers are believed, and which headers can be used."""

from __future__ import annotations

import logging
from ipaddress import ip_network

import pytest

from pixel_server.auth.proxy_users import ProxyUser, ProxyUsers, UnusableHeader
from pixel_server.settings import Settings
from pixel_server.sign_in_scopes import parse

PROXY = "10.0.0.1"
SETTINGS = Settings(
    trusted_proxies=(ip_network("10.0.0.0/24"), ip_network("fd00::/8")),
    sign_in_header="Remote-User",
    sign_in_groups_header="Remote-Groups",
    sign_in_scopes=parse("anna=read; Jürgen=read; group:marketing=people; *=read:spring"),
)
ANNA = (b"remote-user", b"anna")


@pytest.mark.parametrize("peer", [PROXY, "::ffff:10.0.0.1", "fd00::1", "10.0.0.255"])
def test_find_trusted_peer_signs_in(peer: str):
    user = ProxyUsers(SETTINGS).find(peer, [ANNA, (b"remote-groups", b"it, marketing")])
    assert user == ProxyUser("anna", frozenset({"read", "people", "read:spring"}))


@pytest.mark.parametrize("peer", ["10.0.1.1", "127.0.0.1", "::1", "fe80::1%eth0", "nonsense", "", None])
def test_find_other_peer_signs_nobody_in_and_is_logged_once(
    peer: str | None, caplog: pytest.LogCaptureFixture
):
    users = ProxyUsers(SETTINGS)
    forwarded = (b"x-forwarded-for", PROXY.encode())
    with caplog.at_level(logging.WARNING):
        assert [users.find(peer, [ANNA, forwarded]) for _ in range(3)] == [None] * 3
    [line] = caplog.messages
    assert "nobody is signed in" in line
    assert "anna" not in line


def test_find_unix_socket_is_believed_if_the_setting_says_so():
    settings = Settings(trust_unix=True, sign_in_header="Remote-User", sign_in_scopes=SETTINGS.sign_in_scopes)
    assert ProxyUsers(settings).find(None, [ANNA]) is not None
    assert ProxyUsers(settings).find(PROXY, [ANNA]) is None


def test_find_without_the_setting_signs_nobody_in(caplog: pytest.LogCaptureFixture):
    assert ProxyUsers(Settings(trusted_proxies=SETTINGS.trusted_proxies)).find(PROXY, [ANNA]) is None
    assert caplog.messages == []


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"remote-user", b"")],
        [(b"remote-user", b" \t")],
        [(b"remote_user", b"anna")],
        [(b"remoteuser", b"anna")],
        [(b"x-remote-user", b"anna")],
        [(b"remote-groups", b"marketing")],
    ],
)
def test_find_no_name_signs_nobody_in(headers: list[tuple[bytes, bytes]], caplog: pytest.LogCaptureFixture):
    assert ProxyUsers(SETTINGS).find(PROXY, headers) is None
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [(b" anna\t", "anna"), ("Jürgen".encode(), "Jürgen"), (b"A B", "A B"), (b"x" * 256, "x" * 256)],
)
def test_find_name_is_read_as_it_is(name: bytes, expected: str):
    user = ProxyUsers(SETTINGS).find(PROXY, [(b"remote-user", name)])
    assert user is not None
    assert user.name == expected


@pytest.mark.parametrize(
    "name",
    [
        b"anna,bob",
        b"anna;bob",
        b"anna\x00",
        b"an\x1bna",
        b"\xff\xfeanna",
        "J\xfcrgen".encode("latin-1"),
        "\u00a0anna".encode(),
        "anna\u200b".encode(),
        "\u202eanna".encode(),
        b"x" * 257,
        b"x" * 100_000,
    ],
)
def test_find_name_that_is_not_clear_is_unusable(name: bytes):
    with pytest.raises(UnusableHeader, match="name of the user"):
        ProxyUsers(SETTINGS).find(PROXY, [(b"remote-user", name)])


@pytest.mark.parametrize(
    "more", [ANNA, (b"remote-user", b"bob"), (b"remote-user", b""), (b"remote-groups", b"it")]
)
def test_find_header_sent_twice_is_unusable(more: tuple[bytes, bytes]):
    with pytest.raises(UnusableHeader, match="more than once"):
        ProxyUsers(SETTINGS).find(PROXY, [ANNA, (b"remote-groups", b"marketing"), more])


@pytest.mark.parametrize(
    "groups",
    [
        b"",
        b"Marketing",
        b"marketing2",
        b"group:marketing",
        b"market ing",
        b"\xffmarketing",
        "marketing\u00a0".encode(),
        "m\u0430rketing".encode(),
    ],
)
def test_find_group_that_only_looks_alike_gives_no_scope(groups: bytes):
    user = ProxyUsers(SETTINGS).find(PROXY, [ANNA, (b"remote-groups", groups)])
    assert user is not None
    assert "people" not in user.scopes


def test_find_odd_group_does_not_hide_the_others():
    user = ProxyUsers(SETTINGS).find(PROXY, [ANNA, (b"remote-groups", b"\xff\xfe,, marketing ,x")])
    assert user is not None
    assert "people" in user.scopes
