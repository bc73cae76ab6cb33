"""Signed values of cookies: a body and a tag over it, in base64url without padding.

The tag is a keyed BLAKE2b of the body and a context. The context is a text that the verifying code knows,
such as the campaign's id, so that the cookie need not hold it.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from hashlib import blake2b
from hmac import compare_digest


def sign(body: bytes, key: bytes, tag_bytes: int, context: bytes = b"") -> bytes:
    """Returns the value of a cookie: 40 characters for a body of 20 bytes and a tag of 10 bytes."""
    tag = blake2b(body + context, digest_size=tag_bytes, key=key).digest()
    return urlsafe_b64encode(body + tag).rstrip(b"=")


def verify(value: bytes, keys: Sequence[bytes], tag_bytes: int, context: bytes = b"") -> bytes | None:
    """Returns the body of a value that one of the keys signed for this context.

    Returns None if the value is forged, cut, or spelled in another way than `sign` spells it.
    """
    try:
        data = urlsafe_b64decode(value + b"=" * (-len(value) % 4))
    except ValueError:
        return None
    if urlsafe_b64encode(data).rstrip(b"=") != value:
        return None
    body, tag = data[:-tag_bytes], data[-tag_bytes:]
    signed, is_good = body + context, False
    for key in keys:
        is_good |= compare_digest(blake2b(signed, digest_size=tag_bytes, key=key).digest(), tag)
    return body if is_good else None
