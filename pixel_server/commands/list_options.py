"""The options of commands that read a list of recipients, and the list with a progress bar."""

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
    "--column", default="recipient", show_default=True, help="Column of the list that names the recipient."
)
"""The option --column."""


def list_options(command: Command) -> Command:
    """Adds the options --recipients and --column to a command."""
    file = click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True)
    recipients = click.option(
        "--recipients", type=file, help="List: CSV with a first line of names, or NDJSON."
    )
    return recipients(column_option(command))


@contextlib.contextmanager
def open_list(
    source: Path, column: str, add: Sequence[str]
) -> Iterator[tuple[RecipientFile, Callable[[int], None]]]:
    """Yields a list, and the function to call with the number of bytes that were read, for a progress bar.

    add: names of the columns that will be added. Raises Failure if the list, or a file that the caller uses
    meanwhile, cannot be used.
    """
    try:
        with contextlib.nullcontext(sys.stdin.buffer) if source == STDIN else source.open("rb") as file:
            recipients = RecipientFile(file, column, add)
            size = 0 if source == STDIN else os.fstat(file.fileno()).st_size
            with click.progressbar(
                length=size, file=sys.stderr, hidden=not size or not sys.stderr.isatty(), label=source.name
            ) as bar:
                yield recipients, lambda read: bar.update(read - bar.pos)
                bar.update(size - bar.pos)
    except ListError as error:
        raise Failure(f"{'standard input' if source == STDIN else source}: {error}") from None
    except OSError as error:
        raise Failure(f"{error.filename or source}: {error.strerror}") from None


def refuse_bad_rows(filled: Filled, bad: Path) -> None:
    """Raises Failure if rows were left out. The other rows are done."""
    if filled.bad:
        raise Failure(f"{filled.rows} rows done, {filled.bad} left out: see {bad}")
