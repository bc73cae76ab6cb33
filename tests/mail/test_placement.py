"""The place of the pixel in a mail's HTML. No other byte changes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixel_server.mail.links import Minter, embed, make_tags
from pixel_server.mail.placement import AlreadyThere, EmbedError, frame, is_last, pixels
from pixel_server.secret import Secrets
from pixel_server.tokens import Mode, Part
from tests.mail.corpus import END, MAILS, TOP, Mail, plain, with_tags

NOW = 1_790_000_000.0
ADA = "ada@example.org"
MINTER = Minter("https://mail.example.org", Secrets.derive(("signing",), "recipient"))


def put(html, recipient=ADA, **more):
    return embed(html, MINTER, "spring", recipient, now=NOW, **more)


def tag(part: Part = Part.SINGLE, recipient: str = ADA) -> bytes:
    return (MINTER.link("spring", recipient, part=part, now=NOW).html or "").encode()


@pytest.mark.parametrize("mail", MAILS, ids=lambda mail: mail.reason)
def test_embed_corpus_inserts_the_pixel_and_nothing_else(mail: Mail):
    assert mail.marked.count(TOP) == mail.marked.count(END) == 1
    html = plain(mail)
    assert put(html) == with_tags(mail, b"", tag())
    assert put(html, twin=True) == with_tags(mail, tag(Part.TOP), tag(Part.BOTTOM))


@pytest.mark.parametrize("mail", [m for m in MAILS if not m.encoding], ids=lambda mail: mail.reason)
def test_embed_text_gives_the_same_as_bytes(mail: Mail):
    made = put(plain(mail).decode("latin-1"), twin=True)
    assert made == with_tags(mail, tag(Part.TOP), tag(Part.BOTTOM)).decode("latin-1")


def test_embed_text_beyond_latin_1_inserts_the_pixel():
    around = "\ufeff<p>\U0001f600€\udc80{}</body>\U0001f600"
    assert put(around.format("")) == around.format(tag().decode())
    for begin in ("\xff\xfe", "<\0a\0", "\ufeff\ufffe"):
        assert put(begin + "</body>") == begin + tag().decode() + "</body>"


def test_corpus_has_fifty_different_mails():
    assert len(MAILS) >= 50
    assert (
        len({mail.reason for mail in MAILS}) == len({mail.marked + mail.mark for mail in MAILS}) == len(MAILS)
    )


@pytest.mark.parametrize("mail", MAILS, ids=lambda mail: mail.reason)
@pytest.mark.parametrize("twin", [False, True])
def test_embed_pixel_present_is_refused_or_replaced(mail: Mail, twin: bool):
    html = plain(mail)
    once = put(html, twin=twin)
    with pytest.raises(AlreadyThere, match="campaign spring"):
        put(once, "bob@example.org")
    assert put(once, "bob@example.org", replace=True) == put(html, "bob@example.org")
    assert put(once, "bob@example.org", replace=True, twin=True) == put(html, "bob@example.org", twin=True)


PIECES = sorted(
    {piece for mail in MAILS for piece in (mail.marked, *mail.marked.split(TOP), *mail.marked.split(END))}
    | {
        b"</body>",
        b"<body>",
        b"<!--",
        b"-->",
        b"<script>",
        b"</script>",
        b"'",
        b'"',
        b"<",
        b">",
        b"\0",
        b"{{",
    }
)


@given(st.lists(st.tuples(st.sampled_from(PIECES), st.integers(0, 60), st.integers(0, 60)), max_size=6))
def test_embed_mails_cut_and_joined_changes_nothing_else(parts: list[tuple[bytes, int, int]]):
    html = b"".join(piece[cut : len(piece) - end] for piece, cut, end in parts)
    html = html.replace(TOP, b"").replace(END, b"")
    changes = frame(html).edits(make_tags(MINTER, "spring", ADA, twin=True, now=NOW))
    assert [change.start == change.end for change in changes] == [True, True]
    once, twins = put(html), put(html, twin=True)
    if tag() in once:  # not so in UTF-16 and UTF-32
        assert once.replace(tag(), b"", 1) == html
        assert twins.replace(tag(Part.TOP), b"", 1).replace(tag(Part.BOTTOM), b"", 1) == html
        assert put(html.decode("latin-1"), twin=True).encode("latin-1") == twins
    for made, parts_of in ((once, [Part.SINGLE]), (twins, [Part.TOP, Part.BOTTOM])):
        assert [pixel.token.part for pixel in pixels(made)] == parts_of
        with pytest.raises(AlreadyThere):
            put(made)
        assert put(made, replace=True) == once
        assert put(made, replace=True, twin=True) == twins


def test_pixels_mail_with_a_pixel_returns_its_place_and_token():
    html = b"<body>\n" + tag() + b"\n</body>"
    (pixel,) = pixels(html)
    assert html[pixel.start : pixel.end] == tag()
    assert pixel.url == MINTER.url("spring", ADA, now=NOW)
    assert (pixel.token.campaign, pixel.token.time, pixel.token.mode) == ("spring", NOW, Mode.PSEUDONYMOUS)
    assert is_last(html, pixel)
    assert not is_last(html.replace(b"\n</body>", b"<p>Bye</p></body>"), pixel)


def test_pixels_tag_written_in_other_ways_is_found():
    url = MINTER.url("spring", ADA, now=NOW) or ""
    for written in (
        f"<IMG BORDER=0 SRC={url}>",
        f"<img data-src='x' src = '\n{url}'/>",
        f'<img alt="a > b" src="{url.replace("/", "&#47;").replace(":", "&#x3a;")}?a=1&amp;b">',
        f"<img alt=''src={url} >",
        f"<img src='{url.replace('-', '%2D').replace('_', '%5f').replace('/o/A', '/%6F/%41')}'>",
    ):
        with pytest.raises(AlreadyThere):
            put(f"<p>{written}</p>")
    for other in (
        f"<!-- <img src='{url}'> -->",
        f"<a href='{url}'>",
        "<img src='/o/abc.gif'>",
        f"<img alt='src={url}'>",
    ):
        assert tag().decode() in put(f"<p>{other}</p>")


def test_embed_mode_off_inserts_no_pixel():
    assert put(b"<p>Hi</p>", mode=Mode.OFF, twin=True) == b"<p>Hi</p>"
    assert put(b"<p>Hi</p>" + tag(), mode=Mode.OFF, replace=True) == b"<p>Hi</p>"


def test_frame_charset_without_ascii_is_refused():
    with pytest.raises(EmbedError, match="cp037"):
        frame("<p>Hi</p>".encode("cp037"), charset="cp037")
    assert frame("<p>Hi</p>".encode("utf-16-be"), charset="UTF-16BE").bottom == 18
    assert frame(b"<p>Hi</p>", charset="x-unknown").bottom == 9


@pytest.mark.parametrize(
    ("charset", "codec"),
    [
        ("utf-16", "utf-16-le"),
        ("UTF-16", "utf-16-le"),
        ("utf_16", "utf-16-le"),
        ("UTF-16LE", "utf-16-le"),
        ("ucs-2", "utf-16-le"),
        ("ISO-10646-UCS-2", "utf-16-le"),
        ("unicode", "utf-16-le"),
        ("utf-16be", "utf-16-be"),
        ("unicodeFFFE", "utf-16-be"),
    ],
)
def test_frame_utf16_without_mark_has_the_byte_order_that_mail_programs_read(charset, codec):
    html = "Grüße, Ada! <b>Hi</b>\n</body>"
    tags = make_tags(MINTER, "spring", ADA, now=NOW)
    filled = frame(html.encode(codec), charset=charset).fill(tags)
    assert filled.decode(codec) == html.replace("</body>", tags.bottom.decode() + "</body>")


def test_frame_filled_for_each_recipient_gives_the_same_as_embed():
    html_frame = frame(b"<p>Hi</p>" + tag(), replace=True)
    for recipient in (ADA, "bob@example.org"):
        tags = make_tags(MINTER, "spring", recipient, now=NOW)
        assert html_frame.fill(tags) == put(b"<p>Hi</p>", recipient)
