"""`pixel-server networks ...`"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from pixel_server.classify.network_feeds import PUBLISHED, refresh
from pixel_server.classify.networks import NetworkList, Networks, NetworksError, list_names
from pixel_server.commands.failures import Failure
from pixel_server.commands.support import as_json, print_table
from pixel_server.settings import Settings


@click.group()
def networks() -> None:
    """List and refresh the lists of networks that help to tell machines from people."""


@networks.command("list")
@as_json
def list_networks(as_json: bool) -> None:
    """Show the ranges, date, owner and source of each list. Needs no Redis."""
    lists = Networks.load(Settings.from_env().data / "networks").lists
    if as_json:
        items = [_to_json(network_list) for network_list in lists]
        click.echo(json.dumps({"items": items, "next": None}))
        return
    rows = [("NAME", "RANGES", "DATE", "OWNER", "SOURCE")]
    for network_list in lists:
        owner = "the operator's" if network_list.is_operators else "shipped"
        name, ranges = network_list.name, f"{network_list.ranges:,}"
        rows.append((name, ranges, str(network_list.date), owner, network_list.source))
    print_table(rows)


def _to_json(network_list: NetworkList) -> dict[str, Any]:
    """Returns the description of a list, as `networks list --json` prints it."""
    shown = asdict(network_list)
    own = shown.pop("is_operators")
    return {**shown, "date": str(network_list.date), "own": own}


@networks.command("refresh")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option(
    "--from",
    "files",
    metavar="FILE",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Read the list of NAME from a file, as its source publishes it. May be given several times.",
)
@as_json
def refresh_networks(names: tuple[str, ...], files: tuple[Path, ...], as_json: bool) -> None:
    """Fetch lists from the sources that publish them. Each list is replaced as a whole or kept.

    Needs no Redis.
    """
    directory = Settings.from_env().data / "networks"
    if files and len(names) != 1:
        raise Failure("--from needs the NAME of one list")
    for name in names:
        if name not in list_names():
            raise Failure(f"no list {name!r}; there are {', '.join(list_names())}")
        if name not in PUBLISHED:
            raise Failure(f"{name} is published nowhere; write {directory / name}.txt yourself")
    items: list[dict[str, Any]] = []
    errors = []
    for name in dict.fromkeys(names or sorted(PUBLISHED)):
        try:
            refreshed = refresh(name, directory, files)
        except NetworksError as error:
            errors.append(str(error))
            continue
        items.append({**asdict(refreshed), "date": str(refreshed.date)})
        if not as_json:
            click.echo(f"{name}: {refreshed.rows:,} rows, {refreshed.ranges:,} ranges of {refreshed.date}")
    if as_json and items:
        click.echo(json.dumps({"items": items, "next": None}))
    if errors:
        raise Failure(f"not refreshed: {'; '.join(errors)}")
