"""`pixel-server networks ...`"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from pixel_server.classify import networks as lists
from pixel_server.classify.networks import Networks, NetworksError
from pixel_server.commands.support import Failure, as_json
from pixel_server.settings import Settings


@click.group()
def networks() -> None:
    """Lists of networks, by which machines are told from people."""


@networks.command("list")
@as_json
def networks_list(as_json: bool) -> None:
    """Show each list: how many ranges, of which day, whose, and from where. Needs no Redis."""
    try:
        found = Networks.load(Settings.from_env().data / "networks").lists
    except NetworksError as error:
        raise Failure(str(error)) from None
    if as_json:
        items = [{**asdict(each), "date": str(each.date)} for each in found]
        click.echo(json.dumps({"items": items, "next": None}))
        return
    rows = [("NAME", "RANGES", "DATE", "WHOSE", "SOURCE")]
    for each in found:
        whose = "the operator's" if each.own else "shipped"
        rows.append((each.name, f"{each.ranges:,}", str(each.date), whose, each.source))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip())


@networks.command("refresh")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option(
    "--from",
    "files",
    metavar="FILE",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Read the list of NAME from a file as its source has it. Where that has several, repeat it.",
)
@as_json
def networks_refresh(names: tuple[str, ...], files: tuple[Path, ...], as_json: bool) -> None:
    """Take over the lists that their owners publish, each whole or not at all. Needs no Redis."""
    from pixel_server.classify.network_feeds import PUBLISHED, take  # noqa: PLC0415

    directory = Settings.from_env().data / "networks"
    if files and len(names) != 1:
        raise Failure("--from needs the NAME of one list")
    for name in names:
        if name not in lists.shipped():
            raise Failure(f"no list {name!r}; there are {', '.join(lists.shipped())}")
        if name not in PUBLISHED:
            raise Failure(f"{name} is published nowhere; write {directory / name}.txt yourself")
    items: list[dict[str, Any]] = []
    wrong = []
    for name in dict.fromkeys(names or sorted(PUBLISHED)):
        try:
            taken = take(name, directory, files)
        except NetworksError as error:
            wrong.append(str(error))
            continue
        items.append({**asdict(taken), "date": str(taken.date)})
        if not as_json:
            click.echo(f"{name}: {taken.rows:,} rows, {taken.ranges:,} ranges of {taken.date}")
    if as_json and items:
        click.echo(json.dumps({"items": items, "next": None}))
    if wrong:
        raise Failure(f"not taken over: {'; '.join(wrong)}")
