"""The command line `pixel-server`. It loads the module of a command only when the command is called."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

import click

from pixel_server import __version__, logs
from pixel_server.commands.lazy_group import LazyGroup

_HERE, _COMMANDS = "pixel_server.cli", "pixel_server.commands"
COMMANDS = {
    "audience": (
        f"{_COMMANDS}.audience:audience",
        "Write to a file who opened some, all or none of several campaigns.",
    ),
    "audit": (f"{_COMMANDS}.audit:audit", "Show who did what with personal data."),
    "campaign": (f"{_COMMANDS}.campaign:campaign", "Create, change, list, show and delete campaigns."),
    "backup": (
        f"{_COMMANDS}.backup:backup",
        "Write store, spool and secrets to one file, or check such a file.",
    ),
    "check": (f"{_COMMANDS}.check:check", "Check the pixel of a mail before it is sent."),
    "copy": (f"{_HERE}.copy:copy", "Copy the store to another Redis, also to another number of shards."),
    "dead-letters": (f"{_COMMANDS}.dead_letters:dead_letters", "List and drop hits that cannot be read."),
    "deliveries": (
        f"{_COMMANDS}.deliveries:deliveries",
        "Let mail services report mails: delivered, bounced, complained, unsubscribed.",
    ),
    "demo": (f"{_COMMANDS}.demo:demo", "Add and remove two made-up campaigns."),
    "doctor": (f"{_COMMANDS}.doctor:doctor", "Report what needs the operator's attention."),
    "embed": (f"{_COMMANDS}.embed:embed", "Put the pixel into a mail."),
    "explain": (f"{_COMMANDS}.explain:explain", "Show how a hit would be classified, and by which rule."),
    "health": (
        f"{_COMMANDS}.health:health",
        "Check `up`, `serve`, `work` or `relay` from inside its container.",
    ),
    "hosts": (
        f"{_COMMANDS}.hosts:hosts",
        "List the hosts that share this store, and forget a host whose spool is lost.",
    ),
    "key": (f"{_COMMANDS}.key:key", "Create, list and revoke API keys."),
    "link": (f"{_COMMANDS}.link:link", "Make pixel links for recipients."),
    "losses": (f"{_COMMANDS}.losses:losses", "List hits that were recorded and then lost."),
    "networks": (
        f"{_COMMANDS}.networks:networks",
        "List and refresh the lists of networks that help to tell machines from people.",
    ),
    "note": (f"{_COMMANDS}.note:note", "Add, list, change and remove notes on dates."),
    "privacy": (f"{_COMMANDS}.privacy:privacy", "Report the data that is stored on people."),
    "recipients": (
        f"{_COMMANDS}.recipients:recipients",
        "Write to a file what the recipients of a campaign did.",
    ),
    "relay": (
        f"{_COMMANDS}.relay:relay",
        "Pass mails on to a mail server, with the pixel in each HTML mail to one recipient.",
    ),
    "relay-user": (
        f"{_COMMANDS}.relay:relay_user",
        "Add a user of the relay, or give a user a new password.",
    ),
    "restore": (f"{_COMMANDS}.backup:restore", "Make a data directory from the file of a backup."),
    "retention": (f"{_HERE}.retention:retention", "Remove data that has been kept long enough."),
    "serve": (f"{_COMMANDS}.serve:serve", "Run the web process."),
    "settings": (f"{_COMMANDS}.settings:settings", "List every setting and its value."),
    "share": (f"{_COMMANDS}.share:share", "Create, list and revoke share links."),
    "sign-in": (f"{_COMMANDS}.sign_in:sign_in", "Print a link that signs in to the dashboard."),
    "spool": (f"{_COMMANDS}.spool:spool", "Show and drain hits that wait on disk for Redis."),
    "store": (f"{_COMMANDS}.store:store", "Adopt a Redis that was emptied or replaced."),
    "up": (f"{_COMMANDS}.up:up", "Start Redis, the web process and the workers."),
    "verify": (f"{_COMMANDS}.verify:verify", "Check that all counts in the store agree."),
    "webhook": (
        f"{_COMMANDS}.webhook:webhook",
        "Send events to an address of yours, such as a recipient's first open.",
    ),
    "work": (f"{_HERE}.work:work", "Run the workers, which count hits, and their schedule."),
}
"""Place of each command, as `module:name`, and the first sentence of its help."""
ALIASES = {"healthcheck": "health"}
"""Earlier names of commands, which still work and are not listed."""


@click.group(cls=LazyGroup, commands_by_name=COMMANDS, aliases=ALIASES)
@click.version_option(__version__, prog_name="pixel-server")
def main() -> None:
    """Self-hosted tracking pixel and email-open beacon server."""
    from pixel_server.settings import read_secret_files  # noqa: PLC0415 - loads what --help does not need

    logs.configure()
    if os.getpid() == 1:  # as in a container: the kernel ignores signals that process 1 does not handle
        signal.signal(signal.SIGTERM, _exit)
    read_secret_files(os.environ)


def _exit(number: int, frame: FrameType | None) -> None:
    """Ends a process that gets SIGTERM before its own handler is set."""
    sys.exit(0)
