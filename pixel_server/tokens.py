"""Tokens: the signed, opaque part of an email pixel's URL.

    1  format version
    1  flags: mode (3 bits), part of the mail (2), time is of sending (1), test (1), 0
    4  time, seconds since 1970
    8  recipient key, absent in mode count
    n  campaign, 1 to 63 bytes
   10  tag: BLAKE2b under a signing key, over all before it

base64url without padding. Only one spelling of a token verifies. Signed, not secret.
"""

from __future__ import annotations

from binascii import Error, a2b_base64, b2a_base64
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from hashlib import blake2b
from hmac import compare_digest

from pixel_server.slug import is_slug_bytes

FORMAT = 1
MAX_TIME = 2**32 - 1

_TAG = 10
_HEAD = 6
SENDING, TEST = 0x20, 0x40
"""Flags: the time is when the mail goes out, not when the link was made; a trial mail of the sender's own."""
_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_", b"+/")
_SHORTEST, _LONGEST = 23, 116
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_ENDS = (b"", _ALPHABET), (b"", b""), (b"==", _ALPHABET[::16]), (b"=", _ALPHABET[::4])
"""Padding and last characters that there may be, by length modulo 4: none with bits beyond the last byte."""


class Mode(IntEnum):
    """How much is kept of a recipient, least first."""

    OFF = 0
    COUNT = 1
    LAST = 2
    PSEUDONYMOUS = 3
    IDENTIFIED = 4


MODES = tuple(mode.name.lower() for mode in Mode)


class Part(IntEnum):
    """Which pixel of the mail."""

    SINGLE = 0
    TOP = 1
    BOTTOM = 2


_CAMPAIGN_AT = {
    mode | part << 3 | more: _HEAD if mode == Mode.COUNT else _HEAD + 8
    for mode in range(Mode.COUNT, Mode.IDENTIFIED + 1)
    for part in range(len(Part))
    for more in (0, SENDING, TEST, SENDING | TEST)
}
"""Where the campaign begins, for each byte of flags that there may be."""


class BadToken(ValueError):
    """Not a token of this server, or not as it was signed."""


@dataclass(frozen=True, slots=True)
class Token:
    """What a link says. time: seconds, of minting or (`sending`) of sending. recipient: 8 bytes or none."""

    campaign: str
    time: int
    recipient: bytes = b""
    mode: Mode = Mode.PSEUDONYMOUS
    part: Part = Part.SINGLE
    sending: bool = False
    test: bool = False

    @property
    def flags(self) -> int:
        return self.mode | self.part << 3 | self.sending * SENDING | self.test * TEST


def mode_of(flags: int) -> int:
    """The mode in a token's or a hit's flags."""
    return flags & 0x07


def with_mode(flags: int, mode: int) -> int:
    """The same flags with another mode."""
    return flags & ~0x07 | mode


def part_of(flags: int) -> int:
    """The part of the mail in a token's or a hit's flags."""
    return flags >> 3 & 0x03


def sign(token: Token, key: bytes) -> str:
    """The token's one spelling, signed with this key."""
    body = b"%c%c%b%b%b" % (
        FORMAT,
        token.flags,
        token.time.to_bytes(4, "big"),
        token.recipient,
        token.campaign.encode(),
    )
    return b2a_base64(body + _tag(body, key), newline=False).rstrip(b"=").translate(_TO_URL).decode()


def read(text: bytes, keys: tuple[bytes, ...]) -> tuple[int, int, bytes, str]:
    """(flags, time in s, recipient key or none, campaign) of a good token. BadToken: everything else."""
    if not _SHORTEST <= len(text) <= _LONGEST:
        raise BadToken("length")
    padding, last = _ENDS[len(text) % 4]
    if text[-1] not in last or b"+" in text or b"/" in text:
        raise BadToken("spelling")
    try:
        data = a2b_base64(text.translate(_FROM_URL) + padding, strict_mode=True)
    except Error:
        raise BadToken("alphabet") from None
    body, tag = data[:-_TAG], data[-_TAG:]
    for key in keys:
        if compare_digest(_tag(body, key), tag):
            break
    else:
        raise BadToken("signature")
    flags = body[1]
    start = _CAMPAIGN_AT.get(flags)
    if start is None or body[0] != FORMAT:
        raise BadToken("format")
    return flags, int.from_bytes(body[2:6], "big"), body[_HEAD:start], _campaign(body[start:])


def peek(text: bytes) -> Token:
    """What a token says, whoever signed it. BadToken: it is not of this shape."""
    try:
        data = a2b_base64(text.translate(_FROM_URL) + _ENDS[len(text) % 4][0], strict_mode=True)
    except Error:
        raise BadToken("alphabet") from None
    body = data[:-_TAG]
    start = _CAMPAIGN_AT.get(body[1]) if len(body) > _HEAD else None
    if start is None or body[0] != FORMAT:
        raise BadToken("format")
    flags = body[1]
    return Token(
        _campaign(body[start:]),
        int.from_bytes(body[2:6], "big"),
        body[_HEAD:start],
        Mode(mode_of(flags)),
        Part(part_of(flags)),
        bool(flags & SENDING),
        bool(flags & TEST),
    )


@lru_cache(1024)
def _campaign(name: bytes) -> str:
    if not is_slug_bytes(name):
        raise BadToken("campaign")
    return name.decode()


@lru_cache(64)
def _keyed(key: bytes) -> blake2b:
    return blake2b(digest_size=_TAG, key=key)


def _tag(body: bytes, key: bytes) -> bytes:
    made = _keyed(key).copy()
    made.update(body)
    return made.digest()
