"""`pixel-server retention ...`"""

from __future__ import annotations

import json

import click

from pixel_server.commands.failures import Failure
from pixel_server.commands.support import as_json, with_store
from workers.retention import WrongClock, run_by_hand


@click.group()
def retention() -> None:
    """Remove data that has been kept long enough."""


@retention.command("run")
@click.option("--yes", is_flag=True, help="Remove all data that is due.")
@as_json
def run_retention(yes: bool, as_json: bool) -> None:
    """Count the data that is due to be removed; with --yes, remove it.

    The workers remove what became due within the last day. If more data of a kind is due, they remove nothing
    of that kind and wait for --yes. The cause may be a long outage, a setting that was lowered, or a wrong
    clock.
    """
    try:
        swept = with_store(lambda store, settings: run_by_hand(store, settings, "all" if yes else "nothing"))
    except WrongClock as error:
        raise Failure(str(error)) from None
    counts = dict(sorted((swept.removed if yes else swept.waiting).items()))
    if as_json:
        click.echo(json.dumps({"removed" if yes else "due": counts}))
        return
    listed = ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "nothing"
    click.echo(f"removed: {listed}" if yes else f"due to be removed: {listed}")
