"""The addresses of stores: each kind, and one clear line for each address that cannot be used."""

from __future__ import annotations

import pytest

from pixel_server.store_url import SignIn, StoreUrl, Tls, has_password, parse, without_password

ADA = SignIn("ada", "a@b")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://", StoreUrl("single", (("127.0.0.1", 6379),))),
        ("redis://x/", StoreUrl("single", (("x", 6379),))),
        ("redis://ada:a%40b@x:7/3", StoreUrl("single", (("x", 7),), db=3, sign_in=ADA)),
        ("redis://x?username=ada&password=a%40b&db=3", StoreUrl("single", (("x", 6379),), db=3, sign_in=ADA)),
        ("redis://:p@[::1]:7", StoreUrl("single", (("::1", 7),), sign_in=SignIn("", "p"))),
        ("unix:///a%20b/c.sock?db=2", StoreUrl("single", socket_path="/a b/c.sock", db=2)),
        ("unix://ada:a%40b@/c.sock", StoreUrl("single", socket_path="/c.sock", sign_in=ADA)),
        ("rediss://x", StoreUrl("single", (("x", 6379),), tls=Tls())),
        (
            "rediss://x?ssl_ca_certs=/ca.pem&ssl_cert_reqs=none&ssl_certfile=/c.pem&ssl_keyfile=/k.pem",
            StoreUrl("single", (("x", 6379),), tls=Tls("/ca.pem", "none", "/c.pem", "/k.pem")),
        ),
        (
            "redis+cluster://ada:a%40b@a:7000,b,[::1]:7001,b:6379",
            StoreUrl("cluster", (("a", 7000), ("b", 6379), ("::1", 7001)), sign_in=ADA),
        ),
        (
            "rediss+cluster://a:1/0?ssl_ca_certs=/ca.pem",
            StoreUrl("cluster", (("a", 1),), tls=Tls("/ca.pem")),
        ),
        (
            "redis+sentinel://ada:a%40b@a,b:26380/main/4?sentinel_username=eve&sentinel_password=e",
            StoreUrl(
                "sentinel",
                (("a", 26379), ("b", 26380)),
                name="main",
                db=4,
                sign_in=ADA,
                sentinel_sign_in=SignIn("eve", "e"),
            ),
        ),
        (
            "rediss+sentinel://a/main?ssl_ca_certs=/ca.pem",
            StoreUrl("sentinel", (("a", 26379),), name="main", tls=Tls("/ca.pem")),
        ),
    ],
)
def test_parse_each_kind_gives_its_parts(url: str, expected: StoreUrl):
    assert parse(url) == expected


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("REDIS://x", "begins with redis://"),
        ("redis+other://x", "begins with redis://"),
        ("redis://x:0", "from 1 to 65535"),
        ("redis://x:65536", "from 1 to 65535"),
        ("redis://a b", "must begin with redis://host:port"),
        ("redis://::1", "must begin with redis://host:port"),
        ("redis://ada:hid#den@x", "write %23 for a #"),
        ("redis://a,b", "several hosts need redis\\+cluster"),
        ("redis://x?ssl_ca_certs=/ca.pem", "must begin with rediss"),
        ("redis://x?sentinel_password=hidden", "only these options"),
        ("redis://x?db=one", "number of a database"),
        ("rediss://x?ssl_cert_reqs=hidden", "ssl_cert_reqs must be one of"),
        ("unix://?db=1", "path of a socket"),
        ("redis+cluster://", "must have the hosts after redis\\+cluster://"),
        ("redis+cluster://a,,b", "must have the hosts after redis\\+cluster://"),
        ("redis+cluster://a/1", "a cluster has one database"),
        ("redis+sentinel:///main", "must have the hosts after redis\\+sentinel://"),
        ("redis+sentinel://a:1,b:2", "name by which the sentinels know the primary"),
        ("redis+sentinel://a/main/hidden", "number of a database"),
    ],
)
def test_parse_unusable_url_raises_the_reason_alone(url: str, why: str):
    with pytest.raises(ValueError, match=why) as raised:
        parse(url)
    assert "hidden" not in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://", "127.0.0.1:6379"),
        ("rediss://ada:pass@[::1]/1", "[::1]:6379"),
        ("unix://ada:pass@/run/redis.sock?password=pass", "unix:///run/redis.sock"),
        ("rediss+cluster://ada:pass@a:7000,b:7001", "redis+cluster://a:7000,b:7001"),
        ("redis+sentinel://:pass@a,b/main/1?sentinel_password=pass", "redis+sentinel://a:26379,b:26379/main"),
    ],
)
def test_without_password_each_kind_shows_the_address(url: str, expected: str):
    assert without_password(url) == expected
    assert "pass" not in repr(parse(url))


@pytest.mark.parametrize("user", ["ada:x@", ":@", "ada:x/y@", "ada:x@y@"])
def test_has_password_password_before_the_hosts_is_seen(user: str):
    assert has_password(f"redis+sentinel://{user}a,[::1]:7/main")


def test_has_password_option_is_seen():
    assert has_password("redis+sentinel://a/main?db=1&sentinel_password=x")
    assert has_password("unix:///a?password=x")
    assert not has_password("redis://ada@x/1?username=ada")
