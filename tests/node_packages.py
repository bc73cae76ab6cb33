"""Programs of other people that run on Node: they send through this server, or receive from it."""

from __future__ import annotations

import fcntl
import json
import subprocess
import threading
from pathlib import Path
from typing import Any

from tests.stack import until

FOLDER = Path(__file__).parent / "node"
INSTALLED = FOLDER / "node_modules" / ".package-lock.json"


def node(script: Path | str, *arguments: str) -> list[str]:
    """Returns the command that runs a script of `tests/node`, with the packages of its lock file.

    Raises CalledProcessError if they cannot be installed.
    """
    install()
    return ["node", str(FOLDER / script), *arguments]


def install() -> None:
    """Installs the packages of the lock file, unless they are there. Others wait meanwhile."""
    with (FOLDER / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_installed():
            command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
            subprocess.run(command, cwd=FOLDER, check=True)


def is_installed() -> bool:
    lock = FOLDER / "package-lock.json"
    return INSTALLED.exists() and INSTALLED.stat().st_mtime >= lock.stat().st_mtime


class NodeReceiver:
    """A receiver that verifies with npm's `standardwebhooks`. lines: what it has written so far."""

    def __init__(self, port: int, secret: str) -> None:
        command = node("webhook_receiver.mjs", str(port), secret)
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.lines: list[dict[str, Any]] = []
        threading.Thread(target=self._read, daemon=True).start()
        until(lambda: self.lines)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(json.loads(line))

    def events(self, event_type: str) -> list[dict[str, Any]]:
        """Returns the requests with this type of event, each as {id, payload}."""
        return [line for line in list(self.lines) if line.get("payload", {}).get("type") == event_type]

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
