"""Mails of four programs go through `up --relay` to a real mail server, are opened, and are counted."""

from __future__ import annotations

import email
import email.policy
import os
import re
import shutil
import signal
import smtplib
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest

from pixel_server.mail.placement import Pixel, pixels
from tests.mail.smtp import Mailbox
from tests.node_packages import node
from tests.stack import Stack, free_port, until

HTML = "<html><body><p>Grüße</p></body></html>"


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with Mailbox.open() as opened:
        yield opened


@pytest.fixture
def relay(data: Path, mailbox: Mailbox) -> Iterator[tuple[Stack, int]]:
    """Returns an `up --relay` with its port."""
    port = free_port()
    stack = Stack(
        data,
        PIXEL_RELAY_LISTEN=f"127.0.0.1:{port}",
        PIXEL_RELAY_TO=f"smtp://127.0.0.1:{mailbox.port}",
        PIXEL_SOON_SECONDS="0",  # the mails are opened at once
    )
    stack.start("--relay")
    yield stack, port
    assert stack.stop() == 0


def by_swaks(port: int, to: str) -> None:
    swaks = shutil.which("swaks")
    if swaks is None:
        missing = "swaks is missing: apt-get install swaks"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    mail = f"From: a@example.org\nTo: {to}\nContent-Type: text/html\nX-Pixel-Campaign: spring\n\n{HTML}\n"
    words = [swaks, "--server", f"127.0.0.1:{port}", "--to", to, "--from", "a@example.org", "--data", "-"]
    done = subprocess.run(words, input=mail, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def by_smtplib(port: int, to: str) -> None:
    message = EmailMessage()
    message["To"], message["X-Pixel-Campaign"] = to, "spring"
    message.set_content(HTML, subtype="html")
    with smtplib.SMTP("127.0.0.1", port) as server:
        server.send_message(message, "a@example.org", [to])


def by_django(port: int, to: str) -> None:
    from django.conf import settings
    from django.core.mail import EmailMultiAlternatives, get_connection
    from django.test.utils import override_settings

    if not settings.configured:
        settings.configure()
    with override_settings(EMAIL_HOST="127.0.0.1", EMAIL_PORT=port):
        connection = get_connection("django.core.mail.backends.smtp.EmailBackend")
        message = EmailMultiAlternatives("Grüße", "Grüße", "a@example.org", [to], connection=connection)
        message.extra_headers["X-Pixel-Campaign"] = "spring"
        message.attach_alternative(HTML, "text/html")
        assert message.send() == 1


def by_nodemailer(port: int, to: str) -> None:
    done = subprocess.run(node("send.js", str(port), to), capture_output=True, text=True, check=False)
    assert done.stdout.startswith("250"), done.stderr


SENDERS: list[Callable[[int, str], None]] = [by_swaks, by_smtplib, by_django, by_nodemailer]


def pixel_of(raw: bytes) -> Pixel:
    """Returns the pixel of a mail that arrived."""
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert "X-Pixel-Campaign" not in message
    body = message.get_body(("html",))
    assert body is not None
    (pixel,) = pixels(body.get_content().encode())
    return pixel


def _mails_with_pixel(stack: Stack) -> float:
    """Returns how many mails got a pixel, as `/metrics` has it."""
    with urllib.request.urlopen(f"{stack.address}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    found = re.search(r'^pixel_relay_mails_total\{outcome="pixel",reason=""\} (.+)$', text, re.M)
    return float(found[1]) if found else 0.0


def test_relay_mails_of_four_programs_are_opened_and_counted(relay: tuple[Stack, int], mailbox: Mailbox):
    stack, port = relay
    stack.run("campaign", "create", "spring", "--sent", "5")
    for sender in SENDERS:
        sender(port, f"{sender.__name__}@example.org")
    assert len(mailbox.mails) == len(SENDERS)
    for raw in mailbox.mails:
        assert stack.get(pixel_of(raw).url) == (200, "recorded")
    until(lambda: stack.totals("spring")["unique_opens"] == len(SENDERS))
    until(lambda: _mails_with_pixel(stack) == len(SENDERS))

    # A relay that is killed is started again; a client that comes meanwhile only waits.
    [relay_pid] = stack.pids("pixel_server relay")
    os.kill(relay_pid, signal.SIGKILL)
    by_smtplib(port, "later@example.org")
    assert stack.get(pixel_of(mailbox.mails[-1]).url) == (200, "recorded")
    assert "relay-links-local" in stack.output()
    assert "traceback" not in stack.output()
