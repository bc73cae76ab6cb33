"""A relay in a thread of this process, and a scripted mail server behind it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pixel_server.mail.links import Minter
from pixel_server.relay.message import Rules
from pixel_server.relay.options import Options
from pixel_server.relay.relay import Relay
from pixel_server.relay.server import Server
from pixel_server.secret import Secrets
from pixel_server.smtp_url import parse
from tests.stack import until

SECRETS = Secrets.derive(("a-signing-key-for-tests",), "a-recipient-secret-for-tests")
BASE_URL = "https://img.example.org"
EXTENSIONS = ("SIZE 1000000", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES")


def minter_of(campaign: str) -> Minter:
    return Minter(BASE_URL, SECRETS)


class ScriptedServer:
    """A mail server that answers by a script.

    commands: each line that it has received. mails: (recipients, bytes) of each mail that it has accepted.
    replies: replies by the beginning of a command, or `"."` for the end of a mail, in place of the usual
    reply; b"" closes the connection. on_step: is called with each command before the reply. replies_to:
    returns the reply to a command, or None for the usual reply; it is asked once for each command.
    """

    def __init__(self, extensions: tuple[str, ...] = EXTENSIONS) -> None:
        self.commands: list[str] = []
        self.mails: list[tuple[list[str], bytes]] = []
        self.replies: dict[str, bytes] = {}
        self.on_step: Callable[[str], None] = lambda step: None
        self.replies_to: Callable[[str], bytes | None] = lambda step: None
        self.extensions = extensions
        self.port = 0

    @contextlib.contextmanager
    def running(self) -> Iterator[ScriptedServer]:
        script = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    _talk(script, self.rfile, self.wfile)

        class Listener(socketserver.ThreadingTCPServer):
            allow_reuse_address = daemon_threads = True
            block_on_close = False

        with Listener(("127.0.0.1", self.port), Handler) as listener:
            self.port = listener.server_address[1]
            threading.Thread(target=listener.serve_forever, args=(0.02,), daemon=True).start()
            yield self
            listener.shutdown()

    def reply_to(self, step: str) -> bytes:
        self.on_step(step)
        if (reply := self.replies_to(step)) is not None:
            return reply
        chosen = [text for start, text in self.replies.items() if step.upper().startswith(start.upper())]
        if chosen:
            return chosen[-1]
        if step.upper().startswith("EHLO"):
            lines = ["scripted.example", *self.extensions]
            return b"".join(
                b"250%b%b\r\n" % (b" " if line is lines[-1] else b"-", line.encode()) for line in lines
            )
        return {"DATA": b"354 go on\r\n", "QUIT": b"221 bye\r\n"}.get(step.upper(), b"250 2.0.0 ok\r\n")


def _talk(script: ScriptedServer, rfile: Any, wfile: Any) -> None:
    recipients: list[str] = []

    def answer(step: str, raw: bytes = b"") -> bytes:
        text = script.reply_to(step)
        if step == "." and text[:1] in (b"2", b""):  # an answer that is lost is no refusal
            script.mails.append((recipients, raw))
        if not text:
            raise ConnectionError
        wfile.write(text)
        return text

    wfile.write(script.replies.get("greeting", b"220 scripted.example\r\n"))
    while line := rfile.readline():
        command = line.decode("utf-8", "surrogateescape").rstrip("\r\n")
        script.commands.append(command)
        text = answer(command)
        verb = command[:4].upper()
        if verb in ("MAIL", "RSET", "EHLO"):
            recipients = []
        elif verb == "RCPT" and text.startswith(b"25"):
            recipients.append(command)
        elif verb == "DATA" and text.startswith(b"354"):
            answer(".", _read_mail(rfile))
        elif verb == "QUIT":
            return


def _read_mail(rfile: Any) -> bytes:
    lines = []
    while (line := rfile.readline()) != b".\r\n":
        if not line:
            raise ConnectionError
        lines.append(line[1:] if line.startswith(b".") else line)
    return b"".join(lines)


@contextlib.contextmanager
def running_relay(to: int | str, *, campaign: str | None = "spring", **options: Any) -> Iterator[int]:
    """Yields the port of a relay. to: the port of the next server, or its address. options: of `Options`."""
    address = to if isinstance(to, str) else f"smtp://127.0.0.1:{to}"
    started = threading.Event()
    listening = socket.create_server(("127.0.0.1", 0))
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        relay = Relay(
            Options(to=parse(address), campaign=campaign, **options),
            Rules(campaign, minter_of),
            "relay.example",
        )
        started.set()
        await Server(relay).serve(listening, stop)

    stop = asyncio.Event()
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(asyncio.run, serve())
        until(lambda: started.is_set() or ended.done())
        try:
            yield listening.getsockname()[1]
        finally:
            loops[0].call_soon_threadsafe(stop.set)
            ended.result(30)


class Talk:
    """A client that speaks SMTP line by line."""

    def __init__(self, port: int, *, greets: bool = True) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.file = self.socket.makefile("rb")
        self.banner = self.reply()
        if greets:
            self.say("EHLO client.example")

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.socket.close()

    def reply(self) -> str:
        """Returns the next reply, with its lines joined by LF, and "" at the end of the connection."""
        lines = []
        while line := self.file.readline():
            lines.append(line.decode("utf-8", "surrogateescape").rstrip("\r\n"))
            if line[3:4] != b"-":
                break
        return "\n".join(lines)

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def say(self, line: str) -> str:
        self.send(f"{line}\r\n".encode("utf-8", "surrogateescape"))
        return self.reply()

    def begin(self, *recipients: str, sender: str = "list@example.org") -> list[str]:
        """Begins a mail. Returns the replies to MAIL and RCPT."""
        return [self.say(f"MAIL FROM:<{sender}>"), *(self.say(f"RCPT TO:<{to}>") for to in recipients)]

    def mail(self, raw: bytes, *recipients: str) -> str:
        """Sends a mail to recipients who are all accepted. Returns the last reply. raw: ends with CRLF."""
        replies = self.begin(*recipients)
        assert all(reply.startswith("25") for reply in replies), replies
        assert self.say("DATA").startswith("354")
        self.send(stuffed(raw) + b".\r\n")
        return self.reply()


def stuffed(raw: bytes) -> bytes:
    """Returns a mail as it is sent: with a dot before each line that begins with a dot."""
    return re.sub(rb"^\.", b"..", raw, flags=re.M)
