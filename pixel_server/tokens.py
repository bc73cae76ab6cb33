"""Tokens: the signed, opaque part of a mail pixel's URL. Its bytes, in order:

    1  format version
    1  flags: mode (3 bits), place in the mail (2), SENDING (1), TEST (1), unused (1)
    4  time, seconds since 1970
    8  recipient key, left out in mode count
    n  campaign, 1 to 63 bytes
   10  tag: BLAKE2b under a signing key, over all bytes before it

A token is base64url without padding. It is signed, not secret. Only one spelling of a token verifies. Code
that reads URLs first calls `decode_unreserved`, because `%2D` and `-` are the same character of a URL (RFC
3986, 6.2.2.2). No other encoding is decoded. A token must not verify with padding, with unused bits set at
its end, with `+` and `/`, in another case, encoded twice (`%252D`), or with characters around it.

Whoever makes links in another language goes by docs/token.md and clients/vectors.json.
"""

from __future__ import annotations

import re
from binascii import Error, a2b_base64, b2a_base64
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from hashlib import blake2b
from hmac import compare_digest
from struct import Struct
from typing import Any

from pixel_server.slug import is_slug_bytes

FORMAT = 1
MAX_TIME = 2**32 - 1

_TAG_BYTES = 10
_HEAD_BYTES = 6
SENDING, TEST = 0x20, 0x40
"""Flags. SENDING: the time is the time of sending, not of minting. TEST: the mail is a trial mail."""
_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_+/", b"+/!!")
"""Translates base64url to base64. "+" and "/", which base64url does not have, become the invalid "!"."""
_MIN_LENGTH, _MAX_LENGTH = 23, 116
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_PADDING_AND_LAST = (b"", _ALPHABET), (b"", b""), (b"==", _ALPHABET[::16]), (b"=", _ALPHABET[::4])
"""(missing padding, allowed last characters) by length of a token modulo 4. A token of length 1 modulo 4 is
invalid. The bits after the token's last byte must be 0."""


class Mode(IntEnum):
    """Modes, from least to most data about a recipient. Signed into links and stored in hits: append only."""

    OFF = 0
    COUNT = 1
    LAST = 2
    PSEUDONYMOUS = 3
    IDENTIFIED = 4


MODES = tuple(mode.name.lower() for mode in Mode)


class Part(IntEnum):
    """The pixel's place in the mail. Signed into links and stored in hits: append only."""

    SINGLE = 0
    TOP = 1
    BOTTOM = 2


_replace_escapes = re.compile(
    rb"%(4[1-9A-Fa-f]|5[0-9Aa]|6[1-9A-Fa-f]|7[0-9Aa]|3[0-9]|2[DdEe]|5[Ff]|7[Ee])"
).sub


def decode_unreserved(path: bytes) -> bytes:
    """Returns a URL's path with its escaped unreserved characters decoded: `/o/a-b` for `/%6F/a%2Db`.

    Call it only once: two calls would turn `%%32D` into `-`.
    """
    if b"%" not in path:
        return path
    return _replace_escapes(lambda escape: bytes([int(escape[1], 16)]), path)


def _unpackers(recipient_bytes: int) -> dict[int, Callable[[bytes], Any]]:
    """Returns the functions that unpack the bytes of a token, by length of its text.

    Such a function returns (version, flags, time, recipient, campaign, tag).
    """
    fixed = _HEAD_BYTES + recipient_bytes + _TAG_BYTES
    return {
        length: Struct(f">BBI{recipient_bytes}s{length * 3 // 4 - fixed}s{_TAG_BYTES}s").unpack
        for length in range(_MIN_LENGTH, _MAX_LENGTH + 1)
        if length % 4 != 1 and length * 3 // 4 > fixed
    }


_WITH_RECIPIENT, _WITHOUT_RECIPIENT = _unpackers(8), _unpackers(0)
_UNPACKERS = {
    mode | part << 3 | more: _WITHOUT_RECIPIENT if mode == Mode.COUNT else _WITH_RECIPIENT
    for mode in range(Mode.COUNT, Mode.IDENTIFIED + 1)
    for part in range(len(Part))
    for more in (0, SENDING, TEST, SENDING | TEST)
}
"""Functions that unpack a token, by its byte of flags, then by its length. All other flags are invalid."""


class BadToken(ValueError):
    """The text is not a token that this server has signed."""


@dataclass(frozen=True, slots=True)
class Token:
    """The content of a token.

    time: seconds since 1970. recipient: the recipient key of 8 bytes, or b"" in mode count. is_sending_time:
    whether `time` is the time of sending, and not of minting. is_test: whether the mail is a trial mail.
    """

    campaign: str
    time: int
    recipient: bytes = b""
    mode: Mode = Mode.PSEUDONYMOUS
    part: Part = Part.SINGLE
    is_sending_time: bool = False
    is_test: bool = False

    @property
    def flags(self) -> int:
        """The byte of flags."""
        return self.mode | self.part << 3 | self.is_sending_time * SENDING | self.is_test * TEST


def mode_of(flags: int) -> int:
    """Returns the mode in the flags of a token or a hit."""
    return flags & 0x07


def with_mode(flags: int, mode: int) -> int:
    """Returns these flags with another mode."""
    return flags & ~0x07 | mode


def part_of(flags: int) -> int:
    """Returns the pixel's place in the mail (a `Part`) in the flags of a token or a hit."""
    return flags >> 3 & 0x03


def sign(token: Token, key: bytes) -> str:
    """Returns the text of a token, signed with this key."""
    body = b"%c%c%b%b%b" % (
        FORMAT,
        token.flags,
        token.time.to_bytes(4, "big"),
        token.recipient,
        token.campaign.encode(),
    )
    tag = blake2b(body, digest_size=_TAG_BYTES, key=key).digest()
    return b2a_base64(body + tag, newline=False).rstrip(b"=").translate(_TO_URL).decode()


def verify(text: bytes, keys: tuple[bytes, ...]) -> tuple[int, int, bytes, str]:
    """Returns flags, time (s), recipient key (or b"") and campaign of a token that one of these keys signed.

    Raises BadToken for every other text.
    """
    data, (_, flags, time, recipient, campaign, tag) = _parts(text)
    for key in keys:
        expected = _keyed(key).copy()
        expected.update(data[:-_TAG_BYTES])
        if compare_digest(expected.digest(), tag):
            return flags, time, recipient, _campaign(campaign)
    raise BadToken("signature")


def decode_unverified(text: bytes) -> Token:
    """Returns the content of a token without checking its signature.

    Raises BadToken if the text does not have the form of a token.
    """
    _, (_, flags, time, recipient, campaign, _) = _parts(text)
    return Token(
        _campaign(campaign),
        time,
        recipient,
        Mode(mode_of(flags)),
        Part(part_of(flags)),
        bool(flags & SENDING),
        bool(flags & TEST),
    )


def _parts(text: bytes) -> tuple[bytes, tuple[int, int, int, bytes, bytes, bytes]]:
    """Returns a token's bytes, and its version, flags, time, recipient, campaign and tag.

    Raises BadToken if the text does not have the form of a token. Does not check the signature.
    """
    length = len(text)
    if not _MIN_LENGTH <= length <= _MAX_LENGTH:
        raise BadToken("length")
    padding, last_characters = _PADDING_AND_LAST[length % 4]
    if text[-1] not in last_characters:
        raise BadToken("spelling")
    try:
        data = a2b_base64(text.translate(_FROM_URL) + padding, strict_mode=True)
    except Error:
        raise BadToken("alphabet") from None
    unpackers = _UNPACKERS.get(data[1])
    if unpackers is None or data[0] != FORMAT:
        raise BadToken("format")
    unpack = unpackers.get(length)
    if unpack is None:
        raise BadToken("length")
    return data, unpack(data)


@lru_cache(1024)
def _campaign(name: bytes) -> str:
    if not is_slug_bytes(name):
        raise BadToken("campaign")
    return name.decode()


@lru_cache(64)
def _keyed(key: bytes) -> blake2b:
    return blake2b(digest_size=_TAG_BYTES, key=key)
