"""Addresses of mailboxes, in headers and in the lists of mail libraries."""

from __future__ import annotations

import email
import email.policy
from email.header import Header
from email.message import EmailMessage, Message

import pytest

from pixel_server.mail import add_pixel, only_address
from pixel_server.mail.links import Minter
from pixel_server.mail.mailboxes import header_addresses
from pixel_server.mail.message import add_pixel_to_bytes
from pixel_server.mail.placement import EmbedError, pixels
from pixel_server.secret import Secrets

SECRETS = Secrets.derive(("signing",), "recipient")
MINTER = Minter("https://mail.example.org", SECRETS)
POLICIES = (email.policy.compat32, email.policy.default, email.policy.SMTPUTF8, email.policy.SMTP)

LINES = {
    "To: søren@example.org": ["søren@example.org"],
    "To: Søren Ærø <søren@example.org>": ["søren@example.org"],
    'to: "Ærø, Søren" <info@ærø.example>': ["info@ærø.example"],
    "Bcc: søren@example.org": ["søren@example.org"],
    "Cc: Ærø: søren@example.org, Bo <bo@example.org>;": ["søren@example.org", "bo@example.org"],
    "To: =?utf-8?q?=C3=86r=C3=B8=2C_S=C3=B8ren?= <s@example.org>": ["s@example.org"],
    "To: =?utf-8?q?s=C3=B8ren?=@example.org": ["søren@example.org"],
    "To: =?utf-8?b?c8O4cmVu?=@example.org": ["søren@example.org"],
    "To: Søren\r\n <søren@example.org>,\r\n 太郎@例え.jp": ["søren@example.org", "太郎@例え.jp"],
    'To: "Byron,\r\n Ada" <ada@example.org>': ["ada@example.org"],
    "Cc: Ada (of Byron,\r\n\tLovelace) <ada@example.org>": ["ada@example.org"],
    "To: undisclosed-recipients:;": [],
    "To: =?x-none?q?s=C3=B8ren?=@example.org": ["=?x-none?q?s=C3=B8ren?=@example.org"],
}


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("policy", POLICIES, ids=["compat32", "default", "smtputf8", "smtp"])
def test_header_addresses_raw_utf8_is_decoded(line: str, policy: email.policy.Policy):
    parsed = email.message_from_bytes(f"{line}\r\n\r\nHi".encode(), policy=policy)
    assert header_addresses(parsed) == LINES[line]
    if policy is email.policy.compat32:
        assert header_addresses(email.message_from_string(f"{line}\r\n\r\nHi")) == LINES[line]


@pytest.mark.parametrize("policy", POLICIES[1:3], ids=["default", "smtputf8"])
def test_header_addresses_set_or_sent_are_the_same(policy: email.policy.Policy):
    made = EmailMessage(policy=policy)
    made["To"], made["Cc"] = "Søren <søren@example.org>", "Bo <bo@example.org>"
    made.set_content("<p>Hi", subtype="html")
    sent = email.message_from_bytes(made.as_bytes())
    assert header_addresses(made) == header_addresses(sent) == ["søren@example.org", "bo@example.org"]
    old = Message()
    old["To"] = Header("Søren <søren@example.org>", "utf-8")
    assert header_addresses(old) == ["søren@example.org"]


@pytest.mark.parametrize("field", ["To", "Cc", "Bcc"])
def test_add_pixel_raw_utf8_address_has_a_key_of_its_own(field: str):
    keys = set()
    for who in ("søren@example.org", "særen@example.org"):
        raw = f"{field}: {who}\nContent-Type: text/html\n\n<p>Hi".encode()
        done = add_pixel_to_bytes(raw, MINTER, "spring")
        sent = add_pixel(email.message_from_bytes(raw), MINTER, "spring")
        for html in (done.raw, sent.get_payload().encode()):
            (pixel,) = pixels(html)
            assert pixel.token.recipient == SECRETS.recipient_key(who)
            keys.add(pixel.token.recipient)
    assert len(keys) == 2


@pytest.mark.parametrize("who", [b"s\xf8ren@example.org", "s\ufffdren@example.org".encode()])
def test_add_pixel_address_not_in_utf8_gets_no_pixel(who: bytes):
    raw = b"To: %s\nContent-Type: text/html\n\n<p>Hi" % who
    done = add_pixel_to_bytes(raw, MINTER, "spring")
    assert (done.raw, "not written in UTF-8" in done.why_unchanged) == (raw, True)
    raw = b"To: S\xf8ren <s@example.org>\nContent-Type: text/html\n\n<p>Hi"
    assert add_pixel_to_bytes(raw, MINTER, "spring").why_unchanged == ""


@pytest.mark.parametrize(
    "mailbox",
    [
        "ada@example.org",
        " ada@example.org ",
        "Ada <ada@example.org>",
        '"Byron, Ada" <ada@example.org>',
        ("Ada", "ada@example.org"),
        (None, "ada@example.org"),
        ("Byron, Ada", " ada@example.org"),
        ("Ada", "<ada@example.org>"),
    ],
)
def test_only_address_any_form_of_a_mailbox_is_the_address(mailbox):
    assert only_address([mailbox]) == only_address([mailbox, "ada@example.org"]) == "ada@example.org"
    assert only_address("Ada <ada@example.org>") == "ada@example.org"
    assert only_address(['"ada b"@example.org']) == '"ada b"@example.org'


@pytest.mark.parametrize(
    "mailboxes",
    [
        *([], [""], ["ada@example.org", ("Bob", "bob@example.org")]),
        *(["Ada <ada@example.org>, bob@example.org"], [("", "ada@example.org, bob@example.org")]),
        *(["ada@example.org bob@example.org"], ["not an address"], ["Ada"]),
        *(["Ada ada@example.org"], "ada@example.org, bob@example.org"),
    ],
)
def test_only_address_several_or_not_one_whole_address_is_refused(mailboxes):
    with pytest.raises(EmbedError, match="name the recipient"):
        only_address(mailboxes)
