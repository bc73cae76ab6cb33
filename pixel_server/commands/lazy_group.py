"""A group of commands whose modules load when they are called, so that `pixel-server --help` is fast."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click


class LazyGroup(click.Group):
    """The group of all commands."""

    def __init__(
        self,
        *args: Any,
        commands_by_name: Mapping[str, tuple[str, str]],
        aliases: Mapping[str, str],
        **options: Any,
    ) -> None:
        """commands_by_name: place of each command, as `module:name`, and first sentence of its help.

        aliases: names of commands by earlier names.
        """
        super().__init__(*args, **options)
        self.commands_by_name = commands_by_name
        self.aliases = aliases

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self.commands_by_name)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        present_name = self.aliases.get(cmd_name, cmd_name)
        if present_name not in self.commands_by_name:
            return None
        module, _, name = self.commands_by_name[present_name][0].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the list of commands from the table, without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.commands_by_name[name][1]) for name in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> Any:
        from pixel_server.commands import failures  # noqa: PLC0415 - loads what --help does not need

        with failures.errors_in_one_line():
            return super().invoke(ctx)

    def main(self, *args: Any, **options: Any) -> Any:
        try:
            return super().main(*args, **options)
        except OSError as error:  # click itself handles a reader that closes the pipe
            if error.filename is None:
                _drop_output()
            click.echo(
                f"pixel-server: {error.filename or 'cannot write'}: {error.strerror or error}", err=True
            )
            sys.exit(1)


def _drop_output() -> None:
    """Points standard output at /dev/null, so that Python does not fail again when it exits."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
