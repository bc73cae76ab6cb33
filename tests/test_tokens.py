"""Only one spelling of a token verifies."""

from __future__ import annotations

from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from dataclasses import replace
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixel_server.slug import PATTERN
from pixel_server.tokens import (
    MAX_TIME,
    BadToken,
    Mode,
    Part,
    Token,
    decode_unreserved,
    mode_of,
    part_of,
    sign,
    verify,
)

KEY, OLD_KEY, OTHER_KEY = b"k" * 32, b"o" * 32, b"x" * 32
TOKEN = Token("spring-sale", 1_790_000_000, b"8 bytes!")
SIGNED = sign(TOKEN, KEY).encode()

keys = st.binary(min_size=1, max_size=64)
named = st.builds(
    Token,
    campaign=st.from_regex(PATTERN, fullmatch=True),
    time=st.integers(0, MAX_TIME),
    recipient=st.binary(min_size=8, max_size=8),
    mode=st.sampled_from([Mode.LAST, Mode.PSEUDONYMOUS, Mode.IDENTIFIED]),
    part=st.sampled_from(Part),
    is_sending_time=st.booleans(),
    is_test=st.booleans(),
)
unnamed = named.map(lambda token: replace(token, recipient=b"", mode=Mode.COUNT))


def signed(body: bytes, key: bytes = KEY) -> bytes:
    """Returns the token of a body of any shape, signed as the server signs."""
    return urlsafe_b64encode(body + blake2b(body, digest_size=10, key=key).digest()).rstrip(b"=")


def unsigned(text: bytes) -> bytes:
    return urlsafe_b64decode(text + b"=" * (-len(text) % 4))[:-10]


@given(named | unnamed, keys)
def test_verify_signed_token_returns_its_content(token: Token, key: bytes):
    flags, time, recipient, campaign = verify(sign(token, key).encode(), (key,))
    assert (campaign, time, recipient) == (token.campaign, token.time, token.recipient)
    assert (mode_of(flags), part_of(flags), flags) == (token.mode, token.part, token.flags)


@given(named | unnamed, st.data())
def test_decode_unreserved_any_escapes_give_the_token_back(token: Token, data: st.DataObject):
    text = sign(token, KEY).encode()
    escapes = data.draw(
        st.lists(st.sampled_from([b"%c", b"%%%02X", b"%%%02x"]), min_size=len(text), max_size=len(text))
    )
    escaped = b"".join(escape % byte for escape, byte in zip(escapes, text, strict=True))
    assert decode_unreserved(escaped) == text


def test_decode_unreserved_keeps_every_other_escape():
    unreserved = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
    for byte in range(256):
        for escape in (b"/%%%02x/" % byte, b"/%%%02X/" % byte):
            assert decode_unreserved(escape) == (b"/%c/" % byte if byte in unreserved else escape)
    for kept in (b"%", b"%4", b"%G1", b"%252D", b"%%", b"%u002D", b"%C2%AD"):
        assert decode_unreserved(kept) == kept


@given(st.binary(max_size=130) | st.text("-_+/=Aaz09", max_size=130).map(str.encode))
def test_verify_random_bytes_raises(text: bytes):
    with pytest.raises(BadToken):
        verify(text, (KEY,))


@given(st.binary(max_size=100))
def test_verify_signed_body_of_any_shape_is_a_token_or_raises(body: bytes):
    try:
        flags, time, recipient, campaign = verify(signed(body), (KEY,))
    except BadToken:
        return
    again = Token(campaign, time, recipient, Mode(mode_of(flags)), Part(part_of(flags)))
    again = replace(again, is_sending_time=bool(flags & 0x20), is_test=bool(flags & 0x40))
    assert sign(again, KEY).encode() == signed(body)


def test_verify_flipped_bit_of_the_text_raises():
    for token in (TOKEN, replace(TOKEN, campaign="a" * 63), Token("c", 0, mode=Mode.COUNT)):
        text = sign(token, KEY).encode()
        for bit in range(len(text) * 8):
            flipped = bytearray(text)
            flipped[bit // 8] ^= 1 << bit % 8
            with pytest.raises(BadToken):
                verify(bytes(flipped), (KEY,))


def test_verify_flipped_bit_of_the_bytes_raises():
    data = bytearray(urlsafe_b64decode(SIGNED + b"=" * (-len(SIGNED) % 4)))
    for bit in range(len(data) * 8):
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BadToken):
            verify(urlsafe_b64encode(data).rstrip(b"="), (KEY,))
        data[bit // 8] ^= 1 << bit % 8
    assert verify(urlsafe_b64encode(data).rstrip(b"="), (KEY,))[3] == "spring-sale"


def test_verify_cut_text_raises():
    for end in range(len(SIGNED)):
        for cut in (SIGNED[:end], SIGNED[len(SIGNED) - end :]):
            with pytest.raises(BadToken):
                verify(cut, (KEY,))


def test_verify_other_spelling_of_a_token_raises():
    """The token has a length and characters for which each other spelling of base64 exists."""
    tokens = (sign(replace(TOKEN, time=time), KEY).encode() for time in range(10_000))
    token = next(text for text in tokens if b"-" in text and b"_" in text)
    assert len(token) % 4 == 3
    assert verify(token, (KEY,))
    last = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spare = bytes([last[last.index(token[-1]) | 1]])
    others = {
        "padded": token + b"=",
        "padded twice": token + b"==",
        "standard alphabet": token.translate(bytes.maketrans(b"-_", b"+/")),
        "one plus": token.replace(b"-", b"+", 1),
        "spare bits": token[:-1] + spare,
        "space before": b" " + token,
        "space after": token + b" ",
        "newline after": token + b"\n",
        "newline inside": token[:20] + b"\n" + token[20:],
        "NUL after": token + b"\0",
        "lengthened": token + b"A",
        "lengthened by a whole group": token + b"AAAA",
        "twice": token + token,
        "upper case": token.upper(),
        "percent": token.replace(b"-", b"%2D", 1),
        "base64 of it": b64encode(token),
    }
    for how, text in others.items():
        assert text != token, how
        with pytest.raises(BadToken):
            pytest.fail(f"{how}: {verify(text, (KEY,))}")


def test_verify_another_key_raises():
    with pytest.raises(BadToken):
        verify(SIGNED, (OTHER_KEY,))


@pytest.mark.parametrize("keys", [(KEY,), (KEY, OLD_KEY), (OLD_KEY, KEY), (OTHER_KEY, OLD_KEY, KEY)])
def test_verify_any_of_the_keys_signed_returns_the_content(keys: tuple[bytes, ...]):
    assert verify(SIGNED, keys)[3] == "spring-sale"


HEAD = unsigned(SIGNED)[:14]


@pytest.mark.parametrize(
    "body",
    [
        b"\x02" + HEAD[1:] + b"spring",
        b"\x00" + HEAD[1:] + b"spring",
        HEAD[:1] + b"\x00" + HEAD[2:] + b"spring",
        HEAD[:1] + b"\x05" + HEAD[2:] + b"spring",
        HEAD[:1] + b"\x1b" + HEAD[2:] + b"spring",
        HEAD[:1] + b"\x83" + HEAD[2:] + b"spring",
        HEAD,
        HEAD + b"Spring",
        HEAD + b"-spring",
        HEAD + b"spr ing",
        HEAD + "spr\N{LATIN SMALL LETTER DOTLESS I}ng".encode(),
        HEAD + b"spring\n",
        HEAD + b"s" * 64,
    ],
    ids=[
        "format 2",
        "format 0",
        "mode off",
        "mode 5",
        "part 3",
        "spare flag",
        "no campaign",
        "upper case",
        "dash first",
        "space",
        "look-alike",
        "newline",
        "64 bytes",
    ],
)
def test_verify_signed_body_of_no_version_raises(body: bytes):
    with pytest.raises(BadToken):
        verify(signed(body), (KEY,))
    assert verify(signed(HEAD + b"spring"), (KEY,))[3] == "spring"
