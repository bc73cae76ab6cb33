"""The server of the relay: how it begins, takes connections and ends."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import ssl

from pixel_server import lifeline
from pixel_server.logs import Log
from pixel_server.metrics.numbers import Numbers
from pixel_server.relay.incoming import Incoming
from pixel_server.relay.next_server import Away
from pixel_server.relay.options import Options
from pixel_server.relay.relay import Relay
from pixel_server.relay.reply import reply
from pixel_server.settings import SettingsError

log = Log(__name__)

STOP_SECONDS = 10.0
"""Seconds that mails under way may take to end after the relay begins to stop."""
FULL = reply("421 4.7.0 too many connections: try again later")


class Server:
    """Takes the connections of clients."""

    def __init__(self, relay: Relay) -> None:
        """Raises SettingsError if the certificate cannot be used."""
        self._relay = relay
        self._clients: set[Incoming] = set()
        self._tls = _tls_context(relay.options)
        self._tls_changed = _changed_at(relay.options)

    async def run(self, listening: socket.socket) -> None:
        """Takes mails from a listening socket until SIGTERM or Ctrl-C. Sends heartbeats meanwhile."""
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await lifeline.with_heartbeat(self.serve(listening, stop))

    async def serve(self, listening: socket.socket, stop: asyncio.Event) -> None:
        """Takes mails from a listening socket until `stop` is set. Then ends the mails under way."""
        learning = asyncio.create_task(self._learn())
        server = await asyncio.get_running_loop().create_server(self._accept, sock=listening)
        await stop.wait()
        learning.cancel()
        server.close()
        await self._finish()

    def gather(self) -> Numbers:
        """Returns the numbers of this process, for `/metrics`. Any thread may call it."""
        return self._relay.numbers.gather(len(self._clients))

    async def _learn(self) -> None:
        """Asks the next server what it can do. If it cannot be reached, the log says so at once."""
        with contextlib.suppress(Away):
            await self._relay.extensions()

    async def _finish(self) -> None:
        """Ends all connections: those with a mail under way when it is answered, or after STOP_SECONDS."""
        for client in list(self._clients):
            client.finish()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                for client in list(self._clients):
                    await client.has_ended.wait()
        for client in list(self._clients):
            client.abort()
        self._relay.close()

    def _accept(self) -> asyncio.Protocol:
        """Returns what handles a new connection."""
        if len(self._clients) >= self._relay.options.max_clients:
            self._relay.numbers.note_connection("refused")
            log.warning(
                "relay-full",
                "a client is refused: %(clients)d are connected, as many as PIXEL_RELAY_CONNECTIONS allows",
                clients=len(self._clients),
            )
            return _Full()
        self._relay.numbers.note_connection("taken")
        self._renew_certificate()
        return Incoming(self._relay, self._tls, self._clients)

    def _renew_certificate(self) -> None:
        """Loads the certificate again if its file has changed."""
        changed = _changed_at(self._relay.options)
        if self._tls is None or changed == self._tls_changed:
            return
        self._tls_changed = changed
        try:
            _load_certificate(self._tls, self._relay.options)
        except SettingsError as error:
            log.error("relay-certificate-unusable", "%(error)s; the old one stays in use", error=error)


class _Full(asyncio.Protocol):
    """Refuses a connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(FULL.encode() + b"\r\n")
        transport.close()


def _tls_context(options: Options) -> ssl.SSLContext | None:
    """Returns the context of the relay's own TLS, or None without a certificate. Raises SettingsError."""
    if options.certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _load_certificate(context, options)
    return context


def _load_certificate(context: ssl.SSLContext, options: Options) -> None:
    assert options.certificate is not None
    try:
        context.load_cert_chain(options.certificate, options.key)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"cannot use the certificate {options.certificate} with the key {options.key}: {error.strerror}"
        ) from None


def _changed_at(options: Options) -> tuple[float, ...]:
    """Returns when the files of the certificate and the key were changed, in seconds since 1970."""
    times = []
    for path in (options.certificate, options.key):
        with contextlib.suppress(OSError):
            times.append(path.stat().st_mtime if path else 0.0)
    return tuple(times)
