"""The check of `doctor` of the SMTP relay and of the mail server behind it."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from datetime import date

from pixel_server.addresses import parse_host_port
from pixel_server.commands.failures import Failure
from pixel_server.commands.findings import Finding
from pixel_server.commands.health import reachable, require_greeting
from pixel_server.metrics import process_file
from pixel_server.relay.next_server import Away, NextServer
from pixel_server.settings import Settings
from pixel_server.smtp_url import SmtpUrl
from pixel_server.smtp_url import parse as parse_smtp_url

SECONDS = 5.0
"""Seconds to wait for each step of the next server."""


def relay(settings: Settings, today: date) -> Iterator[Finding]:
    """Checks that the relay answers, and the mail server behind it.

    Checks nothing if PIXEL_RELAY_TO is not set, and no relay of this data directory runs.
    """
    is_running = process_file.is_running(settings.data, "relay")  # perhaps in a container that shares it
    if settings.relay_to is None and not is_running:
        return
    yield _check_own(settings, is_running)
    if settings.relay_to is None:
        text = (
            "not checked: set PIXEL_RELAY_TO here too, to the mail server to which the relay passes mails on"
        )
        yield Finding("relay", "to", "advice", text)
    else:
        yield _check_next(parse_smtp_url(settings.relay_to))


def _check_own(settings: Settings, is_running: bool) -> Finding:
    address = settings.relay_listen
    host, port = parse_host_port(address)
    try:
        require_greeting(reachable(host), port)
    except Failure as failure:
        if is_running:
            text = f"a relay runs, but not at {address} here: in its container, run `pixel-server health`"
            return Finding("relay", "listen", "advice", text)
        text = f"{failure.message}: start `pixel-server relay` or `up --relay`; its log says why it has ended"
        return Finding("relay", "listen", "problem", text)
    return Finding("relay", "listen", "ok", f"{address} answers")


def _check_next(address: SmtpUrl) -> Finding:
    try:
        NextServer(address, socket.gethostname()).check(SECONDS)
    except (OSError, ssl.SSLError) as error:
        text = f"PIXEL_RELAY_TO: cannot use its ssl_ca_certs: {error.strerror}"
    except Away as away:
        text = f"mails cannot be passed on to {address.shown}: {away}"
    else:
        return Finding("relay", "to", "ok", f"{address.shown} answers")
    return Finding("relay", "to", "problem", text)
