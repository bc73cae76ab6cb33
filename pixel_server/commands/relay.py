"""`pixel-server relay` and `pixel-server relay-user`"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
import time

import click

from pixel_server import __version__, lifeline, logs
from pixel_server.addresses import is_local, parse_host_port
from pixel_server.commands.failures import Failure
from pixel_server.commands.metrics_option import metrics_option
from pixel_server.commands.minting import find_minter, link_parts
from pixel_server.commands.startup import warn_of_unknown_settings
from pixel_server.mail.links import Minter
from pixel_server.metrics.process_file import Publisher
from pixel_server.relay.message import NoMinter, Rules
from pixel_server.relay.options import Options, options_of
from pixel_server.relay.users import add_user, remove_user
from pixel_server.run import uvicorn_parts
from pixel_server.run.supervisor import Child, keep_running
from pixel_server.settings import Settings
from pixel_server.store_url import has_password

log = logs.Log(__name__)

FRESH_SECONDS = 10.0
"""Seconds for which the mode of a campaign is used before it is read again."""
MAX_CAMPAIGNS = 1000
"""Number of campaigns whose modes are kept. Beyond it, all are read again."""


class Minters:
    """The minters of campaigns. Threads may use them at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # By campaign: until when to use it, and the minter, or why no link can be made.
        self._minters: dict[str, tuple[float, Minter | str]] = {}

    def get(self, campaign: str) -> Minter:
        """Returns the minter of a campaign. Raises NoMinter."""
        with self._lock:
            until, minter = self._minters.get(campaign, (0.0, ""))
            if time.monotonic() >= until:
                if len(self._minters) >= MAX_CAMPAIGNS:
                    self._minters.clear()
                minter = self._read(campaign)
                self._minters[campaign] = time.monotonic() + FRESH_SECONDS, minter
        if isinstance(minter, str):
            raise NoMinter(minter)
        return minter

    def _read(self, campaign: str) -> Minter | str:
        try:
            minter, warning = find_minter(campaign)
        except (Failure, ValueError) as error:
            return error.message if isinstance(error, Failure) else str(error)
        if warning:
            log.warning("relay-campaign-doubtful", "%(warning)s", warning=warning)
        return minter.minter


@click.command()
@click.option("--listen", metavar="HOST:PORT", help="Address to listen on.  [default: 127.0.0.1:2525]")
@click.option("--to", metavar="URL", help="Mail server to pass mails on to: smtp://user:password@host:port.")
@click.option("--campaign", metavar="CAMPAIGN", help="Campaign of a mail that names none.")
@click.option("--each", is_flag=True, help="Offer LMTP, in which each recipient gets a pixel of their own.")
@click.option("--require-pixel", is_flag=True, help="Refuse a mail that gets no pixel.")
@metrics_option
@click.option("--handle", type=int, hidden=True, help="File descriptor of a socket that listens already.")
def relay(
    listen: str | None,
    to: str | None,
    campaign: str | None,
    each: bool,
    require_pixel: bool,
    metrics: tuple[str, int] | None,
    handle: int | None,
) -> None:
    """Pass mails on to a mail server, with the pixel in each HTML mail to one recipient.

    A mail is accepted only once that server has accepted it. The settings PIXEL_RELAY_... hold where no
    option is given. See docs/relay.md.
    """
    logs.set_process("relay")
    if to and has_password(to):
        _hide_password(to)
    lifeline.hold()
    given = {
        "PIXEL_RELAY_LISTEN": listen,
        "PIXEL_RELAY_TO": to,
        "PIXEL_RELAY_CAMPAIGN": campaign,
        "PIXEL_RELAY_EACH": "1" if each else None,
        "PIXEL_RELAY_REQUIRE_PIXEL": "1" if require_pixel else None,
    }
    os.environ |= {name: value for name, value in given.items() if value is not None}
    settings = Settings.from_env()
    if handle is None:
        warn_of_unknown_settings()
    _serve(settings, handle, metrics)


def _serve(settings: Settings, handle: int | None, metrics: tuple[str, int] | None) -> None:
    """Runs the relay until SIGTERM or SIGINT. handle: file descriptor of the socket, or None to listen.

    metrics: address at which a second process answers `/metrics`, or None.
    """
    uvicorn_parts.check()
    from pixel_server.run import listen, metrics_process  # noqa: PLC0415 - only after the check

    host, port = parse_host_port(settings.relay_listen)
    options = options_of(settings, host)
    base_url, *_ = link_parts()  # fails now, and not at the first mail, if no link can be made
    listening = listen.bind(host, port) if handle is None else socket.socket(fileno=handle)
    if metrics is None:
        if is_local(base_url):
            log.warning(
                "relay-links-local",
                "pixels begin with %(url)s, which only this machine can reach: set PIXEL_BASE_URL",
                url=base_url,
            )
        asyncio.run(_relay_mails(settings, options, listening))
        return
    relay_handle = listening.fileno()
    relaying = Child("relay", ["relay", "--handle", str(relay_handle)], os.environ, [relay_handle])
    keep_running([relaying, metrics_process.metrics_child(*metrics)], settings.hang_seconds)


async def _relay_mails(settings: Settings, options: Options, listening: socket.socket) -> None:
    """Runs the relay in this process, and publishes its numbers."""
    from pixel_server.relay.relay import Relay  # noqa: PLC0415 - aiosmtpd is loaded by this process only
    from pixel_server.relay.server import Server  # noqa: PLC0415

    server = Server(Relay(options, Rules(options.campaign, Minters().get), _own_name()))
    publisher = Publisher(settings.data, server.gather)
    publisher.start_thread()
    log.info(
        "relay-started",
        "pixel-server %(version)s: relay at %(address)s, passes mails on to %(server)s",
        version=__version__,
        address=settings.relay_listen,
        server=options.to.shown,
    )
    try:
        await server.run(listening)
    finally:
        publisher.close()


def _own_name() -> str:
    """Returns the name of this host for greetings: its full name, or else the name that it has."""
    full_name = socket.getfqdn()
    return full_name if "." in full_name else socket.gethostname()


def _hide_password(to: str) -> None:
    """Starts this program anew with the address in its environment, so that no list of processes shows it."""
    words = sys.argv[1:]
    kept: list[str] = []
    while words:
        word = words.pop(0)
        if word == "--to":
            words.pop(0)
        elif not word.startswith("--to="):
            kept.append(word)
    environ = {**os.environ, "PIXEL_RELAY_TO": to}
    os.execve(sys.executable, [sys.executable, "-m", "pixel_server", *kept], environ)  # noqa: S606


@click.command("relay-user")
@click.argument("name")
@click.option("--remove", is_flag=True, help="Remove the user.")
def relay_user(name: str, remove: bool) -> None:
    """Add a user of the relay, or give a user a new password.

    Writes the file PIXEL_RELAY_USERS, and prints the password, which is stored nowhere.
    """
    path = Settings.from_env().relay_users
    if path is None:
        raise Failure("set PIXEL_RELAY_USERS to the file of users")
    if remove:
        remove_user(path, name)
        click.echo(f"removed {name}")
    else:
        click.echo(add_user(path, name))
