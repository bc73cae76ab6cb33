"""Changes of an encoded body, in each transfer encoding. No other byte changes."""

from __future__ import annotations

import quopri
from base64 import b64decode, b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixel_server.mail.placement import Edit, EmbedError, splice
from pixel_server.mail.transfer import change, decode

TAG = b'<img src="https://mail.example.org/o/AQNqsTuA7c8guGRUfvJzcHJpbmej.gif" width="1" alt="" border="0">'
TEXT = (
    b"<html><body>\n"
    + b"<p class=3D>Gr\xc3\xbc\xc3\x9fe = '\xe2\x82\xac' ...</p>\n" * 30
    + b"</body></html>\n"
)
AT = TEXT.index(b"</body>")


def around(before: bytes, after: bytes) -> int:
    """Returns how many bytes of `before` are also at the beginning or the end of `after`."""
    head = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), len(before))
    pairs = zip(before[::-1], after[::-1], strict=False)
    tail = next((i for i, (a, b) in enumerate(pairs) if a != b), len(before))
    return min(head + tail, len(before))


def longest(body: bytes) -> int:
    return max(len(line) for line in body.splitlines())


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
@pytest.mark.parametrize("at", [0, 5, AT, len(TEXT)])
def test_change_quoted_printable_inserts_the_pixel_only(newline: bytes, at: int):
    body = quopri.encodestring(TEXT.replace(b"\n", newline)).replace(b"\n", newline).replace(b"\r\r", b"\r")
    decoded = decode(body, "Quoted-Printable")
    assert decoded == quopri.decodestring(body)
    made = change(body, "quoted-printable", [Edit(at, at, TAG)], b"\r\n")
    assert (
        quopri.decodestring(made) == decode(made, "quoted-printable") == splice(decoded, [Edit(at, at, TAG)])
    )
    assert around(body, made) == len(body)
    assert longest(made) <= 76
    assert made.count(b"\n") == made.count(newline)


def test_change_quoted_printable_full_line_stays_within_76():
    for size in range(70, 77):
        for last in (b"x", b"=3D"):
            body = b"a" * (size - len(last)) + last + b"\nb"
            at = len(decode(body, "quoted-printable")) - 2
            made = change(body, "quoted-printable", [Edit(at, at, TAG)], b"\n")
            assert quopri.decodestring(made) == splice(quopri.decodestring(body), [Edit(at, at, TAG)])
            assert longest(made) <= 76


def test_change_base64_keeps_the_lines_before_the_pixel():
    for width, newline in ((76, b"\r\n"), (60, b"\n"), (72, b"\n")):
        letters = b64encode(TEXT)
        lines = [letters[i : i + width] for i in range(0, len(letters), width)]
        body = newline.join(lines) + newline
        made = change(body, "BASE64", [Edit(AT, AT, TAG)], b"\n")
        assert b64decode(made) == splice(TEXT, [Edit(AT, AT, TAG)])
        same = AT // (width // 4 * 3)
        assert made.split(newline)[:same] == lines[:same]
        assert longest(made) == width
        assert made.endswith(newline)
        assert made.count(b"\n") == made.count(newline)


def test_change_8bit_long_line_breaks_inside_the_tag():
    body = b"a" * 700 + b"</body>" + b"b" * 250
    made = change(body, "8bit", [Edit(700, 700, TAG)], b"\r\n")
    assert longest(made) <= 998
    assert made.replace(b"\r\n", b" ") == body[:700] + TAG + body[700:]
    assert change(body[:900], "7bit", [Edit(700, 700, TAG[:90])], b"\n").count(b"\n") == 0


html = st.text("ab<>=\n .é€\t", max_size=300).map(str.encode)


@given(html, st.data())
def test_change_decoded_again_is_that_change(text: bytes, data: st.DataObject):
    places = sorted(data.draw(st.lists(st.integers(0, len(text)), min_size=2, max_size=2)))
    put = data.draw(st.sampled_from([b"", TAG, b"<", b"x" * 80, b"=.\xff"]))
    start, end = data.draw(st.sampled_from([places, [places[0]] * 2, [places[1]] * 2]))
    changes = [Edit(start, end, put)]
    width = data.draw(st.sampled_from([4, 60, 76, 1000]))
    letters = b64encode(text)
    bodies = {
        "base64": b"\n".join(letters[i : i + width] for i in range(0, len(letters), width)),
        "quoted-printable": quopri.encodestring(text),
        "8bit": text,
    }
    for encoding, body in bodies.items():
        made = change(body, encoding, changes, b"\n")
        assert decode(made, encoding) == splice(decode(body, encoding), changes)
        if encoding == "quoted-printable":
            assert longest(made + b"\n") <= max(76, longest(body + b"\n"))


def test_decode_bad_body_is_refused():
    with pytest.raises(EmbedError, match="x-uuencode"):
        decode(b"begin 644", "x-uuencode")
    with pytest.raises(EmbedError, match="base64"):
        decode(b"abcde", "base64")
    assert decode(b"PHA+SG8=\r\n \r\n", "base64") == b"<p>Ho"
    for behind in (b"PHA+SG8=\n", b"\n-- \nof the list"):
        with pytest.raises(EmbedError, match="behind its end"):
            decode(b"PHA+SG8=\n" + behind, "base64")
