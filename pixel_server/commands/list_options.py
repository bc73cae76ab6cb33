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
from pixel_server.mail.recipient_files import Filled, ListError, RecipientFile

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


@contextlib.contextmanager
def open_list(
    source: Path, column: str, added_columns: Sequence[str]
) -> Iterator[tuple[RecipientFile, Callable[[int], None]]]:
    """Yields an opened list, and a function that moves a progress bar to a number of bytes that were read.

    added_columns: names of the columns that the caller will add. Raises Failure if the list is bad, or if a
    file fails while the list is open: the list's own or another.
    """
    try:
        with contextlib.nullcontext(sys.stdin.buffer) if source == STDIN else source.open("rb") as file:
            recipients = RecipientFile(file, column, added_columns)
            size = 0 if source == STDIN else os.fstat(file.fileno()).st_size
            with click.progressbar(
                length=size, file=sys.stderr, hidden=not size or not sys.stderr.isatty(), label=source.name
            ) as bar:
                yield recipients, lambda bytes_read: bar.update(bytes_read - bar.pos)
                bar.update(size - bar.pos)
    except ListError as error:
        raise Failure(f"{'standard input' if source == STDIN else source}: {error}") from None
    except OSError as error:
        raise Failure(f"{error.filename or source}: {error.strerror}") from None


def refuse_bad_rows(filled: Filled, bad: Path) -> None:
    """Raises Failure if bad rows were left out. The good rows are written already."""
    if filled.bad:
        raise Failure(f"{filled.rows} rows done, {filled.bad} left out: see {bad}")
