"""Replies of SMTP (RFC 5321, 4.2)."""

from __future__ import annotations

from typing import NamedTuple


class Reply(NamedTuple):
    """A reply. lines: its texts, without the code: `(b"2.0.0 Ok: queued as 4XYZ",)`."""

    code: int
    lines: tuple[bytes, ...]

    @property
    def is_success(self) -> bool:
        return 200 <= self.code < 300

    @property
    def is_refusal(self) -> bool:
        return 400 <= self.code < 600

    def encode(self) -> bytes:
        """Returns the reply as it is sent, without its last line end: `b"250-a\\r\\n250 b"`."""
        code, last = b"%d" % self.code, len(self.lines) - 1
        texts = [code + (b" " if i == last else b"-") + line for i, line in enumerate(self.lines)]
        return b"\r\n".join(texts)


def reply(text: str) -> Reply:
    """Returns the reply of one line: `reply("250 2.0.0 ok")`."""
    code, _, rest = text.partition(" ")
    return Reply(int(code), (rest.encode(),))


NO_PIXEL = reply("550 5.7.1 this relay takes only mails that get a pixel")
