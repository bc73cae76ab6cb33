"""TLS and sign-in, on the way in and on the way out."""

from __future__ import annotations

import contextlib
import smtplib
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

from pixel_server.relay.options import options_of
from pixel_server.relay.users import add_user, is_password, remove_user
from pixel_server.settings import Settings, SettingsError
from pixel_server.smtp_url import SmtpUrl, parse
from tests.mail.smtp import Mailbox
from tests.relay.conftest import make_certificate
from tests.relay.servers import ScriptedServer, Talk, running_relay

MAIL = b"Subject: Hi\r\n\r\nHi\r\n"
Files = tuple[Path, Path]


@pytest.fixture
def users(tmp_path: Path) -> tuple[Path, str]:
    """Returns the file of users, and the password of the user `shop`."""
    path = tmp_path / "users"
    return path, add_user(path, "shop")


@contextlib.contextmanager
def relay_with_users(behind: ScriptedServer, certificate: Files, users: Path) -> Iterator[int]:
    cert, key = certificate
    with running_relay(behind.port, certificate=cert, key=key, users=users) as port:
        yield port


def send(port: int, certificate: Files, user: str, password: str) -> None:
    with smtplib.SMTP("localhost", port) as client:
        client.starttls(context=ssl.create_default_context(cafile=certificate[0]))
        client.login(user, password)
        client.sendmail("a@example.org", ["ada@example.org"], MAIL)


def test_relay_with_users_takes_mail_after_tls_and_sign_in_only(
    certificate: Files, users: tuple[Path, str], tmp_path: Path
):
    path, password = users
    with (
        ScriptedServer().running() as behind,
        relay_with_users(behind, certificate, path) as port,
        Talk(port, greets=False) as client,
    ):
        offered = client.say("EHLO x")
        assert "STARTTLS" in offered
        assert "AUTH" not in offered
        assert client.say("AUTH PLAIN AHNob3AAeA==").startswith("530")
        assert client.say("MAIL FROM:<a@example.org>").startswith("530")
        send(port, certificate, "shop", password)
        with pytest.raises(smtplib.SMTPAuthenticationError):
            send(port, certificate, "shop", "wrong")
        with pytest.raises(smtplib.SMTPAuthenticationError):
            send(port, certificate, "nobody", password)
        remove_user(path, "shop")
        with pytest.raises(smtplib.SMTPAuthenticationError):
            send(port, certificate, "shop", password)
    assert [raw for _, raw in behind.mails] == [MAIL]


def test_relay_three_wrong_passwords_end_the_connection(certificate: Files, users: tuple[Path, str]):
    with ScriptedServer().running() as behind, relay_with_users(behind, certificate, users[0]) as port:
        client = smtplib.SMTP("localhost", port)
        client.starttls(context=ssl.create_default_context(cafile=certificate[0]))
        client.ehlo()
        assert client.docmd("MAIL FROM:<a@example.org>")[0] == 530
        codes = [client.docmd("AUTH plain AHNob3AAeA==")[0] for _ in range(3)]
        assert codes == [535] * 3
        assert client.getreply()[0] == 421
        client.close()
        assert "MAIL" not in "".join(behind.commands)


def test_relay_garbage_in_place_of_tls_or_a_password_ends_the_connection(
    certificate: Files, users: tuple[Path, str], caplog: pytest.LogCaptureFixture
):
    with ScriptedServer().running() as behind, relay_with_users(behind, certificate, users[0]) as port:
        with Talk(port) as client:
            client.say("STARTTLS")
            client.send(b"garbage\r\n" * 10)
            assert client.reply() == ""
        with smtplib.SMTP("localhost", port) as over_tls:
            over_tls.starttls(context=ssl.create_default_context(cafile=certificate[0]))
            over_tls.ehlo()
            assert over_tls.docmd("AUTH LOGIN")[0] == 334
            assert over_tls.docmd("x" * 200_000)[0] == 421
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]


def test_relay_commands_sent_before_tls_begins_are_dropped(certificate: Files, users: tuple[Path, str]):
    with ScriptedServer().running() as behind, relay_with_users(behind, certificate, users[0]) as port:
        client = smtplib.SMTP("localhost", port)
        client.ehlo()
        client.send("STARTTLS\r\nMAIL FROM:<evil@example.org>\r\n")
        assert client.getreply()[0] == 220
        client.sock = ssl.create_default_context(cafile=certificate[0]).wrap_socket(
            client.sock, server_hostname="localhost"
        )
        client.file = None
        assert client.docmd("NOOP") == (250, b"2.0.0 ok")
        assert client.docmd("STARTTLS")[0] == 503
        client.close()


def test_relay_renewed_certificate_is_used(certificate: Files, tmp_path: Path):
    cert, key = (tmp_path / name for name in ("c", "k"))
    cert.write_bytes(certificate[0].read_bytes())
    key.write_bytes(certificate[1].read_bytes())

    def served(port: int) -> str:
        with smtplib.SMTP("localhost", port) as client:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            client.starttls(context=context)
            assert isinstance(client.sock, ssl.SSLSocket)
            return ssl.DER_cert_to_PEM_cert(client.sock.getpeercert(binary_form=True) or b"")

    with ScriptedServer().running() as behind, running_relay(behind.port, certificate=cert, key=key) as port:
        assert served(port) == certificate[0].read_text()
        new = make_certificate(tmp_path, "DNS:localhost")
        cert.write_bytes(new[0].read_bytes())
        key.write_bytes(new[1].read_bytes())
        assert served(port) == new[0].read_text()


class _Next:
    """A mail server with TLS and AUTH. logins: those that it took."""

    def __init__(self) -> None:
        self.logins: list[tuple[bytes, bytes]] = []
        self.mails: list[bytes] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        self.mails.append(envelope.original_content)
        return "250 OK"

    def check(self, server: SMTP, session: Any, envelope: Any, mechanism: str, login: Any) -> AuthResult:
        assert isinstance(login, LoginPassword)
        self.logins.append((login.login, login.password))
        return AuthResult(success=login.password == b"p@ss/word", handled=False)


@contextlib.contextmanager
def next_server(certificate: Files, *, is_whole: bool) -> Iterator[tuple[_Next, int]]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    handler, port = _Next(), Mailbox().port
    tls = {"ssl_context": context} if is_whole else {"tls_context": context, "require_starttls": True}
    controller = Controller(
        handler,
        hostname="127.0.0.1",
        port=port,
        auth_required=True,
        auth_require_tls=not is_whole,
        authenticator=handler.check,
        **tls,
    )
    controller.start()
    try:
        yield handler, port
    finally:
        controller.stop()


def says_away(url: str) -> bool:
    """Returns whether a relay with this next server asks clients to try again."""
    with running_relay(url) as port, Talk(port, greets=False) as client:
        return client.say("EHLO x").startswith("421 4.4.1")


@pytest.mark.parametrize(("scheme", "is_whole"), [("smtp", False), ("smtps", True)])
@pytest.mark.filterwarnings("ignore:Requiring AUTH")
def test_relay_signs_in_to_the_next_server_over_tls_that_it_verifies(
    certificate: Files, scheme: str, is_whole: bool
):
    with next_server(certificate, is_whole=is_whole) as (behind, port):
        place = f"127.0.0.1:{port}?tls=on"
        trusted = f"&ssl_ca_certs={certificate[0]}"
        with (
            running_relay(f"{scheme}://me:p%40ss%2Fword@{place}{trusted}") as relay_port,
            Talk(relay_port) as client,
        ):
            assert client.mail(MAIL, "ada@example.org").startswith("250")
        assert behind.mails == [MAIL]
        assert set(behind.logins) == {(b"me", b"p@ss/word")}
        behind.logins.clear()
        assert says_away(f"{scheme}://me:p%40ss%2Fword@{place}")
        assert not behind.logins
        assert says_away(f"{scheme}://me:wrong@{place}{trusted}")
    assert len(behind.mails) == 1


def test_relay_server_without_starttls_gets_no_password():
    with ScriptedServer().running() as behind:
        assert says_away(f"smtp://me:secret@127.0.0.1:{behind.port}?tls=on")
    assert not any("AUTH" in command for command in behind.commands)


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("smtp://mail.example.org", SmtpUrl("mail.example.org", 587, "starttls")),
        ("smtp://localhost:25", SmtpUrl("localhost", 25, "off")),
        ("smtp://127.0.0.1:25?tls=on", SmtpUrl("127.0.0.1", 25, "starttls")),
        ("smtp://mail.lan:25?tls=off", SmtpUrl("mail.lan", 25, "off")),
        ("smtps://a%40b:c%3Ad@[::1]/", SmtpUrl("::1", 465, "whole", "a@b", "c:d")),
    ],
)
def test_parse_address_gives_its_parts(url: str, parts: SmtpUrl):
    assert parse(url) == parts


@pytest.mark.parametrize(
    "url",
    [
        *("mail.example.org", "http://hidden@x", "smtp://", "smtp://hidden@x", "smtp://u:hidden@x:port"),
        *("smtp://x:0", "smtp://x/hidden", "smtp://u:hidden#x@y", "smtp://u:hidden@x?tls=maybe"),
        *(
            "smtp://u:hidden@mail.example.org?tls=off",
            "smtp://x?ssl_ca_certs=/absent",
            "smtp://u:h%0Aidden@x",
        ),
    ],
)
def test_parse_bad_address_raises_one_line_without_the_password(url: str):
    with pytest.raises(SettingsError, match=r"^PIXEL_RELAY_TO: ") as raised:
        Settings.from_env({"PIXEL_RELAY_TO": url})
    assert "hidden" not in str(raised.value)


def test_options_open_relay_is_refused(certificate: Files, users: tuple[Path, str]):
    cert, key = (str(path) for path in certificate)
    to = {"PIXEL_RELAY_TO": "smtp://mail.example.org"}
    tls = {"PIXEL_RELAY_CERT": cert, "PIXEL_RELAY_TLS_KEY": key}

    def refusal(host: str, **environ: str) -> str:
        with pytest.raises(SettingsError) as raised:
            options_of(Settings.from_env(environ), host)
        return str(raised.value)

    assert "PIXEL_RELAY_TO" in refusal("127.0.0.1")
    assert "open to everybody" in refusal("0.0.0.0", **to, **tls)
    assert "over TLS only" in refusal("0.0.0.0", **to, PIXEL_RELAY_USERS=str(users[0]))
    assert "both or neither" in refusal("127.0.0.1", **to, PIXEL_RELAY_CERT=cert)
    assert "cannot read" in refusal("::", **to, **tls, PIXEL_RELAY_USERS="/absent")
    assert options_of(Settings.from_env(to), "::1").users is None
    with_users = Settings.from_env({**to, **tls, "PIXEL_RELAY_USERS": str(users[0])})
    assert options_of(with_users, "0.0.0.0").users == users[0]


def test_users_file_holds_hashes_and_keeps_its_mode(tmp_path: Path):
    path = tmp_path / "users"
    first, second = add_user(path, "shop"), add_user(path, "blog@example.org")
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    assert first not in path.read_text()
    assert is_password(path, "shop", first)
    assert not is_password(path, "shop", second)
    assert not is_password(path, "shop\nshop", first)
    assert add_user(path, "shop") != first
    assert not is_password(path, "shop", first)
    assert is_password(path, "blog@example.org", second)
    assert path.stat().st_mode & 0o777 == 0o640
    with pytest.raises(SettingsError, match="letters, digits"):
        add_user(path, "a:b")
    with pytest.raises(SettingsError, match="no user"):
        remove_user(path, "nobody")
    path.write_text("shop:plain-password\n")
    with pytest.raises(SettingsError, match="line 1"):
        is_password(path, "shop", "plain-password")
