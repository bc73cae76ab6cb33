"""What commands share that take a list of recipients: its options, and a progress bar on a terminal."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pixel_server.commands.support import Failure

if TYPE_CHECKING:
    from pixel_server.mail.recipient_files import Done, List

Command = TypeVar("Command", bound=Callable[..., Any])


STDIN = Path("-")


def of_recipients(command: Command) -> Command:
    """The options --recipients and --column."""
    file = click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True)
    column = click.option(
        "--column", default="recipient", show_default=True, help="Its column that names the recipient."
    )
    return click.option("--recipients", type=file, help="A list: CSV with a first line, or NDJSON.")(
        column(command)
    )


@contextlib.contextmanager
def rows_of(source: Path, column: str, add: Sequence[str]) -> Iterator[tuple[List, Callable[[int], None]]]:
    """(a list, what is to be told how many bytes were read). Failure: it, or another file, cannot be used."""
    from pixel_server.mail.recipient_files import List, ListError  # noqa: PLC0415

    try:
        with contextlib.nullcontext(sys.stdin.buffer) if source == STDIN else source.open("rb") as file:
            rows = List(file, column, add)
            size = 0 if source == STDIN else os.fstat(file.fileno()).st_size
            with click.progressbar(
                length=size, file=sys.stderr, hidden=not size or not sys.stderr.isatty(), label=source.name
            ) as bar:
                yield rows, lambda read: bar.update(read - bar.pos)
                bar.update(size - bar.pos)
    except ListError as error:
        raise Failure(f"{'standard input' if source == STDIN else source}: {error}") from None
    except OSError as error:
        raise Failure(f"{error.filename or source}: {error.strerror}") from None


def refuse_bad(done: Done, bad: Path) -> None:
    """Failure: some rows were left out; the others are done."""
    if done.bad:
        raise Failure(f"{done.rows} rows done, {done.bad} left out: see {bad}")
