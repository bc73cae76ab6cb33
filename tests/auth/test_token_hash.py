"""Hashes stored in place of secrets. Existing stores hold these hashes, so they never change."""

from __future__ import annotations

import pytest

from pixel_server.auth import api_keys, sessions, share_links, sign_in_links
from pixel_server.auth.token_hash import token_hash

CASES = [
    (api_keys, b"px-api-key"),
    (share_links, b"px-share"),
    (sign_in_links, b"px-sign-in"),
    (sessions, b"px-signed-out"),
]

STORED = {
    b"px-api-key": "707ef2fa4ae054cacb6e0c67089f7653",
    b"px-share": "b610a693caef56a2d4ccc11266a3b8f5",
    b"px-sign-in": "733960c50e59e7fde6218dfaa9351ead",
    b"px-signed-out": "0026320bf9a10b33ffa43c11f3418b8f",
}


@pytest.mark.parametrize(("module", "purpose"), CASES, ids=[purpose.decode() for _, purpose in CASES])
def test_token_hash_each_purpose_gives_the_stored_hash(module, purpose: bytes):
    assert module._hash("a token") == token_hash("a token", purpose) == STORED[purpose]


def test_token_hash_any_text_gives_32_digits():
    assert len(token_hash("\udcff", b"px-share")) == 32
