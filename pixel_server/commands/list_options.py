"""Options of commands that read a list of recipients, and the reading of the list with a progress bar."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from pixel_server.commands.failures import Failure
from pixel_server.mail.links import check_recipient
from pixel_server.mail.list_rows import ListError
from pixel_server.mail.recipient_doubts import doubt
from pixel_server.mail.recipient_files import Filled, RecipientFile

Command = TypeVar("Command", bound=Callable[..., Any])

STDIN = Path("-")

column_option = click.option(
    "--column", default="recipient", show_default=True, help="Column that holds the recipient."
)
"""The option --column."""


def list_options(command: Command) -> Command:
    """Adds the options --recipients and --column to a command."""
    existing_file = click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True)
    recipients = click.option(
        "--recipients", type=existing_file, help="List: CSV whose first line names the columns, or NDJSON."
    )
    return recipients(column_option(command))


class ListWarnings:
    """Collects warnings about the lines of a list, to show them when the list is done."""

    MAX_SHOWN = 20

    def __init__(self, source: str) -> None:
        self._source = source
        self._first: list[str] = []
        self._count = 0

    def add(self, line: int, message: str) -> None:
        self._count += 1
        if len(self._first) < self.MAX_SHOWN:
            self._first.append(f"pixel-server: {self._source}: line {line}: {message}")

    def show(self) -> None:
        """Writes the first warnings, and the number of the others, to standard error."""
        for text in self._first:
            click.echo(text, err=True)
        if self._count > len(self._first):
            click.echo(f"pixel-server: and {self._count - len(self._first):,} more such lines", err=True)


@contextlib.contextmanager
def open_list(
    source: Path, column: str, added_columns: Sequence[str], *, with_consents: bool = False
) -> Iterator[tuple[RecipientFile, Callable[[int], None]]]:
    """Yields an opened list, and a function that moves a progress bar to a number of bytes that were read.

    added_columns: names of the columns that the caller will add. with_consents: whether to read the column
    `consent_ref`. Raises Failure if the list is bad, or if
    any file cannot be read or written while the list is open.
    """
    warnings = ListWarnings("standard input" if source == STDIN else str(source))
    try:
        with contextlib.nullcontext(sys.stdin.buffer) if source == STDIN else source.open("rb") as file:
            recipients = RecipientFile(file, column, added_columns, warnings.add, with_consents=with_consents)
            size = 0 if source == STDIN else os.fstat(file.fileno()).st_size
            with click.progressbar(
                length=size, file=sys.stderr, hidden=not size or not sys.stderr.isatty(), label=source.name
            ) as bar:
                yield recipients, lambda bytes_read: bar.update(bytes_read - bar.pos)
                bar.update(size - bar.pos)
        warnings.show()
    except ListError as error:
        raise Failure(f"{'standard input' if source == STDIN else source}: {error}") from None
    except OSError as error:
        raise Failure(f"{error.filename or source}: {error.strerror}") from None


def refuse_or_warn(recipient: str) -> None:
    """Warns of a recipient that is perhaps misspelled. Raises Failure if the text cannot be a recipient."""
    try:
        check_recipient(recipient)
    except ValueError as error:
        raise Failure(f"recipient {error}") from None
    if text := doubt(recipient):
        click.echo(f"pixel-server: {text}", err=True)


def refuse_bad_rows(filled: Filled, bad: Path) -> None:
    """Raises Failure if bad rows were left out. The good rows are written already."""
    if filled.bad:
        raise Failure(f"{filled.rows} rows done, {filled.bad} left out: see {bad}")
