"""Hashes stored in place of secrets that clients send: API keys, share links, sign-in links, cookies."""

from __future__ import annotations

from hashlib import blake2b


def token_hash(token: str, purpose: bytes) -> str:
    """Returns the hash of a token, 32 hexadecimal digits.

    purpose: up to 16 bytes, such as `b"px-share"`. A token has a different hash for each purpose.
    """
    return blake2b(token.encode("utf-8", "surrogatepass"), digest_size=16, person=purpose).hexdigest()
