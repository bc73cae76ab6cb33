"""Signed cookie values: what `verify` accepts, and that the stored spelling never changes."""

from __future__ import annotations

import pytest

from pixel_server import signed_cookie

BODY, KEY, OTHER_KEY = b"a body of 20 bytes..", b"k" * 32, b"o" * 32
VALUE = signed_cookie.sign(BODY, KEY, 10, b"shop")


def test_signed_cookie_value_has_a_fixed_spelling():
    assert VALUE == b"YSBib2R5IG9mIDIwIGJ5dGVzLi59l9DkNVQm8voX"


@pytest.mark.parametrize("keys", [(KEY,), (OTHER_KEY, KEY)])
def test_signed_cookie_verify_any_key_returns_the_body(keys: tuple[bytes, ...]):
    assert signed_cookie.verify(VALUE, keys, 10, b"shop") == BODY


@pytest.mark.parametrize(
    ("value", "key", "context"),
    [
        (VALUE, OTHER_KEY, b"shop"),
        (VALUE, KEY, b"other"),
        (VALUE[:-1], KEY, b"shop"),
        (VALUE + b"=", KEY, b"shop"),
        (b"\n" + VALUE, KEY, b"shop"),
        (b"A", KEY, b"shop"),
        (b"", KEY, b"shop"),
    ],
)
def test_signed_cookie_verify_other_value_returns_none(value: bytes, key: bytes, context: bytes):
    assert signed_cookie.verify(value, (key,), 10, context) is None


@pytest.mark.parametrize("body_bytes", range(12))
def test_signed_cookie_body_of_any_length_is_verified(body_bytes: int):
    value = signed_cookie.sign(bytes(body_bytes), KEY, 16)
    assert b"=" not in value
    assert signed_cookie.verify(value, (KEY,), 16) == bytes(body_bytes)
