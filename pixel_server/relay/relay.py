"""State that all clients of the relay share: the next server, its threads, and the memory for mails."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pixel_server.logs import Log
from pixel_server.relay.incoming_message import Budget
from pixel_server.relay.message import Rules, prepare
from pixel_server.relay.next_server import Away, Connection, NextServer
from pixel_server.relay.numbers import RelayNumbers
from pixel_server.relay.options import Options
from pixel_server.relay.reply import NO_PIXEL, Reply
from pixel_server.settings import SettingsError

log = Log(__name__)
T = TypeVar("T")

RETRY_SECONDS = 2.0
"""Seconds between two attempts to learn what the next server can do, while it cannot be reached."""


class Relay:
    """State that all clients share. own_name: name of this host in greetings. next_server: where mails go."""

    def __init__(self, options: Options, rules: Rules, own_name: str) -> None:
        """Raises SettingsError if the file of trusted certificates cannot be used."""
        self.options, self.own_name, self._rules = options, own_name, rules
        try:
            self.next_server = NextServer(options.to, own_name)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(f"PIXEL_RELAY_TO: cannot use its ssl_ca_certs: {error.strerror}") from None
        self.budget = Budget(options.memory_bytes)
        self.numbers = RelayNumbers()
        self._threads = ThreadPoolExecutor(options.max_clients + 1, "relay")
        self._learning = asyncio.Lock()
        self._next_try = 0.0
        self._last_failure: Away | None = None

    @property
    def needs_login(self) -> bool:
        return self.options.users is not None

    @property
    def max_bytes(self) -> int:
        """Returns the largest size of a mail that both this relay and the next server take."""
        size = (self.next_server.extensions or {}).get("size", "")
        next_bytes = int(size) if size.isascii() and size.isdigit() else 0
        return min(self.options.max_bytes, next_bytes or self.options.max_bytes)

    async def extensions(self) -> Mapping[str, str]:
        """Returns what the next server can do, as far as it is known. Raises Away if it is not known."""
        async with self._learning:
            if self.next_server.extensions is None:
                loop = asyncio.get_running_loop()
                if self._last_failure is not None and loop.time() < self._next_try:
                    raise self._last_failure
                self._next_try = loop.time() + RETRY_SECONDS
                try:
                    await self.in_thread(self.next_server.learn)
                except Away as away:
                    self._last_failure = away
                    self.report_away(away)
                    raise
        assert self.next_server.extensions is not None
        return self.next_server.extensions

    def report_away(self, away: Away) -> None:
        self.numbers.note_failure()
        log.warning(
            "relay-next-away",
            "mails cannot be passed on to %(server)s: %(error)s; clients are asked to try again",
            server=self.options.to.shown,
            error=away,
        )

    async def in_thread(self, call: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)

    def hand_over(self, connection: Connection, raw: bytes, recipients: list[str]) -> Reply:
        """Adds the pixel to a mail, and sends the mail within a transaction that has begun.

        Blocks. Raises Away.
        """
        prepared = prepare(raw, recipients, self._rules)
        if prepared.why_without:
            log.info("relay-no-pixel", "a mail gets no pixel: %(reason)s", reason=prepared.why_without)
            if self.options.requires_pixel:
                connection.reset()
                return NO_PIXEL
        answer = connection.send_message(prepared.raw)
        if answer.is_success:
            self.numbers.note_mail(prepared.reason, len(prepared.raw))
        return answer

    def close(self) -> None:
        """Ends the threads without waiting for them."""
        self._threads.shutdown(wait=False, cancel_futures=True)
