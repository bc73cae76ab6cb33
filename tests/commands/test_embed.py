"""`pixel-server embed`, which puts the pixel into a mail."""

from __future__ import annotations

import csv
import email

import pytest

from pixel_server.mail.placement import CLIP_BYTES, pixels
from pixel_server.tokens import Part
from tests.mail.test_message import html_of, message

ADA = "ada@example.org"
HTML = b"\xef\xbb\xbf<html>\r\n<body>Hi \xff</body>\r\n</html>"


def parts(html: bytes) -> list[Part]:
    return [pixel.token.part for pixel in pixels(html)]


def without(html: bytes) -> bytes:
    for pixel in pixels(html)[::-1]:
        html = html[: pixel.start] + html[pixel.end :]
    return html


def test_embed_html_inserts_the_pixel_only(offline, minter):
    done = offline("embed", "spring", ADA, stdin=HTML)
    assert (done.exit_code, done.stderr) == (0, "")
    (pixel,) = pixels(done.stdout_bytes)
    assert pixel.url == minter.url("spring", ADA, now=pixel.token.time)
    assert without(done.stdout_bytes) == HTML
    assert done.stdout_bytes[pixel.end :].startswith(b"</body>")

    twice = offline("embed", "spring", ADA, stdin=done.stdout_bytes)
    assert (twice.exit_code, twice.stdout) == (1, "")
    assert twice.stderr == "pixel-server: there is a pixel already, of campaign spring\n"
    twins = offline("embed", "summer", ADA, "--twin", "--replace", stdin=done.stdout_bytes).stdout_bytes
    assert parts(twins) == [Part.TOP, Part.BOTTOM]
    assert without(twins) == HTML


def test_embed_message_inserts_the_pixel_only(offline):
    raw = message().as_bytes()
    done = offline("embed", "spring", "--eml", stdin=raw)
    assert (done.exit_code, done.stderr) == (0, "")
    assert without(html_of(email.message_from_bytes(done.stdout_bytes))[0]) == html_of(message())[0]
    several = message("ada@example.org, bob@example.org").as_bytes()
    done = offline("embed", "spring", "--eml", stdin=several)
    assert (done.exit_code, done.stdout_bytes) == (0, several)
    assert done.stderr == "pixel-server: no pixel: it has 2 recipients: name the recipient of the pixel\n"
    done = offline("embed", "spring", ADA, "--eml", "--twin", stdin=several)
    assert parts(html_of(email.message_from_bytes(done.stdout_bytes))[0]) == [Part.TOP, Part.BOTTOM]
    done = offline("embed", "spring", "--eml", stdin=b"DKIM-Signature: v=1\n" + raw)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "signed already (DKIM-Signature)" in done.stderr


def test_embed_mail_over_102_kb_warns(offline):
    mail = b"<p>" + b"x" * CLIP_BYTES
    for done in (
        offline("embed", "spring", ADA, stdin=mail),
        offline("embed", "spring", "--eml", stdin=message(html=mail.decode()).as_bytes()),
    ):
        assert done.exit_code == 0
        assert "Gmail shows 104,448" in done.stderr
    assert offline("embed", "spring", ADA, stdin=b"x" * (CLIP_BYTES - 600)).stderr == ""


@pytest.mark.parametrize("kind", ["html", "eml"])
def test_embed_list_writes_a_mail_for_each_row(offline, tmp_path, kind):
    source, out = tmp_path / "list.csv", tmp_path / "mails"
    source.write_bytes(b"recipient,name\nada@example.org,Ada\n,nobody\nbob@example.org,Bob\n")
    mail = HTML if kind == "html" else message("list@example.org").as_bytes()
    more = ["--eml"] if kind == "eml" else []
    done = offline("embed", "spring", "--recipients", source, "--out", out, *more, stdin=mail)
    assert done.exit_code == 1
    assert done.stderr == f"pixel-server: 2 rows done, 1 left out: see {out}.bad\n"
    with (out / "mails.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["recipient"] for row in rows] == ["ada@example.org", "bob@example.org"]
    keys = set()
    for row in rows:
        made = (out / row["mail_file"]).read_bytes()
        html = made if kind == "html" else html_of(email.message_from_bytes(made))[0]
        assert without(html) == (HTML if kind == "html" else html_of(message())[0])
        keys.add(pixels(html)[0].token.recipient)
        assert row["privacy_url"].startswith("https://pixel.example.org/privacy?t=")
    assert len(keys) == 2

    again = offline("embed", "spring", "--recipients", source, "--out", out, *more, stdin=mail)
    assert "exists, and is not empty" in again.stderr


def test_embed_message_byte_order_mark_is_kept_utf_16_refused(offline):
    raw = message().as_bytes()
    made = offline("embed", "spring", "--eml", stdin=b"\xef\xbb\xbf" + raw).stdout_bytes
    assert made.startswith(b"\xef\xbb\xbf" + raw[:20])
    assert html_of(email.message_from_bytes(made[3:]))[0].count(b"<img") == 1
    done = offline("embed", "spring", ADA, stdin=b"\xef\xbb\xbf" + raw)
    assert done.stderr == "pixel-server: this looks like a whole message: add --eml\n"
    for more in ([ADA], ["--eml"]):
        done = offline("embed", "spring", *more, stdin=raw.decode().encode("utf-16"))
        assert (done.exit_code, done.stdout_bytes) == (1, b"")
        assert "this message is in UTF-16" in done.stderr
    done = offline("embed", "spring", "", stdin=HTML)
    assert done.stderr == "pixel-server: recipient must not be empty\n"


def test_embed_list_failure_leaves_no_file(offline, tmp_path):
    source, out = tmp_path / "list.csv", tmp_path / "mails"
    source.write_bytes(b"recipient\nada@example.org\n")
    raw = b"DKIM-Signature: v=1\n" + message().as_bytes()
    done = offline("embed", "spring", "--eml", "--recipients", source, "--out", out, stdin=raw)
    assert done.exit_code == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "list.csv"]


def test_embed_message_without_eml_is_refused(offline):
    raw = message().as_bytes()
    assert offline("embed", "spring", ADA, stdin=raw).stderr == (
        "pixel-server: this looks like a whole message: add --eml\n"
    )
    for html in (HTML, b"Dear: all\n\n<p>From: me</p>"):
        assert offline("embed", "spring", ADA, stdin=html).exit_code == 0
    done = offline("embed", "spring", ADA, "--eml", stdin=HTML)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == (
        "pixel-server: this is not a whole message, because it has no header: leave out --eml\n"
    )


def test_embed_options_that_exclude_each_other_are_refused(offline, tmp_path):
    path = tmp_path / "list.csv"
    path.write_bytes(b"recipient\nada\n")
    for more in (
        [],
        ["ada", "--out", "x"],
        ["ada", "--recipients", path, "--out", "x"],
        ["--recipients", path],
        ["--recipients", "-", "--out", "x"],
    ):
        assert offline("embed", "spring", *more, stdin=HTML).exit_code == 2
    for arguments, stdin in ((["No!", ADA], HTML), (["spring", ADA], b""), (["spring", "a\nb"], HTML)):
        done = offline("embed", *arguments, stdin=stdin)
        assert done.exit_code == 1
        assert len(done.stderr.splitlines()) == 1
    assert "PIXEL_BASE_URL" in offline("embed", "spring", ADA, stdin=HTML, PIXEL_BASE_URL="").stderr
