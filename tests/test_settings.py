"""The settings: their table, and one clear line for each value that cannot be used."""

from __future__ import annotations

from dataclasses import fields
from ipaddress import ip_network
from pathlib import Path

import pytest

from pixel_server.settings import (
    SECRET_NAMES,
    Settings,
    SettingsError,
    parse_base_url,
    read_secret_files,
    table,
    unknown_name_warnings,
)

TABLE = (Path(__file__).parent.parent / "docs" / "operating.md").read_text()


def test_table_every_setting_is_in_the_documents():
    assert [name for name, _, text in table() if not text or f"`{name}`" not in TABLE] == []


def test_table_has_every_field_but_the_derived():
    derived = {"trust_unix"}
    assert len(table()) == len({name for name, _, _ in table()}) == len(fields(Settings)) - len(derived)


def test_unknown_name_warnings_mistyped_name_suggests_a_setting():
    assert unknown_name_warnings(
        {"PIXEL_TRUSTED_PROXY": "10.0.0.1", "PATH": "/", "PIXEL_SHARDS": "4", "PIXEL_ZZZZZZZZ": ""}
    ) == [
        "PIXEL_TRUSTED_PROXY is not a setting and has no effect; did you mean PIXEL_TRUSTED_PROXIES?",
        "PIXEL_ZZZZZZZZ is not a setting and has no effect",
    ]
    assert unknown_name_warnings({name: "" for name, _, _ in table()}) == []


def test_from_env_empty_environment_gives_the_defaults():
    assert Settings.from_env({}) == Settings()
    assert Settings.from_env({name: " " for name, _, _ in table()}) == Settings()


def test_from_env_defaults_of_the_table_give_the_defaults():
    shown = {name: default for name, default, _ in table() if default}
    assert Settings.from_env(shown) == Settings()


def test_from_env_values_set_are_parsed():
    found = Settings.from_env(
        {
            "REDIS_URL": "rediss://user:pass@redis.example:6380/1",
            "PIXEL_QUEUE_URL": "unix:///run/redis.sock?db=2",
            "PIXEL_DATA_DIR": "/var/lib/pixel",
            "PIXEL_BASE_URL": "https://x.example/px/",
            "PIXEL_SECRET": " the-newest-of-the-keys, the-one-before-that\n",
            "PIXEL_RECIPIENT_SECRET": "sixteen-or-more-",
            "PIXEL_API_KEY": "an-api-key-of-one's-own",
            "PIXEL_TOKEN_DAYS": "30",
            "PIXEL_TRUSTED_PROXIES": "10.0.0.7/8, ::1 unix",
            "PIXEL_CLIENT_IP_HEADER": "CF-Connecting-IP",
        }
    )
    assert found == Settings(
        redis_url="rediss://user:pass@redis.example:6380/1",
        queue_url="unix:///run/redis.sock?db=2",
        data=Path("/var/lib/pixel"),
        base_url="https://x.example/px",
        signing_secrets=("the-newest-of-the-keys", "the-one-before-that"),
        recipient_secret="sixteen-or-more-",
        api_key="an-api-key-of-one's-own",
        token_days=30,
        trusted_proxies=(ip_network("10.0.0.0/8"), ip_network("::1")),
        trust_unix=True,
        client_ip_header="CF-Connecting-IP",
    )


NUMBERS = [name for name, default, _ in table() if default.isdigit()]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["-1", "--5", "-", "1.5", "1e3", "1_000", "٣", "x", "9" * 5000, "0x10"])
def test_from_env_bad_number_raises_one_line(name: str, value: str):
    with pytest.raises(SettingsError, match=r"must be a whole number from \d+ to \d+$") as raised:
        Settings.from_env({name: value})
    line = str(raised.value)
    assert line.startswith(f"{name}=")
    assert "\n" not in line
    assert len(line) < 250


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("REDIS_URL", "localhost:6379", "redis://"),
        ("REDIS_URL", "redis:hidden", "redis://"),
        ("REDIS_URL", "http://:hidden@x", "redis://"),
        ("REDIS_URL", "redis://:hidden@x:port", "redis://"),
        ("REDIS_URL", "redis+cluster://:hidden@a:1,b:2", "PIXEL_QUEUE_URL: must name a Redis"),
        ("PIXEL_QUEUE_URL", "redis+cluster://:hidden@a:1,b:2", "must not name a cluster"),
        ("PIXEL_QUEUE_URL", "rediss://:hidden@x?ssl_ca_certs=/absent.pem", "no file '/absent.pem'"),
        ("PIXEL_QUEUE_URL", "redi://:hidden@x", "redis://"),
        ("REDIS_URL", "redis://:hidden@x/name", "number of a database"),
        ("REDIS_URL", "redis://:hidden@x/0?socket_timeout=hidden", "ssl_cert_reqs"),
        ("REDIS_URL", "redis://:1?hidden@x/0", "after a"),
        ("REDIS_URL", "redis://x?decode_responses=true", "after a"),
        ("REDIS_URL", "unix://", "path of a socket"),
        ("PIXEL_TIME_ZONE", "../UTC", "time zone database"),
        ("PIXEL_TIME_ZONE", "Europe/Bonn", "time zone database"),
        ("PIXEL_BASE_URL", "x.example", "http or https"),
        ("PIXEL_BASE_URL", "https://ada:hidden@x.example", "no user"),
        ("PIXEL_BASE_URL", "https://x.example?key=hidden", "no user, query"),
        ("PIXEL_BASE_URL", "https://x\nhidden", "http or https"),
        ("PIXEL_BASE_URL", "https://x.example/s/hidden", "must not begin with a path of this server"),
        ("PIXEL_SECRET", "hidden", "16 characters"),
        ("PIXEL_SECRET", "a-key-that-is-long-enough,hidden", "16 characters"),
        ("PIXEL_RECIPIENT_SECRET", "hidden", "16 characters"),
        ("PIXEL_API_KEY", "hidden", "16 characters"),
        ("PIXEL_SECRET", "hidden\udcff-and-long-enough", "UTF-8"),
        ("PIXEL_DATA_DIR", "hidden\udcff", "UTF-8"),
        ("PIXEL_TRUSTED_PROXIES", "10.0.0.0/33", "networks"),
        ("PIXEL_TRUSTED_PROXIES", "proxy.example", "networks"),
        ("PIXEL_TRUSTED_PROXIES", "10.0.0.1\nproxy", "networks"),
        ("PIXEL_CLIENT_IP_HEADER", "X-Real-IP:", "header"),
        ("PIXEL_CLIENT_IP_HEADER", "two words", "header"),
    ],
)
def test_from_env_unusable_value_raises_one_line_without_secrets(name: str, value: str, why: str):
    with pytest.raises(SettingsError, match=why) as raised:
        Settings.from_env({name: value})
    line = str(raised.value)
    assert line.startswith((name, "PIXEL_QUEUE_URL"))
    assert "hidden" not in line
    assert "\n" not in line
    assert line.isprintable()


SIGN_IN = {
    "PIXEL_TRUSTED_PROXIES": "10.0.0.1",
    "PIXEL_SIGN_IN_HEADER": "Remote-User",
    "PIXEL_SIGN_IN_GROUPS_HEADER": "Remote-Groups",
    "PIXEL_SIGN_IN_SCOPES": "anna=read,people; group:marketing=read; *=read:spring",
}


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("PIXEL_SIGN_IN_HEADER", "", "PIXEL_SIGN_IN_GROUPS_HEADER: has no effect without"),
        ("PIXEL_SIGN_IN_HEADER", "Remote User", "must be the name of a header"),
        ("PIXEL_SIGN_IN_SCOPES", "", "PIXEL_SIGN_IN_HEADER: set PIXEL_SIGN_IN_SCOPES"),
        ("PIXEL_SIGN_IN_SCOPES", "anna\nread", "is not NAME=SCOPES"),
        ("PIXEL_SIGN_IN_SCOPES", "anna=read; bob=all", "'all' is not a scope"),
        ("PIXEL_SIGN_IN_GROUPS_HEADER", "", "names groups, so set PIXEL_SIGN_IN_GROUPS_HEADER"),
        ("PIXEL_SIGN_IN_GROUPS_HEADER", "remote-user", "must not be the header of PIXEL_SIGN_IN_HEADER"),
        ("PIXEL_TRUSTED_PROXIES", "", "set PIXEL_TRUSTED_PROXIES to the address of the proxy"),
        ("PIXEL_TRUSTED_PROXIES", "10.0.0.1 0.0.0.0/0", "must not name all addresses"),
        ("PIXEL_TRUSTED_PROXIES", "::/0", "must not name all addresses"),
        ("PIXEL_SIGN_OUT_URL", "javascript:alert()", "http or https address, or a path"),
        ("PIXEL_SIGN_OUT_URL", "//evil.example", "http or https address, or a path"),
        ("PIXEL_SIGN_OUT_URL", "https://a@b", "http or https address, or a path"),
    ],
)
def test_from_env_sign_in_that_does_not_fit_raises_one_line(name: str, value: str, why: str):
    with pytest.raises(SettingsError, match=why) as raised:
        Settings.from_env({**SIGN_IN, name: value})
    line = str(raised.value)
    assert line.startswith("PIXEL_")
    assert line.isprintable()


@pytest.mark.parametrize(
    "url", ["/oauth2/sign_out?rd=%2F", "https://auth.example.org/logout", "https://auth.example.org:8443"]
)
def test_from_env_sign_in_is_read(url: str):
    found = Settings.from_env({**SIGN_IN, "PIXEL_SIGN_OUT_URL": url})
    assert (found.sign_in_header, found.sign_in_groups_header) == ("Remote-User", "Remote-Groups")
    assert found.sign_in_scopes is not None
    assert found.sign_in_scopes.of("anna", ["marketing"]) == {"read", "people", "read:spring"}
    assert found.sign_out_url == url


@pytest.mark.parametrize(
    "url",
    [
        *("redis://", "redis://ada:a%40b@x:7/3", "unix:///a/b.sock?db=2", "rediss://x?ssl_cert_reqs=none"),
        "redis+sentinel://:p@a,b:26380/main/1",
    ],
)
def test_from_env_redis_url_is_kept_as_it_is(url: str):
    assert Settings.from_env({"REDIS_URL": url}).redis_url == url


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("http://x", "http://x"),
        ("https://x.example:8443/", "https://x.example:8443"),
        ("https://x.example/a/b//", "https://x.example/a/b"),
        ("http://[2001:db8::1]:80/px", "http://[2001:db8::1]:80/px"),
    ],
)
def test_parse_base_url_slash_at_the_end_is_removed(value: str, expected: str):
    assert parse_base_url(value) == expected


def test_read_secret_files_sets_the_variable_to_the_text(tmp_path):
    (tmp_path / "key").write_text(" the-newest-of-the-keys the-one-before-that\n")
    environ = {"PIXEL_SECRET_FILE": str(tmp_path / "key"), "PIXEL_API_KEY_FILE": " ", "PIXEL_SHARDS": "8"}
    read_secret_files(environ)
    assert environ == {"PIXEL_SECRET": "the-newest-of-the-keys the-one-before-that", "PIXEL_SHARDS": "8"}
    assert unknown_name_warnings(environ) == []
    assert len(Settings.from_env(environ).signing_secrets) == 2


def test_read_secret_files_has_every_secret_of_the_table():
    secret = {name for name, _, _ in table() if any(word in name for word in ("SECRET", "KEY", "URL"))}
    secret -= {"PIXEL_BASE_URL", "PIXEL_SIGN_OUT_URL", "PIXEL_RELAY_TLS_KEY"}
    assert secret | {"PIXEL_RELAY_TO"} == set(SECRET_NAMES)
    assert [name for name in SECRET_NAMES if f"`{name}_FILE`" not in TABLE] == []


@pytest.mark.parametrize(
    ("content", "other", "says"),
    [
        (None, {}, "PIXEL_SECRET_FILE: cannot read "),
        (b"", {}, "key is empty"),
        (b"a\xff", {}, "it is not a UTF-8 text"),
        (b"a\0b", {}, "is not a text"),
        (b"a", {"PIXEL_SECRET": "b"}, "PIXEL_SECRET and PIXEL_SECRET_FILE are both set: unset one of them"),
    ],
)
def test_read_secret_files_unusable_is_one_line(tmp_path, content, other, says):
    if content is not None:
        (tmp_path / "key").write_bytes(content)
    with pytest.raises(SettingsError) as error:
        read_secret_files({"PIXEL_SECRET_FILE": str(tmp_path / "key")} | other)
    assert says in str(error.value)
    assert "\n" not in str(error.value)
