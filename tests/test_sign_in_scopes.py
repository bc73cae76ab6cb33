"""PIXEL_SIGN_IN_SCOPES: who gets which scopes, and what cannot be read."""

from __future__ import annotations

import pytest

from pixel_server.sign_in_scopes import SignInScopes, parse


def test_parse_users_groups_and_everybody():
    assert parse(" anna = people,read ;group: marketing=read;\n*=read:spring; ") == SignInScopes(
        users={"anna": ("people", "read")}, groups={"marketing": ("read",)}, everybody=("read:spring",)
    )


def test_parse_same_entries_in_another_order_are_equal():
    one, other = (
        parse("b=read;a=write,read;group:y=read;group:x=read"),
        parse("group:x=read;group:y=read;a=read,write,read;b=read"),
    )
    assert repr(one) == repr(other)  # hosts compare it


def test_parse_name_with_equals_sign_and_colon():
    assert parse("cn=anna/x=read; group:role:admin=write").users == {"cn=anna/x": ("read",)}
    assert parse("group:role:admin=write").groups == {"role:admin": ("write",)}


def test_of_entries_add_up():
    scopes = parse("anna=people; group:marketing=read; group:it=write; *=read:spring")
    assert scopes.of("anna", ["marketing", "", "other"]) == {"people", "read", "read:spring"}
    assert scopes.of("bob", ["it", "marketing"]) == {"write", "read", "read:spring"}
    assert scopes.of("bob", []) == {"read:spring"}


@pytest.mark.parametrize(
    ("user", "groups"),
    [
        ("Anna", []),
        ("\u0430nna", []),  # with a Cyrillic letter
        ("\uff41nna", []),  # with a wide letter
        ("marketing", []),
        ("group:marketing", []),
        ("*", ["*"]),
        ("bob", ["Marketing", "group:marketing", "anna"]),
    ],
)
def test_of_name_that_only_looks_alike_has_no_scope(user: str, groups: list[str]):
    assert parse("anna=read; group:marketing=write").of(user, groups) == frozenset()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("anna", "is not NAME=SCOPES"),
        ("=read", "is not NAME=SCOPES"),
        ("group:=read", "is not NAME=SCOPES"),
        ("group:*=read", "is not NAME=SCOPES"),
        ("anna,bob=read", "is not NAME=SCOPES"),
        ("an\u200bna=read", "is not NAME=SCOPES"),
        ("a" * 257 + "=read", "is not NAME=SCOPES"),
        ("anna=", "'' is not a scope; the scopes are: read, write, people, read:CAMPAIGN"),
        ("anna=read,", "is not a scope"),
        ("anna=Read", "is not a scope"),
        ("anna=read:UP", "is not a scope"),
        ("anna=all", "is not a scope"),
        ("anna=metrics", "for API keys only"),
        ("anna=read; anna=write", "is named twice"),
        ("group:a=read; group: a=write", "is named twice"),
        (";", "names nobody"),
        ("anna=read\nben=read", "is not NAME=SCOPES"),
    ],
)
def test_parse_unusable_text_says_why(text: str, why: str):
    with pytest.raises(ValueError, match=why):
        parse(text)
