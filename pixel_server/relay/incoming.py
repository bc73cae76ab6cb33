"""The connection of one client. aiosmtpd reads its commands, and does STARTTLS and AUTH.

MAIL, RCPT and DATA are handled here, because aiosmtpd answers them by itself, knows no parameters of DSN, and
holds a line of any length in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session, TLSSetupException

from pixel_server.logs import Log
from pixel_server.relay.envelope import Path, Refusal, parse_recipient, parse_sender
from pixel_server.relay.incoming_message import read_message
from pixel_server.relay.next_server import Away, Connection
from pixel_server.relay.relay import Relay
from pixel_server.relay.reply import NO_PIXEL, Reply, reply
from pixel_server.relay.users import UsersError, is_password

log = Log(__name__)
T = TypeVar("T")

COMMAND_SECONDS = 300.0
"""Seconds without a command after which a client is disconnected (RFC 5321, 4.5.3.2)."""
BLOCK_SECONDS = 180.0
"""Seconds that a client may take to send 64 KB of a mail."""
LINGER_SECONDS = 2.0
"""Seconds for which a client that is disconnected may go on sending, so that it reads the last reply."""
MAX_COMMAND_BYTES = 12_288
"""Largest size of a command (RFC 4954, 4)."""
MAX_LINE_BYTES = 1 << 16
"""Bytes that are read at once."""
MAX_RECIPIENTS = 100
"""Largest number of recipients of a mail. Clients send it again to the others (RFC 5321, 4.5.3.1.10)."""
MAX_FAILED_LOGINS = 3

OK = reply("250 2.0.0 ok")
NO_TRANSACTION = reply("503 5.5.1 send MAIL first")
NO_RECIPIENTS = reply("554 5.5.1 no valid recipients")
NESTED = reply("503 5.5.1 a mail has begun already: send RSET first")
TOO_MANY = reply(f"452 4.5.3 a mail may have {MAX_RECIPIENTS} recipients: send it again to the others")
BROKEN_FOR_ONE = reply("451 4.4.2 the connection to the next mail server broke: try again later")
SILENT = reply("421 4.4.2 no command came for too long")
STOPPING = reply("421 4.3.2 this relay stops: try again later")
FAILED = reply("451 4.3.0 this relay has failed: try again later")


@dataclass
class _Transaction:
    """A mail that has begun. sender: the argument of MAIL.

    recipients: the arguments of RCPT that the next server accepted.
    """

    sender: Path
    recipients: list[Path] = field(default_factory=list)


class Incoming(SMTP):
    """The connection of one client, and the connection to the next server that belongs to it.

    has_ended: is set when the client is disconnected.
    """

    command_size_limit = MAX_COMMAND_BYTES
    line_length_limit = MAX_LINE_BYTES
    AuthLoginUsernameChallenge = "Username:"
    AuthLoginPasswordChallenge = "Password:"

    def __init__(self, relay: Relay, tls: ssl.SSLContext | None, clients: set[Incoming]) -> None:
        """tls: for STARTTLS, or None. clients: the set in which this connection is while it lasts."""
        self._relay, self._clients = relay, clients
        self._next: Connection | None = None
        self._transaction: _Transaction | None = None
        self._is_lmtp = self._is_handing_over = self._ends_soon = self._is_closing = False
        self._failed_logins = 0
        self.has_ended = asyncio.Event()
        self.command_size_limits = defaultdict(lambda: MAX_COMMAND_BYTES)
        super().__init__(
            object(),
            hostname=relay.own_name,
            ident="pixel-server",
            data_size_limit=None,
            enable_SMTPUTF8=True,
            tls_context=tls,
            require_starttls=relay.needs_login,
            auth_required=relay.needs_login,
            authenticator=self._check_login,
            timeout=COMMAND_SECONDS,
            loop=asyncio.get_running_loop(),
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._clients.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._clients.discard(self)
        self._drop_next()
        self.has_ended.set()
        super().connection_lost(error)

    def eof_received(self) -> bool | None:
        """Keeps the connection while a mail is handed over: a client that sends no more may still read."""
        if self._is_handing_over:
            return asyncio.StreamReaderProtocol.eof_received(self)
        return super().eof_received()

    def finish(self) -> None:
        """Disconnects the client once the mail that it sends has been answered, or at once without a mail."""
        self._ends_soon = True
        if self._transaction is None and not self._is_closing:
            self._writer.write(STOPPING.encode() + b"\r\n")
            self._close()

    def abort(self) -> None:
        """Ends both connections at once."""
        self._drop_next()
        self._close()

    async def handle_exception(self, error: Exception) -> str:
        """Returns the reply to a command that failed by a fault of this program."""
        self._drop_next()
        self._transaction = None
        if not isinstance(error, TLSSetupException):
            log.error(
                "relay-failed",
                "the relay has failed, and the client is asked to try again: please report this line",
                exc=error,
            )
        return FAILED.encode().decode()

    # Greeting

    async def smtp_HELO(self, hostname: str) -> None:  # noqa: N802 - the names of aiosmtpd
        await self._greet(hostname, is_extended=False)

    async def smtp_EHLO(self, hostname: str) -> None:  # noqa: N802
        await self._greet(hostname, is_extended=True)

    async def smtp_LHLO(self, hostname: str) -> None:  # noqa: N802
        if not self._relay.options.each:
            await self._answer(reply("500 5.5.1 LMTP is offered with --each only"))
            return
        await self._greet(hostname, is_extended=True, is_lmtp=True)

    async def _greet(self, hostname: str, *, is_extended: bool, is_lmtp: bool = False) -> None:
        if not hostname:
            await self._answer(reply("501 5.5.4 give the name of your host"))
            return
        await self._abandon()
        assert self.session is not None
        self.session.host_name, self.session.extended_smtp = hostname, is_extended
        self._is_lmtp = is_lmtp
        if not is_extended:
            await self._answer(reply(f"250 {self.hostname}"))
            return
        try:
            extensions = await self._relay.extensions()
        except Away as away:
            await self._answer(Reply(421, away.reply.lines))
            return
        await self._answer(Reply(250, tuple(line.encode() for line in self._offers(extensions))))

    def _offers(self, extensions: Mapping[str, str]) -> list[str]:
        """Returns the lines of the reply to EHLO: what both this relay and the next server can do."""
        lines = [self.hostname, "PIPELINING", f"SIZE {self._relay.max_bytes}"]
        names = ("8bitmime", "smtputf8", "dsn", "enhancedstatuscodes")
        lines += [name.upper() for name in names if name in extensions]
        if self.tls_context and not self._tls_protocol:
            lines.append("STARTTLS")
        if self._relay.needs_login and self._tls_protocol:
            lines.append("AUTH LOGIN PLAIN")
        return lines

    async def smtp_STARTTLS(self, arg: str) -> None:  # noqa: N802
        if self._tls_protocol:
            await self._answer(reply("503 5.5.1 TLS has begun already"))
            return
        await self._abandon()
        await super().smtp_STARTTLS(arg)

    async def smtp_AUTH(self, arg: str) -> None:  # noqa: N802
        if not self._relay.needs_login:
            await self._answer(reply("502 5.5.1 this relay needs no AUTH"))
            return
        mechanism, _, rest = (arg or "").partition(" ")
        try:
            await super().smtp_AUTH(f"{mechanism.upper()} {rest}".strip())
        except ValueError:  # a line above MAX_LINE_BYTES in place of the password
            await self._answer(reply("421 5.5.2 the line is too long"))
        if self._failed_logins >= MAX_FAILED_LOGINS:
            await self._answer(reply("421 4.7.0 too many wrong passwords"))

    def _check_login(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, login: Any
    ) -> AuthResult:
        assert isinstance(login, LoginPassword)
        assert self._relay.options.users is not None
        name, password = (text.decode("utf-8", "replace") for text in login)
        try:
            is_right = is_password(self._relay.options.users, name, password)
        except UsersError as error:
            log.error("relay-users-unreadable", "nobody can sign in to the relay: %(error)s", error=error)
            return AuthResult(
                success=False, handled=False, message="454 4.7.0 users cannot be checked: try again later"
            )
        if not is_right:
            self._failed_logins += 1
            log.warning("relay-login-failed", "a client of the relay gave a wrong user or password")
        return AuthResult(success=is_right, handled=False)

    # One mail

    async def smtp_MAIL(self, arg: str | None) -> None:  # noqa: N802
        if await self.check_helo_needed() or await self.check_auth_needed("MAIL"):
            return
        await self._answer(await self._begin(arg))

    async def _begin(self, argument: str | None) -> Reply:
        if self._transaction is not None:
            return NESTED
        if self._ends_soon:
            return STOPPING
        try:
            sender = parse_sender(argument, await self._relay.extensions(), self._relay.max_bytes)
            answer = await self._send_sender(sender.command("MAIL FROM"))
        except Refusal as refusal:
            self._note_own_refusal(refusal.reply)
            return refusal.reply
        except Away as away:
            return away.reply
        if answer.is_success:
            self._transaction = _Transaction(sender)
        return self._note_refusal(answer, "MAIL")

    async def _send_sender(self, command: str) -> Reply:
        """Sends MAIL. Connects to the next server first, and anew if it closed an idle connection."""
        if self._next is not None:
            with contextlib.suppress(Away):
                answer = await self._in_thread(self._next.command, command)
                if answer.code != 421:
                    return answer
            self._drop_next()
        try:
            self._next = await self._in_thread(self._relay.next_server.connect)
            return await self._in_thread(self._next.command, command)
        except Away as away:
            self._relay.report_away(away)
            self._drop_next()
            raise

    async def smtp_RCPT(self, arg: str | None) -> None:  # noqa: N802
        if await self.check_helo_needed() or await self.check_auth_needed("RCPT"):
            return
        await self._answer(await self._add_recipient(arg))

    async def _add_recipient(self, argument: str | None) -> Reply:
        transaction = self._transaction
        if transaction is None:
            return NO_TRANSACTION
        if len(transaction.recipients) >= MAX_RECIPIENTS:
            self._note_own_refusal(TOO_MANY)
            return TOO_MANY
        try:
            allows_utf8 = "SMTPUTF8" in transaction.sender.parameters
            recipient = parse_recipient(argument, await self._relay.extensions(), allows_utf8)
            answer = await self._command(recipient.command("RCPT TO"))
        except Refusal as refusal:
            self._note_own_refusal(refusal.reply)
            return refusal.reply
        except Away as away:
            return self._lose(away)
        if answer.is_success:
            transaction.recipients.append(recipient)
        return self._note_refusal(answer, "RCPT")

    async def smtp_DATA(self, arg: str | None) -> None:  # noqa: N802
        if await self.check_helo_needed() or await self.check_auth_needed("DATA"):
            return
        transaction = self._transaction
        if arg:
            await self._answer(reply("501 5.5.4 DATA takes no argument"))
        elif transaction is None:
            await self._answer(NO_TRANSACTION)
        elif not transaction.recipients:
            await self._answer(NO_RECIPIENTS)
        else:
            await self.push("354 end the mail with a line of one dot")
            await self._take_message(transaction)

    async def _take_message(self, transaction: _Transaction) -> None:
        """Reads a mail, hands it over, and answers."""
        with self._relay.budget.share() as share:
            try:
                raw = await read_message(self._reader, self._relay.max_bytes, share, self._restart_timeout)
            except Refusal as refusal:
                await self._refuse_message(transaction, refusal)
                return
            self._is_handing_over = True
            try:
                if self._is_lmtp:
                    await self._hand_over_each(transaction, raw)
                else:
                    await self._answer(await self._hand_over(transaction.recipients, raw))
            finally:
                self._is_handing_over = False
                if self._reader.at_eof():
                    await self._end()

    async def _refuse_message(self, transaction: _Transaction, refusal: Refusal) -> None:
        """Ends a transaction whose mail is refused, and answers: in LMTP, once for each recipient."""
        self._note_own_refusal(refusal.reply)
        await self._abandon()
        if refusal.disconnects:
            await self._say_and_close(refusal.reply)
            return
        for _ in transaction.recipients[1:] if self._is_lmtp else ():
            await self.push(refusal.reply.encode())
        await self._answer(refusal.reply)

    async def _hand_over(self, recipients: list[Path], raw: bytes) -> Reply:
        """Sends a mail within the transaction that has begun. Returns the reply, and ends the transaction."""
        assert self._next is not None
        try:
            answer = await self._in_thread(
                self._relay.hand_over, self._next, raw, [path.address for path in recipients]
            )
        except Away as away:
            return self._lose(away)
        self._transaction = None
        return self._note_refusal(answer, "DATA")

    async def _hand_over_each(self, transaction: _Transaction, raw: bytes) -> None:
        """Sends a mail to each recipient on its own, and answers for each (LMTP; RFC 2033, 4.2)."""
        with contextlib.suppress(Away):
            await self._command("RSET")
        for recipient in transaction.recipients:
            answer = await self._hand_over_one(transaction.sender, recipient, raw)
            await self.push(answer.encode())
        self._transaction = None
        if self._ends_soon:
            await self._say_and_close(STOPPING)

    async def _hand_over_one(self, sender: Path, recipient: Path, raw: bytes) -> Reply:
        try:
            for path, verb in ((sender, "MAIL FROM"), (recipient, "RCPT TO")):
                answer = await self._command(path.command(verb))
                if not answer.is_success:
                    await self._command("RSET")
                    return self._note_refusal(answer, verb[:4])
        except Away as away:
            self._lose(away)
            return BROKEN_FOR_ONE
        answer = await self._hand_over([recipient], raw)
        return BROKEN_FOR_ONE if answer.code == 421 else answer

    async def smtp_RSET(self, arg: str | None) -> None:  # noqa: N802
        await self._abandon()
        await self._answer(OK)

    async def smtp_NOOP(self, arg: str | None) -> None:  # noqa: N802
        await self._answer(OK)

    async def smtp_VRFY(self, arg: str | None) -> None:  # noqa: N802
        await self._answer(reply("252 2.5.0 send a mail, and see"))

    async def smtp_QUIT(self, arg: str | None) -> None:  # noqa: N802
        if self._next is not None:
            connection, self._next = self._next, None
            await self._in_thread(connection.quit)
        self._transaction = None
        await self.push("221 2.0.0 bye")
        await self._end()

    # Both connections

    async def _command(self, line: str) -> Reply:
        """Sends a command to the next server. Raises Away."""
        if self._next is None:
            raise Away("the connection has ended", BROKEN_FOR_ONE)
        return await self._in_thread(self._next.command, line)

    async def _in_thread(self, call: Callable[..., T], *arguments: object) -> T:
        """Calls a function that waits for the next server. Meanwhile the client's time does not run."""
        if self._timeout_handle is not None:
            self._timeout_handle.cancel()
        result = await self._relay.in_thread(call, *arguments)
        self._reset_timeout()
        return result

    def _restart_timeout(self) -> None:
        self._reset_timeout(BLOCK_SECONDS)

    def _timeout_cb(self) -> None:
        """Tells a client that is silent for too long that it is disconnected."""
        if not self._is_closing:
            self._writer.write(SILENT.encode() + b"\r\n")
        super()._timeout_cb()  # type: ignore[no-untyped-call]

    async def _abandon(self) -> None:
        """Ends a transaction that has begun, without its mail."""
        if self._transaction is None:
            return
        self._transaction = None
        try:
            await self._command("RSET")
        except Away:
            self._drop_next()

    def _lose(self, away: Away) -> Reply:
        """Returns the reply if the connection to the next server broke within a transaction."""
        self._relay.report_away(away)
        self._drop_next()
        self._transaction = None
        return away.reply

    def _drop_next(self) -> None:
        """Ends the connection to the next server at once. A mail that is not sent whole goes nowhere."""
        if self._next is not None:
            self._next.abort()
            self._next = None

    def _note_own_refusal(self, answer: Reply) -> None:
        """Notes a refusal by this relay."""
        self._relay.numbers.note_refusal("relay", answer)
        log.info("relay-refused", "the relay refused: %(reply)s", reply=answer.encode().decode())

    def _note_refusal(self, answer: Reply, command: str) -> Reply:
        """Logs a refusal, and returns it. The text of the next server may name a person: it is not logged."""
        if answer is NO_PIXEL:
            self._note_own_refusal(answer)
        elif answer.is_refusal:
            self._relay.numbers.note_refusal("next", answer)
            log.info(
                "relay-next-refused",
                "the next mail server refused %(command)s with %(code)d; the client has its text",
                command=command,
                code=answer.code,
            )
        return answer

    async def _answer(self, answer: Reply) -> None:
        """Sends a reply. Disconnects the client after a 421, or if the relay stops and no mail has begun."""
        if answer.code == 421:
            await self._say_and_close(answer)
            return
        await self.push(answer.encode())
        if self._ends_soon and self._transaction is None:
            await self._say_and_close(STOPPING)

    async def _say_and_close(self, answer: Reply) -> None:
        """Sends a last reply, and disconnects the client. Reads on for a moment, so that it arrives."""
        self._is_closing = True
        await self.push(answer.encode())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                if self._writer.can_write_eof():
                    self._writer.write_eof()
                while await self._reader.read(MAX_LINE_BYTES):
                    pass
        await self._end()

    async def _end(self) -> None:
        """Disconnects the client, and ends this coroutine: no further command is read."""
        self._close()
        await asyncio.sleep(0)  # raises CancelledError

    def _close(self) -> None:
        self._is_closing = True
        if self._handler_coroutine is not None:
            self._handler_coroutine.cancel()
        if self.transport is not None:
            self.transport.close()
