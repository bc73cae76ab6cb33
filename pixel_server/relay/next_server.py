"""Connections to the next server. All functions here block, and are called in threads."""

from __future__ import annotations

import contextlib
import re
import smtplib
import socket
import ssl
from collections.abc import Mapping

from pixel_server.relay.reply import Reply, reply
from pixel_server.smtp_url import SmtpUrl

CONNECT_SECONDS = 30.0
"""Seconds to connect to the next server, for each of its steps."""
COMMAND_SECONDS = 300.0
"""Seconds to wait for the answer to a command (RFC 5321, 4.5.3.2)."""
BLOCK_SECONDS = 180.0
"""Seconds to send one block of a mail."""
END_SECONDS = 600.0
"""Seconds to wait for the answer to a whole mail."""
_BLOCK_BYTES = 1 << 20
_leading_dots = re.compile(rb"^\.", re.M)

AWAY = reply("451 4.4.1 the next mail server cannot be reached: try again later")
BROKEN = reply("421 4.4.2 the connection to the next mail server broke: try again later")


class Away(Exception):
    """The next server cannot be used. reply: the reply to the client. The text says why, for the log."""

    is_loggable = True

    def __init__(self, reason: str, reply: Reply = AWAY) -> None:
        super().__init__(reason)
        self.reply = reply


class NextServer:
    """The server to which mails go.

    extensions: the extensions that it offered last, by name in lower case: `{"size": "1000"}`. None if it has
    not been reached yet.
    """

    def __init__(self, address: SmtpUrl, own_name: str) -> None:
        """own_name: the name by which this relay greets. Raises ssl.SSLError if the CA file is unusable."""
        self.address = address
        self.extensions: Mapping[str, str] | None = None
        self._own_name = own_name
        self._tls = ssl.create_default_context(cafile=address.ca_file or None)

    def connect(self) -> Connection:
        """Returns a connection that is ready for a mail. Raises Away."""
        smtp = self._reach(CONNECT_SECONDS, signs_in=True)
        self.extensions = dict(smtp.esmtp_features)
        return Connection(smtp)

    def learn(self) -> None:
        """Asks the next server for its extensions. Raises Away."""
        self.connect().quit()

    def check(self, seconds: float) -> None:
        """Greets the next server, with TLS if it is used, but neither signs in nor sends a mail.

        seconds: time for each step. Raises Away.
        """
        Connection(self._reach(seconds, signs_in=False)).quit()

    def _reach(self, seconds: float, *, signs_in: bool) -> smtplib.SMTP:
        """Returns a connection after the greeting. Raises Away."""
        try:
            return self._greet(seconds, signs_in=signs_in)
        except smtplib.SMTPConnectError as error:
            refusal = _reply(error.smtp_code, error.smtp_error)
            raise Away(f"it greets with {error.smtp_code}", refusal if refusal.is_refusal else AWAY) from None
        except (OSError, smtplib.SMTPException) as error:
            raise Away(_reason(error)) from None

    def _greet(self, seconds: float, *, signs_in: bool) -> smtplib.SMTP:
        """Returns a connection after EHLO and TLS, and after the sign-in if `signs_in` is set."""
        to, name = self.address, self._own_name
        smtp = (
            smtplib.SMTP_SSL(to.host, to.port, local_hostname=name, timeout=seconds, context=self._tls)
            if to.tls == "whole"
            else smtplib.SMTP(to.host, to.port, local_hostname=name, timeout=seconds)
        )
        try:
            smtp.ehlo_or_helo_if_needed()
            if to.tls == "starttls":
                smtp.starttls(context=self._tls)
                smtp.ehlo()
            if to.user and signs_in:
                smtp.login(to.user, to.password)
        except BaseException:
            smtp.close()
            raise
        return smtp


class Connection:
    """A connection to the next server. Each method but `abort` raises Away if the connection breaks."""

    def __init__(self, smtp: smtplib.SMTP) -> None:
        self._smtp = smtp
        assert smtp.sock is not None
        self._socket = smtp.sock

    def command(self, line: str) -> Reply:
        """Sends a command, such as `"RSET"`, and returns the reply."""
        return self._exchange(f"{line}\r\n".encode(), COMMAND_SECONDS)

    def send_message(self, raw: bytes) -> Reply:
        """Sends DATA and a message, and returns the last reply. raw: ends with CRLF, or is empty."""
        begun = self.command("DATA")
        if begun.code != 354:
            return begun if begun.is_refusal else self._give_up()
        stuffed = _leading_dots.sub(b"..", raw) + b".\r\n"
        return self._exchange(stuffed, END_SECONDS)

    def reset(self) -> None:
        """Ends a transaction without sending its mail."""
        self.command("RSET")

    def quit(self) -> None:
        """Ends the connection. Does not wait for the next server to agree."""
        with contextlib.suppress(OSError):
            self._socket.settimeout(1.0)
            self._socket.sendall(b"QUIT\r\n")
        self._smtp.close()

    def abort(self) -> None:
        """Ends the connection at once, also while another thread waits for an answer."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _exchange(self, data: bytes, seconds: float) -> Reply:
        """Sends data and returns the reply to them. seconds: time to wait for the reply."""
        broken: OSError | None = None
        try:
            self._socket.settimeout(BLOCK_SECONDS)
            for start in range(0, len(data), _BLOCK_BYTES):
                self._socket.sendall(memoryview(data)[start : start + _BLOCK_BYTES])
        except OSError as error:  # the server may have said why, before it closed the connection
            broken, seconds = error, 1.0
        try:
            self._socket.settimeout(seconds)
            answer = _reply(*self._smtp.getreply())
        except (OSError, smtplib.SMTPException) as error:
            self._smtp.close()
            raise Away(_reason(broken or error), BROKEN) from None
        if broken is not None and not answer.is_refusal:
            raise Away(_reason(broken), BROKEN)
        return answer if answer.code >= 200 or answer.code == 354 else self._give_up()

    def _give_up(self) -> Reply:
        """Raises Away, because the next server answers what SMTP does not allow."""
        self._smtp.close()
        raise Away("it gives an answer that is not SMTP", BROKEN)


def _reply(code: int, text: bytes | str) -> Reply:
    raw = text.encode() if isinstance(text, str) else text
    return Reply(code, tuple(line.replace(b"\r", b"") for line in raw.split(b"\n")))


def _reason(error: Exception) -> str:
    """Returns why a connection failed. Does not quote what the next server said: it may name a person."""
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return f"it refuses user or password of PIXEL_RELAY_TO ({error.smtp_code})"
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return "it does not offer STARTTLS or AUTH, which PIXEL_RELAY_TO asks for"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message}"
    if isinstance(error, smtplib.SMTPServerDisconnected):
        return "it closed the connection"
    if isinstance(error, smtplib.SMTPResponseException):
        return f"it answers {error.smtp_code}"
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    return str(error.strerror or error) if isinstance(error, OSError) else type(error).__name__
