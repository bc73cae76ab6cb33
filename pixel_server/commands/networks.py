"""`pixel-server networks ...`"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from pixel_server.classify import network_store
from pixel_server.classify.network_feeds import PUBLISHED
from pixel_server.classify.network_refresh import NewList, make_list
from pixel_server.classify.networks import NetworkList, NetworksError, Owner, list_names, load_networks
from pixel_server.commands.failures import Failure
from pixel_server.commands.support import as_json, print_table, with_store
from pixel_server.settings import Settings
from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis

_OWNERS: Mapping[Owner, str] = {
    "operator": "the operator's",
    "refreshed": "refreshed",
    "shipped": "shipped",
}


@click.group()
def networks() -> None:
    """List and refresh the lists of networks that help to tell machines from people."""


@networks.command("list")
@as_json
def list_networks(as_json: bool) -> None:
    """Show the ranges, date, owner and source of each list. Needs no Redis."""
    lists = load_networks(Settings.from_env()).lists
    if as_json:
        items = [_to_json(network_list) for network_list in lists]
        click.echo(json.dumps({"items": items, "next": None}))
        return
    rows = [("NAME", "RANGES", "DATE", "OWNER", "SOURCE")]
    for network_list in lists:
        name, ranges = network_list.name, f"{network_list.ranges:,}"
        owner = _OWNERS[network_list.owner]
        rows.append((name, ranges, str(network_list.date), owner, network_list.source))
    print_table(rows)


def _to_json(network_list: NetworkList) -> dict[str, Any]:
    """Returns the description of a list, as `networks list --json` prints it."""
    shown = asdict(network_list)
    owner = shown.pop("owner")
    return {
        **shown,
        "date": str(network_list.date),
        "own": owner == "operator",
        "refreshed": owner == "refreshed",
    }


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
@click.option("--accept-smaller", is_flag=True, help="Use a list that is much smaller than the list in use.")
@as_json
def refresh_networks(
    names: tuple[str, ...], files: tuple[Path, ...], accept_smaller: bool, as_json: bool
) -> None:
    """Fetch lists from the sources that publish them, for all hosts. A list is replaced as a whole or kept.

    Workers do this by themselves each week, unless PIXEL_NETWORKS_REFRESH is off.
    """
    directory = Settings.from_env().networks_directory
    if files and len(names) != 1:
        raise Failure("--from needs the NAME of one list")
    for name in names:
        if name not in list_names():
            raise Failure(f"no list {name!r}; there are {', '.join(list_names())}")
        if name not in PUBLISHED:
            raise Failure(f"{name} is published nowhere; write {directory / name}.txt yourself")
    chosen = list(dict.fromkeys(names or PUBLISHED))

    async def refresh_chosen(store: AsyncRedis, settings: Settings) -> tuple[list[NewList], list[str]]:
        return await _refresh(store, settings, chosen, files, accept_smaller)

    refreshed, errors = with_store(refresh_chosen)
    if as_json and refreshed:
        click.echo(json.dumps({"items": [_refreshed_json(new) for new in refreshed], "next": None}))
    for new in () if as_json else refreshed:
        click.echo(f"{new.name}: {new.rows:,} rows, {new.ranges:,} ranges of {new.date}")
    for new in refreshed:
        if (own := directory / f"{new.name}.txt").exists():
            click.echo(f"{own} is your own list and is used instead: remove it to use this one", err=True)
    if errors:
        raise Failure(f"not refreshed: {'; '.join(errors)}")


async def _refresh(
    store: AsyncRedis, settings: Settings, names: Sequence[str], files: Sequence[Path], accept_smaller: bool
) -> tuple[list[NewList], list[str]]:
    """Fetches lists, or reads one from files, and stores them. Returns the new lists, and the errors."""
    now = (await store.time())[0]
    today = datetime.fromtimestamp(now, UTC).date()
    states = network_store.parse_states(await store.hmget(keys.NETWORKS, network_store.STATE_FIELDS))
    refreshed, errors = [], []
    for name in names:
        try:
            new = make_list(
                name, today, files, last_ranges=states[name].ranges, accept_smaller=accept_smaller
            )
        except NetworksError as error:
            errors.append(str(error))
            continue
        await store.hset(keys.NETWORKS, mapping=network_store.fields_of(new, now))
        refreshed.append(new)
    await network_store.ListCopies(settings.refreshed_networks_directory).update_async(store)
    return refreshed, errors


def _refreshed_json(new: NewList) -> dict[str, Any]:
    """Returns a new list, as `networks refresh --json` prints it."""
    return {"name": new.name, "rows": new.rows, "ranges": new.ranges, "date": str(new.date)}
