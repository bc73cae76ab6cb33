"""`pixel-server doctor`"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from typing import NamedTuple

import click

from pixel_server.commands.frame import as_json
from pixel_server.networks import Networks, NetworksError, shipped
from pixel_server.settings import Settings

STALE = 90
"""Days after which a list that is published anew all the time is too old."""


class Finding(NamedTuple):
    """What a check says of a thing. ok: nothing needs to be done about it."""

    check: str
    thing: str
    ok: bool
    text: str


def networks(settings: Settings, today: date) -> Iterator[Finding]:
    """How old each list is; which can be had newer; which files are no list."""
    from pixel_server.published import PUBLISHED  # noqa: PLC0415 - only this check needs it

    directory = settings.data / "networks"
    for path in sorted(directory.glob("*.txt")):
        if path.stem not in shipped():
            yield Finding("networks", path.stem, False, f"{path} is not read: no list has this name")
    try:
        found = Networks.load(directory).lists
    except NetworksError as error:
        yield Finding("networks", "lists", False, str(error))
        return
    for each in found:
        days = each.days(today)
        age = f"{_many(each.ranges, 'range')} of {each.date}, {_many(days, 'day')} old"
        again = f"run `pixel-server networks refresh {each.name}`"
        if each.name not in PUBLISHED:
            yield Finding("networks", each.name, True, age)
        elif not each.ranges:
            yield Finding("networks", each.name, False, f"empty; {again}")
        else:
            yield Finding("networks", each.name, days <= STALE, age if days <= STALE else f"{age}; {again}")


def _many(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


Check = Callable[[Settings, date], Iterator[Finding]]

CHECKS: tuple[Check, ...] = (networks,)


@click.command()
@as_json
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Say what should be looked after. Exit code 1: something should."""
    settings = Settings.from_env()
    today = datetime.now(UTC).date()
    findings = [finding for check in CHECKS for finding in check(settings, today)]
    if as_json:
        click.echo(json.dumps({"items": [finding._asdict() for finding in findings], "next": None}))
    else:
        for finding in findings:
            mark = "ok" if finding.ok else "warning"
            click.echo(f"{mark:<8} {finding.check} {finding.thing}: {finding.text}")
    ctx.exit(0 if all(finding.ok for finding in findings) else 1)
