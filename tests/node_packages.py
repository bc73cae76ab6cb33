"""Programs of other people that run on Node: they send through this server, or receive from it."""

from __future__ import annotations

import fcntl
import subprocess
from pathlib import Path

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
