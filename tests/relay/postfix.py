"""Postfix, as the real mail server behind the relay. It passes each mail on to another port."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack import free_port

SERVICES = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
error unix - - n - - error
smtp unix - - n - - smtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
proxymap unix - - n - - proxymap
postlog unix-dgram n - n - 1 postlogd
"""
SETTINGS = """\
compatibility_level = 3.6
queue_directory = {home}/queue
data_directory = {home}/data
maillog_file = {home}/log
maillog_file_prefixes = {home}
myhostname = postfix.example
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
relayhost = [127.0.0.1]:{to}
smtpd_recipient_restrictions = check_recipient_access inline:{{ {{gone@example.org = 550 no such user}} }}
local_recipient_maps =
alias_maps =
"""


@contextlib.contextmanager
def postfix(home: Path, to: int) -> Iterator[int]:
    """Yields the port of a Postfix that passes mails on to a port of this machine.

    home: an empty directory. Skips the test without Postfix or as another user than root; fails if CI is set.
    """
    if shutil.which("postfix", path=f"{os.defpath}:/usr/sbin") is None or os.getuid() != 0:
        missing = "no Postfix, or not root: apt-get install postfix"
        if os.environ.get("CI") and os.getuid() == 0:
            pytest.fail(missing)
        pytest.skip(missing)
    port = free_port()
    home.chmod(0o755)
    etc = home / "etc"
    etc.mkdir()
    (etc / "main.cf").write_text(SETTINGS.format(home=home, to=to))
    (etc / "master.cf").write_text(SERVICES.format(port=port))
    (home / "data").mkdir()
    shutil.chown(home / "data", "postfix")
    (home / "queue").mkdir()
    (home / "queue").chmod(0o755)  # whatever the umask is: Postfix gives up root

    def run(verb: str) -> None:
        done = subprocess.run(
            ["/usr/sbin/postfix", "-c", etc, verb], capture_output=True, text=True, check=False
        )
        log = home / "log"
        assert done.returncode == 0, done.stderr + (log.read_text() if log.exists() else "")

    run("start")
    try:
        yield port
    finally:
        run("abort")
