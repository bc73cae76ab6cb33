"""A real SMTP server that keeps what it is sent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiosmtpd.controller import Controller

from tests.stack import free_port


class Mailbox:
    """mails: each as it was sent, with CRLF; newest last."""

    def __init__(self) -> None:
        self.mails: list[bytes] = []
        self.port = free_port()

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        self.mails.append(envelope.original_content)
        return "250 OK"

    @classmethod
    @contextmanager
    def open(cls) -> Iterator[Mailbox]:
        made = cls()
        controller = Controller(made, hostname="127.0.0.1", port=made.port)
        controller.start()
        try:
            yield made
        finally:
            controller.stop()
