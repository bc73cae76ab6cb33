"""The pixel in the HTML part of a whole message. No other byte changes."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText

import pytest

from pixel_server.mail.links import Minter, embed
from pixel_server.mail.mailboxes import header_addresses
from pixel_server.mail.message import add_pixel, add_pixel_to_bytes
from pixel_server.mail.placement import CLIP_BYTES, AlreadyThere, EmbedError, pixels
from pixel_server.mail.sealed import Refused
from pixel_server.secret import Secrets
from pixel_server.tokens import Mode, Part
from tests.mail.corpus import MAILS, plain

NOW = 1_790_000_000.0
ADA = "ada@example.org"
MINTER = Minter("https://mail.example.org", Secrets.derive(("signing",), "recipient"))
HTML = (
    "<html><body>\n<p>Grüße, 1 < 2 = 1</p>\n"
    + "<p>und so weiter, und so fort</p>" * 20
    + "\n</body></html>\n"
)


def message(to: str = ADA, html: str = HTML, cte: str = "quoted-printable", charset: str = "utf-8"):
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = "Bob <bob@example.org>", to, "Grüße aus dem Norden " * 5
    made["Message-ID"], made["X-Odd"] = "<1@example.org>", "a  b\tc"
    made.set_content("Grüße, in Text\n")
    made.add_alternative(html, subtype="html", cte=cte, charset=charset)
    return made


def with_image(made: EmailMessage) -> EmailMessage:
    made.get_payload()[1].add_related(b"\x89PNG\r\n", "image", "png", cid="<a@b>")
    return made


def with_files(made: EmailMessage) -> EmailMessage:
    made.add_attachment(b"%PDF-\x00\r\n", maintype="application", subtype="pdf", filename="a.pdf")
    made.add_attachment("<body>an attachment</body>", subtype="html", filename="b.html")
    made.add_attachment(message("else@example.org"))
    return made


def html_of(message) -> list[bytes]:
    return [
        part.get_payload(decode=True) for part in message.walk() if part.get_content_type() == "text/html"
    ]


def put(message, recipient=None, **more):
    return add_pixel(message, MINTER, "spring", recipient, now=NOW, **more)


def put_raw(raw: bytes, recipient=None, **more):
    return add_pixel_to_bytes(raw, MINTER, "spring", recipient, now=NOW, **more)


SHAPES = {
    "alternative": lambda made: made,
    "related": with_image,
    "mixed": with_files,
    "all of it": lambda made: with_files(with_image(made)),
}


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("cte", ["quoted-printable", "base64", "8bit"])
@pytest.mark.parametrize("shape", SHAPES)
def test_add_pixel_changes_the_html_part_only(shape: str, cte: str, newline: str):
    given = SHAPES[shape](message(cte=cte))
    policy = email.policy.default.clone(linesep=newline)
    raw = given.as_bytes(policy=policy)
    made = put(given)
    assert given.as_bytes(policy=policy) == raw
    done = put_raw(raw)
    assert made.as_bytes(policy=policy) == done.raw != raw
    assert done.why_unchanged == ""

    before, after = email.message_from_bytes(raw), email.message_from_bytes(done.raw)
    assert before.items() == after.items()
    assert [part.items() for part in before.walk()] == [part.items() for part in after.walk()]
    first, *rest = html_of(before)
    assert html_of(after) == [embed(first, MINTER, "spring", ADA, now=NOW), *rest]
    assert done.html_bytes == len(html_of(after)[0])
    others = zip(before.walk(), after.walk(), strict=True)
    changed = [
        a.get_content_type() for a, b in others if not a.is_multipart() and a.get_payload() != b.get_payload()
    ]
    assert changed == ["text/html"]
    assert isinstance(made, EmailMessage)


def test_add_pixel_to_bytes_inserts_the_pixel_only():
    tag = MINTER.link("spring", ADA, now=NOW).html.encode()
    raw = message(cte="8bit").as_bytes()
    assert put_raw(raw).raw.replace(tag, b"", 1) == raw
    raw = message(cte="quoted-printable").as_bytes()
    made = put_raw(raw).raw
    at = raw.index(b"</body>")
    assert made[:at] == raw[:at]
    assert made[-len(raw) + at :] == raw[at:]


@pytest.mark.parametrize("mail", MAILS, ids=lambda mail: mail.reason)
def test_add_pixel_corpus_gives_the_same_as_embed(mail):
    html = plain(mail)
    for cte in ("base64", "quoted-printable"):
        made = EmailMessage()
        made["To"] = ADA
        made.set_content(html, "text", "html", cte=cte)
        if mail.encoding:
            made.set_param("charset", mail.encoding)
        raw = made.as_bytes()
        after = email.message_from_bytes(put_raw(raw, twin=True).raw)
        assert after.get_payload(decode=True) == embed(html, MINTER, "spring", ADA, now=NOW, twin=True)
        assert put(made, twin=True).as_bytes() == after.as_bytes()


def test_add_pixel_keeps_the_charset():
    for charset in ("iso-8859-1", "windows-1252", "utf-16", "utf-8"):
        given = EmailMessage()
        given["To"] = ADA
        given.set_content(HTML.encode(charset), "text", "html", cte="base64")
        given.set_param("charset", charset)
        (html,) = html_of(put(given))
        assert html.decode(charset) == embed(HTML, MINTER, "spring", ADA, now=NOW)
    given.set_param("charset", "cp037")
    with pytest.raises(EmbedError, match="cp037"):
        put(given)


def test_add_pixel_twin_and_replace():
    given = message()
    raw = given.as_bytes()
    made = put(given, twin=True)
    assert [pixel.token.part for pixel in pixels(html_of(made)[0])] == [Part.TOP, Part.BOTTOM]
    with pytest.raises(AlreadyThere):
        put(made)
    again = put(made, replace=True)
    assert html_of(again) == html_of(put(given))
    assert put_raw(put_raw(raw, twin=True).raw, replace=True).raw == again.as_bytes()
    assert html_of(put(given, mode=Mode.OFF)) == html_of(given)


def test_add_pixel_text_only_returns_the_message_and_logs_why(caplog):
    given = EmailMessage()
    given["To"] = ADA
    given.set_content("<body>only text</body>")
    given.add_attachment("<body>Hi</body>", subtype="html", filename="a.html")
    raw = given.as_bytes()
    assert put(given).as_bytes() == raw
    assert caplog.messages == ["no pixel: it has no HTML part, only text"]
    done = put_raw(raw)
    assert (done.raw, done.why_unchanged) == (raw, "it has no HTML part, only text")


def test_add_pixel_several_recipients_needs_a_named_recipient(caplog):
    given = message("Ada <ada@example.org>, bob@example.org")
    raw = given.as_bytes()
    assert put(given).as_bytes() == raw
    assert "2 recipients" in caplog.messages[0]
    assert html_of(put(given, ADA)) == html_of(put(message()))
    given = message("undisclosed-recipients:;")
    assert "0 recipients" in put_raw(given.as_bytes()).why_unchanged
    given["Bcc"] = ADA
    assert html_of(put(given)) == html_of(put(message()))
    given["Cc"] = "Grüße <eve@example.org>, ADA@example.org"
    assert header_addresses(given) == ["eve@example.org", "ADA@example.org", ADA]
    assert "3 recipients" in put_raw(given.as_bytes()).why_unchanged


SEALED = {
    "signed": b'Content-Type: multipart/signed; boundary=x; protocol="application/pgp-signature"\n\n--x\n'
    b"Content-Type: text/html\n\n<p>Hi\n--x\nContent-Type: application/pgp-signature\n\nabc\n--x--\n",
    "encrypted": b"Content-Type: multipart/encrypted; boundary=x\n\n--x\n"
    b"Content-Type: application/pgp-encrypted\n\n--x--\n",
    "S/MIME": b"Content-Type: application/pkcs7-mime; smime-type=signed-data\n\nabc\n",
    "DKIM": b"dkim-signature: v=1; a=rsa-sha256\nContent-Type: text/html\n\n<p>Hi\n",
    "ARC": b"ARC-Message-Signature: i=1\nContent-Type: text/html\n\n<p>Hi\n",
    "with PGP in its text": b"Content-Type: text/html\nContent-Transfer-Encoding: quoted-printable\n\n"
    b"<pre>-----BEGIN PGP ME=\nSSAGE-----\nabc</pre>\n",
    "signed with PGP in its text": b"Content-Type: multipart/alternative; boundary=x\n\n--x\n\n"
    b"-----BEGIN PGP SIGNED MESSAGE-----\n--x\nContent-Type: text/html\n\n<p>Hi\n--x--\n",
}


@pytest.mark.parametrize("why", SEALED)
def test_add_pixel_signed_or_encrypted_is_refused(why: str):
    raw = b"To: ada@example.org\n" + SEALED[why]
    with pytest.raises(Refused, match=why):
        put_raw(raw)
    with pytest.raises(Refused, match=why):
        put(email.message_from_bytes(raw))
    for html in (b"<p>Hi", b"<p>So you write:<br>\n&gt; -----BEGIN PGP MESSAGE-----"):
        assert put_raw(b"To: ada@example.org\nContent-Type: text/html\n\n" + html).why_unchanged == ""


def part(head: bytes, body: bytes = b"<p>Hi</p>") -> bytes:
    return b"--x\n" + head + b"\n\n" + body + b"\n"


def mail(kind: bytes, *parts: bytes) -> bytes:
    head = b"To: ada@example.org\nMIME-Version: 1.0\nContent-Type: multipart/" + kind + b"; boundary=x\n\n"
    return head + b"".join(parts) + b"--x--\n"


PLAIN = part(b"Content-Type: text/plain", b"Hi")
NAMED = b'Content-Type: text/html; charset=utf-8; name="mail.html"'
INLINE = b"Content-Type: text/html\nContent-Disposition: inline; filename=mail.html"
SHOWN = {
    "a name in the type": mail(b"alternative", PLAIN, part(NAMED)),
    "inline, with a file name": mail(b"alternative", PLAIN, part(INLINE)),
    "a name, alone in mixed": mail(b"mixed", part(NAMED), part(b"Content-Type: image/png; name=a.png", b"x")),
    "a name, in related": mail(b"related", part(NAMED), part(b"Content-Type: image/png", b"x")),
    "the unnamed part of two": mail(b"mixed", part(INLINE, b"<p>file</p>"), part(b"Content-Type: text/html")),
    "the part that start names": mail(
        b'related; start="<b@x>"; type="text/html"',
        part(b"Content-Type: text/html\nContent-ID: <a@x>", b"<p>frame</p>"),
        part(b"Content-Type: text/html\nContent-ID: <b@x>"),
    ),
    "the part that start names without brackets": mail(
        b'related; start="b@x"',
        part(b"Content-Type: text/html\nContent-ID: <a@x>", b"<p>frame</p>"),
        part(b"Content-Type: text/html\nContent-ID:\n <b@x> (root)"),
    ),
    "a comment in the type": mail(
        b"mixed (of two)", part(b"Content-Type: text/html (a body); charset=utf-8")
    ),
    "a comment in the encoding": b"To : ada@example.org\nContent-Type: text/html\n"
    b'Content-Transfer-Encoding: (as it is) "8bit";\n\n<p>Hi</p>',
    "no semicolon": b"To: ada@example.org\nContent-Type: text/html charset=utf-8\n\n<p>Hi</p>",
    "a comma for the semicolon": b"To: ada@example.org\nContent-Type: text/html, charset=utf-8\n\n<p>Hi</p>",
    "no semicolon before the boundary": mail(b"alternative", PLAIN, part(b"Content-Type: text/html")).replace(
        b"; boundary", b" boundary"
    ),
    "no blank line": mail(b"alternative", PLAIN, part(b"Content-Type: text/html")).replace(
        b"html\n\n", b"html\n"
    ),
    "no blank line, but one in the HTML": mail(
        b"alternative", PLAIN, part(b"Content-Type: text/html", b"<html>\n\n<p>Hi</p>")
    ).replace(b"html\n\n<html>", b"html\n<html>"),
    "no blank line, and a style": mail(
        b"mixed", part(b"Content-Type: text/html", b"<style>p{color:red}</style>\n\n<p>Hi</p>")
    ).replace(b"html\n\n<style", b"html\n<style"),
    "no blank line at all": b"To: ada@example.org\nContent-Type: text/html\n<body>\n\n<p>Hi</p>",
    "a PGP message that is shown": b"To: ada@example.org\nContent-Type: text/html\n\n<p>So it looks:</p>"
    b"<pre>\n-----BEGIN PGP MESSAGE-----\nabc\n-----END PGP MESSAGE-----\n</pre><p>Hi</p>",
    "a PGP message that the text shows": mail(
        b"alternative",
        part(b"Content-Type: text/plain", b"So it looks:\n-----BEGIN PGP SIGNED MESSAGE-----\nabc"),
        part(b"Content-Type: text/html"),
    ),
    "a file and its signature": mail(
        b"mixed",
        part(b"Content-Type: text/html"),
        part(b"Content-Type: application/gzip; name=a.tgz", b"x"),
        part(b"Content-Type: application/pgp-signature; name=a.tgz.asc", b"x"),
    ),
    "a signed file of S/MIME": mail(
        b"mixed",
        part(b"Content-Type: text/html"),
        part(b"Content-Type: application/pkcs7-mime; name=a.p7m", b"x"),
    ),
}
NO_SUCH_IN_PYTHON = (
    *("no semicolon before the boundary", "no blank line, and a style", "a comment in the encoding"),
)
"""Mails that Python's own parser reads in another way."""


@pytest.mark.parametrize("why", SHOWN)
def test_add_pixel_part_that_is_shown_has_one_pixel(why: str):
    tag = MINTER.link("spring", ADA, now=NOW).html.encode()
    raw = SHOWN[why]
    done = put_raw(raw)
    assert done.why_unchanged == ""
    assert done.raw == raw.replace(b"<p>Hi</p>", b"<p>Hi</p>" + tag)
    with pytest.raises(AlreadyThere):
        put_raw(done.raw)
    if why not in NO_SUCH_IN_PYTHON:
        assert put(email.message_from_bytes(raw)).as_bytes().count(tag) == 1


@pytest.mark.parametrize(
    "raw",
    [
        mail(b"mixed", PLAIN, part(NAMED)),
        mail(b"mixed", PLAIN, part(INLINE)),
        mail(b"alternative", PLAIN, part(b"Content-Type: text/html\nContent-Disposition: attachment")),
        mail(b"mixed", PLAIN, part(b"Content-Type: text/htmlx charset=utf-8")),
    ],
)
def test_add_pixel_file_beside_the_body_stays_the_same(raw: bytes):
    assert put_raw(raw).raw == raw
    assert put(email.message_from_bytes(raw)).as_bytes() == raw


def test_add_pixel_forwarded_message_stays_the_same():
    inner = email.message_from_bytes(b"DKIM-Signature: v=1\nContent-Type: text/html\n\n<body>old</body>\n")
    given = message()
    given.add_attachment(inner)
    assert html_of(put(given))[1:] == html_of(given)[1:]


def test_add_pixel_mime_multipart_returns_its_class():
    given = MIMEMultipart("alternative")
    given["To"] = ADA
    given.attach(MIMEText("Grüße"))
    given.attach(MIMEText(HTML, "html", "utf-8"))
    raw = given.as_bytes()
    made = put(given)
    assert isinstance(made, MIMEMultipart)
    assert made.as_bytes() == put_raw(raw).raw != given.as_bytes() == raw


def test_add_pixel_message_parsed_from_text():
    head = "To: ada@example.org\nContent-Type: text/html; charset=utf-8\n\n"
    assert b"<p>Hi<img " in put(email.message_from_string(head + "<p>Hi")).as_bytes()
    with pytest.raises(EmbedError, match="message_from_bytes"):
        put(email.message_from_string(head + "<p>Grüße"))
    raw = (head + "<p>Grüße").encode()
    assert put(email.message_from_bytes(raw)).as_bytes() == put_raw(raw).raw


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\n",
        b"To: ada@example.org",
        b"To: ada@example.org\r\nContent-Type: multipart/mixed\r\n\r\nno boundary",
        b"To: ada@example.org\nContent-Type: multipart/mixed; boundary=x\n\n--x",
        b"To: ada@example.org\nContent-Type: multipart/mixed; boundary=x\n\n--x--\n",
        b"Content-Type: multipart/mixed; boundary=x\n\n" * 3 + b"--x\n" * 3,
        b"\xff\xfe\0\0",
    ],
)
def test_add_pixel_to_bytes_broken_message_stays_the_same(raw: bytes):
    assert put_raw(raw).raw == raw
    assert put_raw(raw).why_unchanged


def test_add_pixel_to_bytes_cut_off_or_similar_boundaries():
    raw = (
        b"From nobody\r\nTo: ada@example.org\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n"
        b"prologue\r\n--a-b\r\n"
        b"--a \t\r\nContent-Type: multipart/alternative; boundary=a-b\r\n\r\n"
        b"--a-b\r\nContent-Type: text/html\r\n\r\n"
        b"<p>Hi</p>"
    )
    tag = MINTER.link("spring", ADA, now=NOW).html.encode()
    for rest in (b"", b"\r\n--a-b--", b"\r\n--a-b--\r\n--a--\r\nepilogue", b"\r\n--a\r\n\r\nmore"):
        assert put_raw(raw + rest).raw == raw + tag + rest


def test_add_pixel_to_bytes_returns_the_size_of_the_html():
    assert put_raw(message(html="<p>" + "x" * CLIP_BYTES).as_bytes()).html_bytes > CLIP_BYTES
