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
from pixel_server.metrics.process_file import read_host
from pixel_server.relay.next_server import Away, NextServer
from pixel_server.settings import Settings
from pixel_server.smtp_url import SmtpUrl
from pixel_server.smtp_url import parse as parse_smtp_url

SECONDS = 5.0
"""Seconds to wait for each step of the next server."""


def relay(settings: Settings, today: date) -> Iterator[Finding]:
    """Checks that the relay answers, and the mail server behind it. Checks nothing without PIXEL_RELAY_TO."""
    if settings.relay_to is not None:
        yield _check_own(settings)
        yield _check_next(parse_smtp_url(settings.relay_to))


def _check_own(settings: Settings) -> Finding:
    address = settings.relay_listen
    host, port = parse_host_port(address)
    try:
        require_greeting(reachable(host), port)
    except Failure as failure:
        if _runs_elsewhere(settings):
            text = (
                f"one runs, but not at {address} of this machine: run `pixel-server health` in its container"
            )
            return Finding("relay", "listen", "advice", text)
        text = f"{failure.message}: start `pixel-server relay` or `up --relay`; its log says why it has ended"
        return Finding("relay", "listen", "problem", text)
    return Finding("relay", "listen", "ok", f"{address} answers")


def _runs_elsewhere(settings: Settings) -> bool:
    """Returns whether a relay of this data directory runs, such as in a container that shares it."""
    try:
        running = read_host(settings.data).gauges.get("pixel_processes", {})
    except OSError:
        return False
    return bool(running.get("relay"))


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
