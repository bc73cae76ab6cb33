"""Mails of four senders are delivered, opened in a browser, and counted."""

from __future__ import annotations

import csv
import email
import random
import smtplib
import subprocess
from email.message import EmailMessage
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pixel_server.mail.links import Minter
from pixel_server.mail.message import add_pixel
from pixel_server.mail.placement import CLIP_BYTES, pixels
from pixel_server.secret import Secrets
from tests.mail.smtp import Mailbox
from tests.mail.test_message import html_of, message, with_files
from tests.mail.test_transfer import around
from tests.stack import PROGRAM, Stack, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROME = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
)
HTML = "<!DOCTYPE html>\n<html><body>\n<p>Grüße, {who}</p>\n{pixel}</body>\n</html>\n"


class Delivered:
    """Receives each mail twice: without and with its pixel."""

    def __init__(self, mailbox: Mailbox) -> None:
        self.mailbox = mailbox

    def by_smtplib(self, minter: Minter) -> None:
        given = with_files(message("ada@example.org"))
        with smtplib.SMTP("127.0.0.1", self.mailbox.port) as server:
            for one in (given, add_pixel(given, minter, "spring")):
                random.seed(1)  # for the same boundaries, which are drawn as a mail is sent
                server.send_message(one)

    def by_django(self, minter: Minter) -> None:
        from django.conf import settings
        from django.core.mail import EmailMultiAlternatives, get_connection
        from django.test.utils import override_settings

        if not settings.configured:
            settings.configure()
        smtp = "django.core.mail.backends.smtp.EmailBackend"
        fixed = {"Message-ID": "<1@example.org>", "Date": "Tue, 24 Nov 2026 06:03:49 -0000"}
        given = EmailMultiAlternatives("Grüße", "Grüße, Bob", to=["Bob <bob@example.org>"], headers=fixed)
        given.attach_alternative(HTML.format(who="Bob", pixel=""), "text/html")
        given.attach("a.bin", b"\0\xff", "application/octet-stream")
        options = {
            "EMAIL_HOST": "127.0.0.1",
            "EMAIL_PORT": self.mailbox.port,
            "PIXEL_MINTER": minter,
            "PIXEL_CAMPAIGN": "spring",
            "PIXEL_EMAIL_BACKEND": smtp,
        }
        with override_settings(**options):
            for backend in (smtp, "pixel_server.mail.django.EmailBackend"):
                random.seed(1)
                given.connection = get_connection(backend)
                assert given.send() == 1

    def by_embed_eml(self, stack: Stack) -> None:
        raw = message("cyd@example.org", cte="8bit").as_bytes()
        done = run(stack, "embed", "spring", "--eml", stdin=raw)
        self._send(raw, done.stdout)

    def by_a_mail_service(self, stack: Stack, directory: Path) -> None:
        """Fills a template from the columns of a list."""
        source, out = directory / "list.csv", directory / "links.csv"
        source.write_text("name,recipient\nDan,dan@example.org\n")
        run(stack, "link", "spring", "--recipients", str(source), "--out", str(out))
        with out.open(newline="") as file:
            (row,) = csv.DictReader(file)
        for pixel in ("", row["pixel_html"]):
            made = EmailMessage()
            made["To"], made["Subject"] = row["recipient"], "Hi"
            made.set_content(HTML.format(who=row["name"], pixel=pixel), subtype="html", cte="8bit")
            self._send(made.as_bytes())

    def _send(self, *mails: bytes) -> None:
        with smtplib.SMTP("127.0.0.1", self.mailbox.port) as server:
            for mail in mails:
                server.sendmail("list@example.org", ["someone@example.org"], mail.replace(b"\n", b"\r\n"))


def run(stack: Stack, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [PROGRAM, *arguments], env=stack.environ, input=stdin, capture_output=True, check=True, timeout=60
    )


@pytest.fixture
def minter(stack: Stack) -> Minter:
    return Minter(stack.address, Secrets.load(stack.data))


def test_mailing_every_sender_and_reader_is_counted(
    stack: Stack, minter: Minter, browser: Browser, tmp_path: Path
):
    stack.run("campaign", "create", "spring", "--sent", "4")
    with Mailbox.open() as mailbox:
        delivered = Delivered(mailbox)
        delivered.by_smtplib(minter)
        delivered.by_django(minter)
        delivered.by_embed_eml(stack)
        delivered.by_a_mail_service(stack, tmp_path)
    originals, mails = mailbox.mails[::2], mailbox.mails[1::2]
    assert len(originals) == len(mails) == 4

    page = browser.new_page(user_agent=CHROME)
    for i, (original, mail) in enumerate(zip(originals, mails, strict=True)):
        before, after = html_of(email.message_from_bytes(original)), html_of(email.message_from_bytes(mail))
        (found,) = pixels(after[0])
        assert after[0][: found.start] + after[0][found.end :] == before[0]
        assert after[1:] == before[1:]
        assert around(original, mail) == len(original)
        path = tmp_path / f"{i}.html"
        path.write_bytes(after[0])
        page.goto(path.as_uri(), wait_until="networkidle")
        until(lambda n=i: stack.totals("spring")["unique_opens"] == n + 1)
    stats = stack.call("GET", "/api/campaigns/spring/stats")[1]
    assert (stats["totals"]["hits"], stats["totals"]["unique_opens"]) == (4, 4)
    assert stats["totals"]["unique_opens_person"] == 4
    assert stats["open_rate"]["low"] == 1.0


def test_mailing_clipped_by_gmail_shows_no_bottom_pixel(stack: Stack, browser: Browser, tmp_path: Path):
    stack.run("campaign", "create", "spring")
    page = browser.new_page(user_agent=CHROME)

    def read(who: str, size: int) -> str:
        """Returns the mail as Gmail shows it, and the warnings of the embedding."""
        filling = "".join(f"<p>Paragraph {n} of a letter.</p>\n" for n in range(size // 35))
        html = HTML.format(who=who, pixel=filling).encode()
        done = run(stack, "embed", "spring", who, "--twin", stdin=html)
        path = tmp_path / f"{who}.html"
        path.write_bytes(b'<meta charset="utf-8">' + done.stdout[:CLIP_BYTES])
        page.goto(path.as_uri(), wait_until="networkidle")
        return done.stderr.decode()

    def clipped() -> dict[str, float] | None:
        found: dict[str, float] | None = stack.call("GET", "/api/campaigns/spring/stats")[1]["clipped"]
        return found

    assert "Gmail" not in read("ada", 10_000)
    until(lambda: clipped() == {"share": 0.0, "of": 1})
    assert "Gmail shows 104,448" in read("bob", 115_000)
    until(lambda: clipped() == {"share": 0.5, "of": 2})
    totals = stack.totals("spring")
    assert (totals["hits"], totals["opens"], totals["unique_opens"]) == (3, 2, 2)
    assert (
        "clipped              50.0% of 2 opened mails with two pixels"
        in stack.run("campaign", "show", "spring").stdout
    )
