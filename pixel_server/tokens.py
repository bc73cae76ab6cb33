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

_TAG = 10
_HEAD = 6
SENDING, TEST = 0x20, 0x40
"""Flags: the time is when the mail goes out, not when the link was made; a trial mail of the sender's own."""
_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_+/", b"+/!!")
"""What is not of the alphabet of URLs becomes what is of none."""
_SHORTEST, _LONGEST = 23, 116
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_ENDS = (b"", _ALPHABET), (b"", b""), (b"==", _ALPHABET[::16]), (b"=", _ALPHABET[::4])
"""Padding and last characters that there may be, by length modulo 4: none with bits beyond the last byte."""


class Mode(IntEnum):
    """How much is kept of a recipient, least first. Signed into links and stored in hits: append only."""

    OFF = 0
    COUNT = 1
    LAST = 2
    PSEUDONYMOUS = 3
    IDENTIFIED = 4


MODES = tuple(mode.name.lower() for mode in Mode)


class Part(IntEnum):
    """Which pixel of the mail. Signed into links and stored in hits: append only."""

    SINGLE = 0
    TOP = 1
    BOTTOM = 2


def _cuts(recipient: int) -> dict[int, Callable[[bytes], Any]]:
    """By length of a token: what cuts its bytes into version, flags, time, recipient, campaign, tag."""
    fixed = _HEAD + recipient + _TAG
    return {
        length: Struct(f">BBI{recipient}s{length * 3 // 4 - fixed}s{_TAG}s").unpack
        for length in range(_SHORTEST, _LONGEST + 1)
        if length % 4 != 1 and length * 3 // 4 > fixed
    }


_NAMED, _UNNAMED = _cuts(8), _cuts(0)
_CUTS = {
    mode | part << 3 | more: _UNNAMED if mode == Mode.COUNT else _NAMED
    for mode in range(Mode.COUNT, Mode.IDENTIFIED + 1)
    for part in range(len(Part))
    for more in (0, SENDING, TEST, SENDING | TEST)
}
"""For each byte of flags that there may be."""


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
    tag = blake2b(body, digest_size=_TAG, key=key).digest()
    return b2a_base64(body + tag, newline=False).rstrip(b"=").translate(_TO_URL).decode()


def read(text: bytes, keys: tuple[bytes, ...]) -> tuple[int, int, bytes, str]:
    """(flags, time in s, recipient key or none, campaign) of a good token. BadToken: everything else."""
    data, (_, flags, time, recipient, campaign, tag) = _parts(text)
    for key in keys:
        made = _keyed(key).copy()
        made.update(data[:-_TAG])
        if compare_digest(made.digest(), tag):
            return flags, time, recipient, _campaign(campaign)
    raise BadToken("signature")


def peek(text: bytes) -> Token:
    """What a token says, whoever signed it. BadToken: it is not of this shape."""
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
    """Its bytes, and version, flags, time, recipient, campaign, tag. BadToken: it has not that shape."""
    length = len(text)
    if not _SHORTEST <= length <= _LONGEST:
        raise BadToken("length")
    padding, last = _ENDS[length % 4]
    if text[-1] not in last:
        raise BadToken("spelling")
    try:
        data = a2b_base64(text.translate(_FROM_URL) + padding, strict_mode=True)
    except Error:
        raise BadToken("alphabet") from None
    cuts = _CUTS.get(data[1])
    if cuts is None or data[0] != FORMAT:
        raise BadToken("format")
    cut = cuts.get(length)
    if cut is None:
        raise BadToken("length")
    return data, cut(data)


@lru_cache(1024)
def _campaign(name: bytes) -> str:
    if not is_slug_bytes(name):
        raise BadToken("campaign")
    return name.decode()


@lru_cache(64)
def _keyed(key: bytes) -> blake2b:
    return blake2b(digest_size=_TAG, key=key)
