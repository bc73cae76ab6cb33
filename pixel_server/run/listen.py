"""The listening socket of the web process, and the limit of its open files."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
import time

from pixel_server.collect.http_protocol import BoundedProtocol
from pixel_server.logs import Log
from pixel_server.settings import SettingsError

log = Log(__name__)

BACKLOG = 2048
"""Connections that may wait to be accepted."""
MAX_FILES, MIN_FILES = 65_536, 1_024
"""Limits of open files, most of them connections: this process asks for MAX_FILES, and warns if it gets fewer
than MIN_FILES."""
RESERVED_FILES = 64
"""Open files that are kept for the spool, Redis, logs and pages; clients cannot take them. A process without
clients has about 35 open."""
_RETRY_SECONDS = 0.1


def bind(host: str, port: int, timeout_seconds: float = 0.0) -> socket.socket:
    """Returns a listening socket. Waits up to `timeout_seconds` for a port that is in use.

    Raises SettingsError if this process cannot listen on the address.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            dual_stack = host == "::" and socket.has_dualstack_ipv6()
            return socket.create_server(
                (host, port), family=family, backlog=BACKLOG, dualstack_ipv6=dual_stack
            )
        except OSError as error:
            if error.errno == errno.EADDRINUSE and time.monotonic() < deadline:
                time.sleep(_RETRY_SECONDS)
                continue
            number = error.errno or 0  # negative for a host name that cannot be resolved
            why = os.strerror(number) if number > 0 else error.strerror or error
            advice = "; choose another port" if error.errno == errno.EADDRINUSE else ""
            raise SettingsError(f"cannot listen on {host} port {port}: {why}{advice}") from None
        except (OverflowError, UnicodeError):
            raise SettingsError(f"cannot listen on {host} port {port}: no such address") from None


def raise_file_limit() -> None:
    """Raises this process's limit of open files to MAX_FILES, or as near as the system allows.

    Clients may use all but RESERVED_FILES of these files, and at least a quarter of them. Further connections
    are closed unanswered.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < target:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
            soft = target
    if soft == resource.RLIM_INFINITY:
        return
    if soft < MIN_FILES:
        log.warning(
            "few-files",
            "only %(files)d files may be open, so further connections are refused: raise `ulimit -n`",
            files=soft,
        )
    BoundedProtocol.max_clients = max(soft - RESERVED_FILES, soft // 4)
