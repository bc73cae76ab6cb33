"""Thunderbird sends through the relay."""

from __future__ import annotations

from pathlib import Path

from pixel_server.mail.placement import pixels
from tests.relay.servers import SECRETS, ScriptedServer, running_relay
from tests.relay.thunderbird import send


def test_relay_mail_of_thunderbird_has_a_pixel(tmp_path: Path):
    with ScriptedServer().running() as behind, running_relay(behind.port) as port:
        send(tmp_path, port, "ada@example.org", "<p>Grüße</p>")
    [(_, raw)] = behind.mails
    assert b"User-Agent: Mozilla Thunderbird" in raw
    [pixel] = pixels(raw)
    assert pixel.token.recipient == SECRETS.recipient_key("ada@example.org")
    assert "MAIL FROM:<shop@example.org> BODY=8BITMIME SIZE=" in " ".join(behind.commands)
