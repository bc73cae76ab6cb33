"""An SMTP server that keeps the mails it receives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiosmtpd.controller import Controller

from tests.stack import free_port


class Mailbox:
    """A mailbox. mails: each as it was sent, with CRLF; the newest last."""

    def __init__(self) -> None:
        self.mails: list[bytes] = []
        self.port = free_port()

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        self.mails.append(envelope.original_content)
        return "250 OK"

    @classmethod
    @contextmanager
    def open(cls) -> Iterator[Mailbox]:
        mailbox = cls()
        controller = Controller(mailbox, hostname="127.0.0.1", port=mailbox.port)
        controller.start()
        try:
            yield mailbox
        finally:
            controller.stop()
