"""Commands of `pixel-server` in the process of the tests. They take a tenth of the time of a process.

They cannot be used in a test that has a browser, because Playwright occupies the event loop.
"""

from __future__ import annotations

import os
import subprocess

from click.testing import CliRunner

from pixel_server.cli import main
from tests.stack import Stack


def run_command(*arguments: str | bytes, **environ: str) -> subprocess.CompletedProcess[str]:
    """Runs a command with an empty stdin. Raises what the command does not turn into a message."""
    words = [os.fsdecode(argument) for argument in arguments]
    done = CliRunner().invoke(main, words, env=environ, prog_name="pixel-server")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)


class StackInProcess(Stack):
    """A stack, whose processes are its own, and whose commands run in the process of the tests."""

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = run_command(*arguments, **self.environ)
        if check:
            done.check_returncode()
        return done
