"""A Postfix behind the relay: what smtplib and a client of LMTP send arrives as it was sent."""

from __future__ import annotations

import re
import smtplib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pixel_server.mail.placement import pixels
from tests.mail.smtp import Mailbox
from tests.relay.postfix import postfix
from tests.relay.servers import Talk, running_relay, stuffed
from tests.stack import until

HTML = "Subject: Grüße\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>Grüße</p>\r\n.\r\n..x\r\n".encode()


@pytest.fixture(scope="module")
def ports() -> Iterator[tuple[Mailbox, int]]:
    """Returns the mailbox in which mails arrive, and the port of the relay: relay, Postfix, mailbox."""
    with (
        tempfile.TemporaryDirectory(prefix="pf-") as home,
        Mailbox.open() as mailbox,
        postfix(Path(home), mailbox.port) as port,
        running_relay(port, each=True) as relay_port,
    ):
        yield mailbox, relay_port


def body(raw: bytes) -> bytes:
    return raw.partition(b"\r\n\r\n")[2]


def without_pixel(raw: bytes) -> bytes:
    return re.sub(rb"<img [^>]*>(\r\n)?", b"", raw)


def test_relay_before_postfix_passes_mails_and_parameters_on(ports: tuple[Mailbox, int]):
    mailbox, port = ports
    with smtplib.SMTP("127.0.0.1", port) as client:
        client.ehlo()
        assert client.has_extn("dsn")
        refused = client.sendmail(
            "jäne@example.org",
            ["gone@example.org", "jörg@example.org"],
            HTML,
            ["SMTPUTF8", "BODY=8BITMIME", "RET=HDRS", "ENVID=a"],
            ["NOTIFY=FAILURE", "ORCPT=rfc822;ada@example.org"],
        )
        assert refused["gone@example.org"][0] == 550
        assert b"no such user" in refused["gone@example.org"][1]
    until(lambda: len(mailbox.mails) == 1)
    assert len(pixels(mailbox.mails[0])) == 1
    assert without_pixel(body(mailbox.mails[0])) == body(HTML)


def test_relay_before_postfix_sends_each_recipient_of_lmtp_a_mail(ports: tuple[Mailbox, int]):
    mailbox, port = ports
    before = len(mailbox.mails)
    with Talk(port, greets=False) as client:
        client.say("LHLO client.example")
        replies = client.begin("a@example.org", "gone@example.org", "b@example.org")
        assert [reply[:3] for reply in replies] == ["250", "250", "550", "250"]
        client.say("DATA")
        client.send(stuffed(HTML) + b".\r\n")
        assert [client.reply()[:3] for _ in range(2)] == ["250", "250"]
        assert client.say("QUIT").startswith("221")
    until(lambda: len(mailbox.mails) == before + 2)
    tokens = {pixels(raw)[0].token.recipient for raw in mailbox.mails[before:]}
    assert len(tokens) == 2


def test_relay_before_postfix_lets_no_mail_be_smuggled(ports: tuple[Mailbox, int]):
    mailbox, port = ports
    before = len(mailbox.mails)
    for end in (b"\n.\r\n", b"\r\n.\n", b"\n.\n", b"\r.\r\n", b"\r\n.\r"):
        with Talk(port) as client:
            client.begin("ada@example.org")
            client.say("DATA")
            smuggled = b"MAIL FROM:<evil@example.org>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\nevil\r\n.\r\n"
            client.send(b"Subject: Hi\r\n\r\nHi" + end + smuggled)
            assert client.reply().startswith("554 5."), end
    with Talk(port) as client:
        assert client.mail(HTML, "last@example.org").startswith("250")
    until(lambda: len(mailbox.mails) > before)
    assert not any(b"evil" in raw for raw in mailbox.mails)
    assert len(mailbox.mails) == before + 1
