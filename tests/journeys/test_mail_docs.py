"""The examples of docs/mail.md, which run here as they are written."""

from __future__ import annotations

import contextlib
import email
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pixel_server.mail.placement import EmbedError, pixels
from pixel_server.secret import Secrets
from pixel_server.tokens import Part
from tests.mail.smtp import Mailbox
from tests.mail.test_message import html_of, message
from tests.stack import PROGRAM

PAGE = (Path(__file__).parent.parent.parent / "docs" / "mail.md").read_text()
ADA = "ada@example.org"


def example(heading: str) -> str:
    """Returns the Python code under this heading."""
    section = re.search(rf"^##+ {heading}\n(.*?)(?=^##|\Z)", PAGE, re.M | re.S)
    assert section
    (code,) = re.findall(r"^```python\n(.*?)^```$", section[1], re.M | re.S)
    return code


@pytest.fixture
def names(tmp_path, monkeypatch):
    """Returns the names that the first example defines, run in a directory with the server's secrets."""
    Secrets.load_or_create(tmp_path / "pixel-data")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(example("Python"), names)
    return names


@pytest.fixture
def mailbox():
    with Mailbox.open() as opened:
        yield opened


def at(code: str, mailbox: Mailbox) -> str:
    assert '"localhost", 25' in code
    return code.replace('"localhost", 25', f'"127.0.0.1", {mailbox.port}')


def test_mail_docs_python_example_embeds_a_pixel(names):
    (pixel,) = pixels(names["html"].encode())
    assert pixel.token.campaign == "spring"
    assert pixel.token.recipient == Secrets.load(Path("pixel-data")).recipient_key(ADA)


def test_mail_docs_smtplib_example_sends_a_pixel(names, mailbox):
    given = message()
    raw = given.as_bytes()
    exec(at(example("smtplib"), mailbox), {**names, "message": given})
    assert given.as_bytes() == raw
    (html,) = html_of(email.message_from_bytes(mailbox.mails[0]))
    (pixel,) = pixels(html)
    assert (html[: pixel.start] + html[pixel.end :]).replace(b"\r\n", b"\n") == html_of(given)[0]


@pytest.fixture
def django(names):
    """Yields django.core.mail, set up as the page says, with Django's outbox as the other backend."""
    settings: dict = {}
    exec(example("Django"), {"minter": names["minter"]}, settings)
    assert settings["PIXEL_EMAIL_BACKEND"] == "django.core.mail.backends.smtp.EmailBackend"
    settings["PIXEL_EMAIL_BACKEND"] = "django.core.mail.backends.locmem.EmailBackend"

    from django.conf import settings as conf
    from django.core import mail
    from django.test.utils import override_settings

    if not conf.configured:
        conf.configure()
    mail.outbox = []
    with override_settings(**settings):
        yield mail


def test_mail_docs_django_example_sends_a_pixel(django, caplog):
    from django.core.mail import EmailMultiAlternatives, send_mail, send_mass_mail

    send_mail("Hi", "text", "bob@example.org", [f"Ada <{ADA}>"], html_message="<body>Grüße</body>")
    (sent,) = django.outbox
    ((content, kind),) = sent.alternatives
    assert kind == "text/html"
    (pixel,) = pixels(content.encode())
    assert content.encode()[: pixel.start].decode() == "<body>Grüße"
    assert pixel.token.recipient == Secrets.load(Path("pixel-data")).recipient_key(ADA)
    assert html_of(sent.message()) == [content.encode()]

    given = EmailMultiAlternatives("Hi", "text", to=[ADA], cc=["eve@example.org"])
    given.attach_alternative("<p>Hi", "text/html")
    given.attach("a.html", "<body>file</body>", "text/html")
    given.send()
    assert "2 recipients" in caplog.messages[0]
    given.pixel_recipient, given.pixel_campaign = ADA, "summer"
    given.send()
    assert [pixel.token.campaign for pixel in pixels(django.outbox[-1].alternatives[0][0].encode())] == [
        "summer"
    ]
    assert given.alternatives[0][0] == "<p>Hi"
    assert django.outbox[-1].attachments == given.attachments
    given.pixel_campaign = None
    given.send()
    for without in (django.outbox[1], django.outbox[3]):
        assert without.alternatives[0][0] == "<p>Hi"

    caplog.clear()
    assert (
        send_mass_mail([("Hi", "text", None, [ADA]), ("Hi", "-----BEGIN PGP MESSAGE-----", None, [ADA])]) == 2
    )
    assert ["only text" in caplog.messages[0], "PGP" in caplog.messages[1]] == [True, True]


def reporting_backend(error: Exception | None = None):
    """Returns the class of a backend that reports on each message, as those of mail services do."""
    from django.core.mail.backends.base import BaseEmailBackend

    class Backend(BaseEmailBackend):
        def send_messages(self, messages):
            for mail in messages:
                mail.anymail_status = {"message_id": mail.subject}
                mail.extra_headers = {**mail.extra_headers, "X-Tag": "spring"}
                mail.metadata["tries"] += 1
                mail.body, mail.draft_of = f"{mail.body}!", None
                del mail.queue
            if error:
                raise error
            return len(messages)

    return Backend


@pytest.mark.parametrize("error", [None, OSError("refused")], ids=["sent", "failed"])
@pytest.mark.parametrize("subtype", ["html", "plain"])
def test_django_attributes_set_by_the_other_backend_are_on_the_message(django, monkeypatch, error, subtype):
    from django.core.mail import EmailMultiAlternatives, get_connection
    from django.test.utils import override_settings

    monkeypatch.setitem(globals(), "Reporting", reporting_backend(error))
    given = EmailMultiAlternatives("Hi", "<p>Hi", to=[ADA])
    given.content_subtype, given.metadata, given.queue = subtype, {"tries": 0}, "slow"
    if subtype == "plain":
        given.attach_alternative("<p>Hi", "text/html")
    with override_settings(PIXEL_EMAIL_BACKEND=f"{__name__}.Reporting"):
        connection = get_connection()
    with pytest.raises(OSError, match="refused") if error else contextlib.nullcontext():
        assert connection.send_messages(mail for mail in [given]) == 1
    assert given.anymail_status == {"message_id": "Hi"}
    assert (given.extra_headers, given.metadata) == ({"X-Tag": "spring"}, {"tries": 1})
    assert (given.draft_of, hasattr(given, "queue")) == (None, False)
    assert "/o/" not in given.body + "".join(content for content, _ in given.alternatives)


def test_django_two_mailboxes_in_one_text_get_no_pixel(django, caplog):
    from django.core.mail import send_mail

    send_mail("Hi", "text", None, [f"Ada <{ADA}>, Bob <bob@example.org>"], html_message="<p>Hi")
    assert django.outbox[0].alternatives[0][0] == "<p>Hi"
    assert "2 recipients" in caplog.messages[0]


def test_django_lazy_text_as_recipient_gets_a_pixel(django, caplog):
    from django.utils.functional import lazystr

    message = django.EmailMultiAlternatives("Hi", "Hi", "bob@example.org", [lazystr(ADA)])
    message.attach_alternative("<body>Hi</body>", "text/html")
    message.send()
    assert caplog.messages == []
    assert "/o/" in django.outbox[0].alternatives[0][0]


def test_django_html_only_twin_sends_two_pixels(django):
    from django.core.mail import EmailMessage, get_connection
    from django.test.utils import override_settings

    with override_settings(PIXEL_TWIN=True), get_connection() as connection:
        given = EmailMessage("Hi", "<body>Hi</body>", to=[ADA])
        given.content_subtype = "html"
        assert connection.send_messages([given]) == 1
    assert [pixel.token.part for pixel in pixels(django.outbox[0].body.encode())] == [Part.TOP, Part.BOTTOM]
    assert given.body == "<body>Hi</body>"


def test_mail_docs_flask_mail_example_sends_a_pixel(names, mailbox):
    from flask import Flask
    from flask_mail import Mail, Message

    app = Flask(__name__)
    app.config.update(MAIL_SERVER="127.0.0.1", MAIL_PORT=mailbox.port)
    given = Message("Hi", recipients=[ADA], sender="bob@example.org", body="Hi", html="<body>Hi</body>")
    with app.app_context():
        exec(example("Flask-Mail"), {**names, "message": given, "mail": Mail(app)})
    assert given.html == "<body>Hi</body>"
    (html,) = html_of(email.message_from_bytes(mailbox.mails[0]))
    assert [pixel.token.campaign for pixel in pixels(html)] == ["spring"]


@pytest.mark.parametrize("who", [("Ada", ADA), f"Ada <{ADA}>", f'"Byron, Ada" <{ADA}>'])
def test_mail_docs_flask_mail_example_recipient_with_a_name_has_the_key_of_the_address(names, who):
    message, mail = flask_message([who]), FlaskOutbox()
    exec(example("Flask-Mail"), {**names, "message": message, "mail": mail})
    (pixel,) = pixels(mail.sent[0].html.encode())
    assert pixel.token.recipient == Secrets.load(Path("pixel-data")).recipient_key(ADA)


@pytest.mark.parametrize("more", [{"cc": ["eve@example.org"]}, {"bcc": [("Eve", "eve@example.org")]}])
def test_mail_docs_flask_mail_example_several_recipients_are_refused(names, more):
    mail = FlaskOutbox()
    with pytest.raises(EmbedError, match="2 recipients"):
        exec(example("Flask-Mail"), {**names, "message": flask_message([ADA], **more), "mail": mail})
    assert mail.sent == []


class FlaskOutbox:
    """Stands where an app has its `Mail`. sent: the messages that were sent."""

    def __init__(self) -> None:
        self.sent: list = []

    def send(self, message) -> None:
        self.sent.append(message)


def flask_message(recipients, **more):
    from flask_mail import Message

    return Message("Hi", recipients=recipients, sender="bob@example.org", html="<body>Hi</body>", **more)


def test_mail_docs_shell_commands_run(names, tmp_path):
    """Runs each command of the table on the files that it names."""
    (tmp_path / "in.html").write_text("<body>Hi</body>")
    (tmp_path / "in.eml").write_bytes(message().as_bytes())
    (tmp_path / "list.csv").write_text("name,recipient\nAda,ada@example.org\n")
    commands = re.findall(r"^\| `(pixel-server .*?)` \|", PAGE, re.M)
    assert len(commands) == 5
    environ = {**os.environ, "PATH": f"{Path(PROGRAM).parent}:{os.environ['PATH']}"}
    environ["PIXEL_BASE_URL"] = "https://img.example.org"
    for command in commands:
        done = subprocess.run(command, shell=True, cwd=tmp_path, env=environ, capture_output=True, check=True)
        assert done.stderr == b"", command
    assert len(pixels((tmp_path / "out.html").read_bytes())) == 1
    assert len(pixels(html_of(email.message_from_bytes((tmp_path / "out.eml").read_bytes()))[0])) == 1
    assert len(pixels((tmp_path / "mails" / "0000" / "0000000.html").read_bytes())) == 1
    assert (
        (tmp_path / "links.csv").read_text().startswith("name,recipient,pixel_url,pixel_html,privacy_url\n")
    )


def test_mail_docs_begin_with_the_copy_without_the_pixel():
    assert PAGE.partition("\n## ")[0].index("Keep a copy without the pixel") < 40


def test_django_backend_import_loads_no_django():
    heavy = "{'django', 'starlette', 'rq', 'redis'}"
    script = f"import sys, pixel_server.mail.django; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
