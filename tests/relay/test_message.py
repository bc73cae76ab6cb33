"""The pixel of a mail on its way, and the fields that are taken out of its header."""

from __future__ import annotations

import re
from base64 import encodebytes
from binascii import b2a_qp

import pytest

from pixel_server.mail.links import Minter
from pixel_server.mail.placement import pixels
from pixel_server.relay.message import NoMinter, Rules, prepare
from tests.relay.servers import BASE_URL, SECRETS, minter_of

HEAD = b"From: a@example.org\r\nSubject: Hi\r\nContent-Type: text/html\r\n"
BODY = b"\r\n<html><body><p>Hi</p></body></html>\r\n"
ADA = "Ada@example.org"
RULES = Rules("spring", minter_of)
SIGNED = (
    b'Content-Type: multipart/signed; boundary="b"\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>Hi</p>\r\n'
    b"--b\r\nContent-Type: application/pgp-signature\r\n\r\nx\r\n--b--\r\n"
)


def test_prepare_html_changes_only_the_pixel():
    prepared = prepare(HEAD + BODY, [ADA], RULES)
    (pixel,) = pixels(prepared.raw)
    assert prepared.raw[: pixel.start] + prepared.raw[pixel.end :] == HEAD + BODY
    assert (pixel.token.campaign, pixel.token.recipient) == ("spring", SECRETS.recipient_key(ADA))
    assert pixel.token.is_sending_time
    assert prepared.why_without == ""


@pytest.mark.parametrize("encoding", ["7bit", "8bit", "quoted-printable", "base64"])
@pytest.mark.parametrize(
    "html", [b"<p>Hi</p>", b"<p>Hi</p>\r\n", b"<p>Hi</p></body>", b"", b"<p>" + b"x" * 990]
)
@pytest.mark.parametrize("is_alternative", [False, True])
def test_prepare_mail_with_a_pixel_has_whole_lines_that_end_in_crlf(
    encoding: str, html: bytes, is_alternative: bool
):
    encoders = {"quoted-printable": b2a_qp, "base64": encodebytes}
    body = re.sub(rb"\r?\n", b"\r\n", encoders.get(encoding, bytes)(html))
    part = b"Content-Type: text/html\r\nContent-Transfer-Encoding: %b\r\n\r\n%b" % (encoding.encode(), body)
    raw = part if part.endswith(b"\n") else part + b"\r\n"
    if is_alternative:
        raw = b'Content-Type: multipart/alternative; boundary="b"\r\n\r\n--b\r\n%b--b--\r\n' % raw
    prepared = prepare(raw, [ADA], RULES)
    assert prepared.why_without == ""
    assert prepared.raw.endswith(b"\r\n")
    assert prepared.raw.count(b"\n") == prepared.raw.count(b"\r") == prepared.raw.count(b"\r\n")


@pytest.mark.parametrize(
    "field",
    [
        b"X-Pixel-Campaign: summer\r\n",
        b"x-PIXEL-campaign:summer  \r\n",
        b"X-Pixel-Campaign:\r\n\t summer\r\n \r\n",
        b"X-Pixel-Campaign : summer\r\n",
        b"X-Pixel-Campaign: summer\r\nX-Pixel-Campaign: summer\r\n",
    ],
)
@pytest.mark.parametrize("place", [0, len(HEAD)])
def test_prepare_campaign_field_chooses_the_campaign_and_is_taken_out(field: bytes, place: int):
    prepared = prepare(HEAD[:place] + field + HEAD[place:] + BODY, [ADA], RULES)
    (pixel,) = pixels(prepared.raw)
    assert pixel.token.campaign == "summer"
    assert prepared.raw[: pixel.start] + prepared.raw[pixel.end :] == HEAD + BODY


@pytest.mark.parametrize(
    ("field", "why", "reason"),
    [
        (b"X-Pixel-Mode: Off\r\n", "is off", "mode"),
        (b"X-Pixel-Mode: count\r\nx-pixel-mode: off\r\n", "is off", "mode"),
        (b"X-Pixel-Mode: of\r\n", "mode: must be one of", "unreadable"),
        (b"X-Pixel-Campaign: Spring Sale\r\n", "not the id", "campaign"),
        (b"X-Pixel-Campaign: =?utf-8?q?spring?=\r\n", "not the id", "campaign"),
        (b"X-Pixel-Campaign: \xff\x00" + b"a" * 70_000 + b"\r\n", "not the id", "campaign"),
        (b"X-Pixel-Campaign:\r\n", "names no campaign", "campaign"),
        (b"X-Pixel-Campaign: a\r\nX-Pixel-Campaign: b\r\n", "several campaigns", "campaign"),
    ],
)
def test_prepare_field_without_a_pixel_is_taken_out_too(field: bytes, why: str, reason: str):
    prepared = prepare(field + HEAD + BODY, [ADA], RULES)
    assert prepared.raw == HEAD + BODY
    assert why in prepared.why_without
    assert prepared.reason == reason


@pytest.mark.parametrize(
    ("raw", "why", "reason"),
    [
        (b"Subject: Hi\r\n\r\nText with <html>.\r\n", "no HTML part", "text"),
        (SIGNED, "signed", "signed"),
        (SIGNED.replace(b"signed", b"encrypted"), "encrypted", "signed"),
        (
            b"DKIM-Signature: v=1; h=x-pixel-campaign\r\nX-Pixel-Campaign: a\r\n" + HEAD + BODY,
            "DKIM",
            "signed",
        ),
        (b"Content-Type: application/pkcs7-mime\r\n\r\nMII=\r\n", "S/MIME", "signed"),
        (b"", "no HTML part", "text"),
        (b"\r\n", "no HTML part", "text"),
        (b"no header at all\r\n", "no HTML part", "text"),
        (HEAD + b"\r\n" + b"<" * 500_001, "500,000 bytes of text", "size"),
        (b"X-A: b\r\n" * 40_000 + HEAD + BODY, "header is too large", "size"),
        (HEAD + b"\r\n" + b"--b\r\n" * 5_001, "too many parts", "size"),
        (HEAD + b"Content-Transfer-Encoding: base64\r\n\r\n!!!=x\r\n", "base64", "unreadable"),
    ],
)
def test_prepare_mail_that_gets_no_pixel_keeps_every_byte(raw: bytes, why: str, reason: str):
    prepared = prepare(raw, [ADA], RULES)
    assert prepared.raw == raw
    assert why in prepared.why_without
    assert prepared.reason == reason


def test_prepare_mail_with_a_pixel_says_so():
    again = prepare(prepare(HEAD + BODY, [ADA], RULES).raw, [ADA], RULES)
    assert again.reason == "has-pixel"


def test_prepare_mode_of_the_campaign_off_is_the_reason():
    off = Rules("spring", lambda campaign: Minter(BASE_URL, SECRETS, "off"))
    assert prepare(HEAD + BODY, [ADA], off).reason == "mode"


def test_prepare_signed_mail_loses_only_its_field():
    assert prepare(b"X-Pixel-Campaign: a\r\n" + SIGNED, [ADA], RULES).raw == SIGNED


def test_prepare_field_in_an_attached_mail_is_kept():
    raw = b"Content-Type: message/rfc822\r\n\r\nX-Pixel-Campaign: a\r\n" + HEAD + BODY
    assert prepare(raw, [ADA], RULES).raw == raw


def test_prepare_several_recipients_no_campaign_or_no_minter_gives_no_pixel():
    def no_minter(campaign: str) -> Minter:
        raise NoMinter("'spring' is a web campaign")

    several = prepare(HEAD + BODY, [ADA, "b@example.org"], RULES)
    assert ("several recipients" in several.why_without, several.reason) == (True, "recipients")
    no_campaign = prepare(HEAD + BODY, [ADA], Rules(None, minter_of))
    assert ("names no campaign" in no_campaign.why_without, no_campaign.reason) == (True, "campaign")
    no_link = prepare(HEAD + BODY, [ADA], Rules("spring", no_minter))
    assert ("web campaign" in no_link.why_without, no_link.reason) == (True, "no-link")


def test_prepare_mode_field_lowers_the_mode_of_the_campaign_and_never_raises_it():
    def mode(field: bytes, of_campaign: str) -> str:
        rules = Rules("spring", lambda campaign: Minter(BASE_URL, SECRETS, of_campaign))
        (pixel,) = pixels(prepare(field + HEAD + BODY, [ADA], rules).raw)
        return pixel.token.mode.name.lower()

    assert mode(b"X-Pixel-Mode: count\r\n", "pseudonymous") == "count"
    assert mode(b"X-Pixel-Mode: identified\r\n", "last") == "last"


def test_prepare_fault_of_this_program_lets_the_mail_go_on(caplog: pytest.LogCaptureFixture):
    def fails(campaign: str) -> Minter:
        raise RuntimeError("ada@example.org")

    prepared = prepare(b"X-Pixel-Campaign: a\r\n" + HEAD + BODY, [ADA], Rules(None, fails))
    assert prepared.raw == HEAD + BODY
    assert ("could not be added" in prepared.why_without, prepared.reason) == (True, "failed")
    assert "relay-pixel-failed" in {record.own.name for record in caplog.records}  # type: ignore[attr-defined]
