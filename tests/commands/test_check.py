"""`pixel-server check`, which checks a mail before it is sent."""

from __future__ import annotations

import json
import shutil
import time

import pytest

from pixel_server.mail.links import Minter, embed
from pixel_server.mail.placement import CLIP_BYTES, pixels
from pixel_server.mail.preflight import is_message, loading_problems
from pixel_server.secret import Secrets
from tests.mail.test_message import message

ADA = "ada@example.org"


@pytest.fixture
def check(offline, tmp_path):
    """Runs `check` on a mail. Returns (exit code, {text: ok})."""

    def run(mail: bytes | str):
        path = tmp_path / "mail"
        path.write_bytes(mail if isinstance(mail, bytes) else mail.encode())
        done = offline("check", path, "--json")
        report = json.loads(done.stdout)
        assert report["ok"] is (done.exit_code == 0)
        assert offline("check", "-", stdin=path.read_bytes()).stdout.count("\n") == len(report["lines"])
        return done.exit_code, {line["text"]: line["ok"] for line in report["lines"]}

    return run


def wrong(found) -> list[str]:
    return [text for text, ok in found[1].items() if ok is False]


def test_check_good_mail_exits_0(check, minter, offline, tmp_path):
    mail = embed("<body><p>Hi</p></body>", minter, "spring", ADA)
    code, found = check(mail)
    assert code == 0
    assert found == {
        "there is one pixel": True,
        "single pixel: campaign spring, mode pseudonymous": None,
        "single pixel: its signature is this server's": True,
        "the pixel is the last thing in the mail": True,
        f"{len(mail)} bytes of HTML: Gmail clips at 104,448": True,
    }
    printed = offline("check", tmp_path / "mail").stdout.splitlines()
    assert printed[0] == "ok there is one pixel"
    assert check(embed("<p>Hi", minter, "spring", ADA, twin=True, test=True))[0] == 0


def test_check_message_finds_its_pixels(check, offline, minter):
    raw = offline("embed", "spring", "--eml", "--twin", stdin=message().as_bytes()).stdout_bytes
    code, found = check(raw)
    assert code == 0
    assert found["there are two pixels, top and bottom"] is True
    assert wrong(check(message().as_bytes())) == ["there is no pixel"]
    assert wrong(check(b"To: ada@example.org\n\nHi")) == [
        "it has no HTML part, only text: there can be no pixel"
    ]
    code, found = check(b"DKIM-Signature: v=1\n" + raw)
    assert code == 0
    assert any("signed already" in text for text in found)
    assert wrong(check(b"Content-Type: text/html\nContent-Transfer-Encoding: base64\n\nabcde"))[0].startswith(
        "its base64"
    )


def test_check_wrong_number_of_pixels_is_a_problem(check, minter):
    once = embed("<p>Hi</p>", minter, "spring", ADA)
    assert wrong(check("<p>Hi</p>")) == ["there is no pixel"]
    assert wrong(check(once + once)) == ["there are 2 pixels: single, single"]
    top = embed("<p>Hi</p>", minter, "spring", ADA, twin=True)
    assert "there is only the top pixel of two" in wrong(check(top[: top.index("<p>")]))
    assert wrong(check(once + "<p>Bye</p>"))[0].startswith("something stands after the pixel")


def test_check_signature_of_another_server_is_a_problem(check, minter):
    other = Minter("https://pixel.example.org", Secrets.derive(("another",), "another"))
    assert "signature is not this server's" in wrong(check(embed("<p>Hi</p>", other, "spring", ADA)))[0]


def test_check_without_secrets_makes_none(check, tmp_path):
    shutil.rmtree(tmp_path / "data")
    other = Minter("https://pixel.example.org", Secrets.derive(("another",), "another"))
    code, found = check(embed("<p>Hi</p>", other, "spring", ADA))
    assert code == 0
    assert any("cannot be checked without the server's secrets" in text for text in found)
    assert not (tmp_path / "data").exists()


def test_check_mail_over_102_kb_is_a_problem(check, minter):
    big = "<p>" + "x" * CLIP_BYTES
    assert "a pixel at its end may never be loaded" in wrong(check(embed(big, minter, "spring", ADA)))[0]
    assert "the top pixel is still loaded" in wrong(check(embed(big, minter, "spring", ADA, twin=True)))[0]


def test_check_copy_out_of_gmail_is_a_problem(check, minter):
    url = minter.url("spring", ADA)
    for copied in (
        f"https://ci4.googleusercontent.com/meips/abc=s0-d-e1-ft#{url}",
        f"https://proxy.example.com/i?url={url}",
        f"https://proxy.example.com/unsafe/{url}",
        f"https://proxy.example.com/{url.replace(':', '%3A')}",
        f"https://proxy.example.com/{url.removeprefix('https://')}",
    ):
        code, found = check(f'<p>Hi</p><img src="{copied}">')
        assert code == 1
        assert "only contains the link" in wrong((code, found))[0]
    assert check(f'<p>Hi</p><img src="{url}?a=1#b">')[0] == 0
    assert check(f'<p>Hi</p><img src="{url.replace(".gif", "%2Egif")}">')[0] == 0


def test_check_same_address_written_otherwise_is_under_the_base_url(check, minter):
    """RFC 3986, 6.2.2 and 6.2.3: case of the host, escaped letters, the usual port."""
    url = minter.url("spring", ADA)
    host = "pixel.example.org"
    for same in (
        url.replace(host, host.upper()),
        url.replace(host, f"{host}:443"),
        url.replace("/o/", "/%6F/"),
        url.replace("https", "HTTPS"),
    ):
        code, found = check(f'<p>Hi</p><img src="{same}">')
        assert code == 0
        assert not any("it is not under" in text for text in found)
    for other in (
        url.replace(host, f"{host}:8443"),
        url.replace("/o/", "/px/o/"),
        url.replace(host, "e.org"),
    ):
        assert any("it is not under" in text for text in check(f'<p>Hi</p><img src="{other}">')[1])


def test_check_pixel_of_another_campaign_or_recipient_is_a_problem(offline, minter, tmp_path):
    path = tmp_path / "mail.html"
    path.write_text(embed("<p>Hi</p>", minter, "spring", ADA))

    def lines(*options):
        done = offline("check", path, *options)
        return done.exit_code, done.stdout

    assert lines("--campaign", "spring", "--recipient", ADA)[0] == 0
    code, said = lines("--campaign", "summer", "--recipient", "bob@example.org")
    assert code == 1
    assert "!! the pixel is of campaign spring, not summer" in said
    assert "!! the pixel is of another recipient than bob@example.org" in said


def test_check_message_to_another_address_is_named(check, minter):
    html = embed("<p>Hi</p>", minter, "spring", "customer 7")
    code, found = check(message(html=html).as_bytes())
    assert code == 0
    assert found[f"the pixel is not of {ADA}, the only address of the message"] is None


def test_check_pixels_of_two_mails_are_a_problem(check, minter):
    top = embed("<p>Hi</p>", minter, "spring", ADA, twin=True).split("<p>")[0]
    bottom = embed("<p>Hi</p>", minter, "summer", ADA, twin=True).split("</p>")[1]
    assert wrong(check(f"{top}<p>Hi</p>{bottom}")) == ["its pixels belong to several campaigns or recipients"]


QUOTES = {
    "a quotation": "<blockquote type=cite>{}</blockquote>",
    "Gmail's": '<div class="gmail_quote gmail_quote_container"><div>On Monday:</div>{}</div>',
    "Outlook's": '<div id="divRplyFwdMsg">From: Bob</div><div>{}</div>',
    "Yahoo's": '<div class="yahoo_quoted"><div>{}</div></div>',
    "Thunderbird's, forwarded": '<div class="moz-forward-container">From: Bob{}<br></div>',
    "Zoho's": '<div class="zmail_extra" id="1">{}</div>',
    "Outlook's, on phones": '<div id="mail-editor-reference-message-container"><hr>{}</div>',
    "GMX's": '<div name="quote" style="margin:10px">{}</div>',
    "NetEase's": '<div id="isReplyContent">{}</div>',
}


@pytest.mark.parametrize("quote", QUOTES.values(), ids=QUOTES)
def test_quoted_pixel_is_named_and_not_sent_on(check, minter, quote):
    """A pixel in the mail that is answered belongs to that mail, so `embed` takes it out."""
    old = embed("<p>Old news</p>", minter, "old", "bob@example.org")
    reply = f"<html><body><p>Thanks!</p>{quote.format(old)}</body></html>"
    said = wrong(check(reply))
    assert (
        "a quoted mail contains a pixel of campaign old: loading the pixel counts for that campaign" in said
    )
    assert "there is no pixel" in said
    now = time.time()
    made = embed(reply, minter, "spring", ADA, now=now)
    assert [pixel.token.campaign for pixel in pixels(made.encode())] == ["spring"]
    assert made == embed(reply.replace(old, "<p>Old news</p>"), minter, "spring", ADA, now=now)
    assert check(made)[0] == 0


@pytest.mark.parametrize(
    "hiding",
    [
        "<div style='display: none'>",
        "<div style='max-height:0;overflow:hidden'>",
        "<table><tr><td style='visibility:hidden'>",
        "<div hidden><p>",
        "<noscript>",
        "<video>",
    ],
)
def test_check_pixel_in_a_hidden_element_is_a_problem(check, minter, hiding):
    pixel = minter.link("spring", ADA).html
    hidden = "the pixel is hidden or stands in a hidden element: it may never be loaded"
    assert hidden in wrong(check(hiding + pixel))
    for change in ("<img hidden ", "<img style='display:none' ", "<img height=0 "):
        assert hidden in wrong(check(pixel.replace("<img ", change)))
    shown = f"<div style='display:none'>Preview</div><p style='line-height:0px'>Hi</p>{pixel}"
    assert check(shown)[0] == 0


@pytest.mark.parametrize(
    "end",
    [
        "\n<!-- v3 -->\n</body></html>",
        "</td></tr></table><!--[if mso]></td></tr></table><![endif]--></div>",
        "{# v3 #}</body>{* {$old} *}",
    ],
)
def test_check_what_shows_nothing_may_stand_after_the_pixel(check, minter, end):
    begin = f"<div><table><tr><td><p>Hi</p>{minter.link('spring', ADA).html}"
    assert check(begin + end)[0] == 0
    for shown in ("<p>Bye</p>", "Bye", "{{ footer }}", "%%[ set @a = 1 ]%%"):
        assert any("stands after the pixel" in text for text in wrong(check(begin + shown + end)))


def test_check_pixel_hidden_from_outlook_is_a_problem(check, minter):
    mail = f"<body><p>Hi</p><!--[if !mso]><!-->{minter.link('spring', ADA).html}<!--<![endif]--></body>"
    assert wrong(check(mail)) == ["the pixel stands in a part that Outlook does not show"]


def test_check_frameset_and_amp_part_are_problems(check, minter):
    pixel = minter.link("spring", ADA).html
    assert any("frameset" in text for text in wrong(check(f"<frameset><frame src=a></frameset>{pixel}")))
    made = message(html=f"<p>Hi</p>{pixel}")
    made.add_alternative("<!doctype html><html amp4email></html>", subtype="x-amp-html")
    assert any("AMP part" in text for text in wrong(check(made.as_bytes())))


@pytest.mark.parametrize(
    ("begin", "other", "end"),
    [
        ("{% if a %}", "{% else %}", "{% endif %}"),
        ("{{#if a}}", "{{else}}", "{{/if}}"),
        ("<% if a %>", "<% else %>", "<% end %>"),
        ("[% IF a %]", "[% ELSE %]", "[% END %]"),
        ("%%[ if @a == 1 then ]%%", "%%[ else ]%%", "%%[ endif ]%%"),
    ],
)
def test_check_pixel_in_the_branches_of_a_condition(check, minter, begin, other, end):
    pixel = minter.link("spring", ADA).html
    code, found = check(f"{begin}<p>Hi</p>{pixel}{other}<p>Bye</p>{end}")
    assert code == 1
    assert "the pixel is in one branch of a condition: mails of another branch have none" in found
    _, found = check(f"{begin}<p>Hi</p>{pixel}{other}<p>Bye</p>{pixel}{end}")
    assert "there is a pixel in 2 branches of a condition" in found
    assert not any("there are 2 pixels" in text for text in found)
    assert check(f"{begin}<p>Hi</p>{other}<p>Bye</p>{end}{pixel}")[0] == 0
    assert check(f"{begin}<p>Hi</p>{pixel}{other}<p>Bye</p>{end}{pixel}")[0] == 1


@pytest.mark.parametrize("element", ['c:if test="a"', 'div th:if="a"', 'div v-else=""', 'f:then data-x="a"'])
def test_check_pixel_in_an_element_of_a_condition_is_a_problem(check, minter, element):
    name = element.split()[0]
    one_branch = "the pixel is in one branch of a condition: mails of another branch have none"
    assert one_branch in wrong(check(f"<p>Hi</p><{element}>{minter.link('spring', ADA).html}</{name}>"))
    assert check(f"<{element}><p>Hi</p></{name}>{minter.link('spring', ADA).html}")[0] == 0


def test_loading_problems_names_why_an_address_is_not_loaded():
    for url in (
        "https://mail.example.org/o/a.gif",
        "https://93.184.215.14/px/o/a.gif",
        "https://email.de/p/a.gif",
    ):
        assert loading_problems(url) == []
    for url, why in (
        ("http://mail.example.org/o/a.gif", "not https"),
        ("https://localhost/o/a.gif", "nobody else can reach localhost"),
        ("https://127.0.0.1:8000/o/a.gif", "nobody else can reach 127.0.0.1"),
        ("https://10.1.2.3/o/a.gif", "nobody else can reach 10.1.2.3"),
        ("https://[::1]/o/a.gif", "nobody else can reach ::1"),
        ("https://mail.lan/o/a.gif", "nobody else can reach mail.lan"),
        ("https://intranet/o/a.gif", "nobody else can reach intranet"),
        (
            "https://email.example.org/px/o/a.gif",
            "EasyPrivacy, a list of ad blockers, blocks images on a host",
        ),
        ("https://track.email.example.org/o/a.gif", "begins with track.email. ("),
        ("https://www.example.org/track/open/o/a.gif", "on the path /track/open/"),
        ("https://[/o/a.gif", "cannot be read"),
    ):
        assert len(loading_problems(url)) == 1
        assert why in loading_problems(url)[0]
    assert [("whole" in why or "https" in why) for why in loading_problems("/o/a.gif")] == [True, True]


def test_check_address_that_is_not_loaded_is_a_problem(check, tmp_path):
    local = Minter("http://127.0.0.1:8000", Secrets.load(tmp_path / "data"))
    code, found = check(embed("<p>Hi</p>", local, "beacon", ADA))
    assert code == 1
    assert [("https" in text, "127.0.0.1" in text) for text in wrong((code, found))] == [
        (True, False),
        (False, True),
    ]
    assert any("such as beacon" in text for text in found)
    assert any("it is not under https://pixel.example.org" in text for text in found)
    found = wrong(check('<img src="https://pixel.example.org/p/pixel.gif?u=a">'))
    assert "a pixel for web pages, campaign pixel: it is the same for all recipients" in found
    assert any("such as pixel" in text for text in found)


def test_is_message_needs_a_header_field():
    for raw in (b"To: a\n\n", b"From me Mon\nReceived: x\n", b"X-Odd:\r\n y"):
        assert is_message(raw)
    for raw in (b"", b"<p>To: a", b"\n", b"Hello there: you", b"<!-- a: b -->"):
        assert not is_message(raw)


def test_check_missing_file_exits_2(offline):
    assert offline("check", "/nowhere/mail").exit_code == 2
