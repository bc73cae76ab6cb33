"""`pixel-server audience`"""

from __future__ import annotations

import json
from pathlib import Path

import click

from pixel_server import files
from pixel_server.api import audience as calls
from pixel_server.commands.failures import Failure
from pixel_server.commands.support import as_json, print_table, with_store
from pixel_server.consent import Consent
from pixel_server.figures import audience as figures
from pixel_server.figures import recipients
from pixel_server.problems import Problem
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import audit_log
from pixel_server.store.protocols import AsyncRedis


@click.command()
@click.argument("campaigns", nargs=-1, required=True, metavar="CAMPAIGN...")
@click.option(
    "--opened",
    default="any",
    show_default=True,
    help="How many of the campaigns a recipient opened: any, all, none, or the least number, such as 2.",
)
@click.option(
    "--state",
    type=click.Choice(figures.STATES),
    default=figures.STATES[0],
    show_default=True,
    help="Opens that count: by a person, or all.",
)
@click.option("--since", help="A campaign is opened only if the last open is at or after this day or time.")
@click.option("--min-opens", default="1", help="A campaign is opened only by so many opens.  [default: 1]")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="File to write.")
@as_json
def audience(
    campaigns: tuple[str, ...],
    opened: str,
    state: str,
    since: str | None,
    min_opens: str,
    out: Path | None,
    as_json: bool,
) -> None:
    """Write to a file who opened some, all or none of several campaigns.

    OUT is CSV, or NDJSON if its name ends in .ndjson, with a row for each recipient who opened as many
    campaigns as --opened says. It is written as a whole, or not at all. Without --out, the command prints how
    many recipients opened none, one, two and all of the campaigns. Recipients who withdrew are left out. A
    day, or a time without an offset, is in UTC.
    """
    if out is not None and as_json:
        raise click.UsageError("--json prints counts, so leave it out with --out")
    parameters = {"of": ",".join(campaigns), "opened": opened, "state": state, "min_opens": min_opens}
    if since is not None:
        parameters["since"] = since

    async def act(store: AsyncRedis, settings: Settings) -> tuple[calls.Audience, list[int]]:
        secrets = Secrets.load(settings.data, settings.signing_secrets, settings.recipient_secret)
        found = await calls.find(store, settings, Consent(settings), parameters)
        if out is None:
            counts = await calls.count(store, settings, secrets, found, audit_log.COMMAND)
            return found, counts.opened
        parts = await calls.read(store, settings, secrets, found, audit_log.COMMAND)
        is_ndjson = out.suffix == ".ndjson"
        with files.open_whole(out) as file:
            async for lines in recipients.ndjson(parts) if is_ndjson else figures.as_csv(parts):
                file.write(lines)
        return found, []

    try:
        found, counts = with_store(act)
    except Problem as problem:
        raise Failure(_one_line(problem)) from None
    except OSError as error:
        raise Failure(f"{error.filename or out}: {error.strerror}") from None
    if as_json:
        click.echo(json.dumps({"recipients": sum(counts), "opened": counts, **found.base}))
        return
    if out is None:
        print_table([("opened", "recipients"), *_rows(counts)])
    for campaign in found.without_list:
        click.echo(
            f"pixel-server: {campaign} has no list: only those of its recipients are known who opened",
            err=True,
        )


def _rows(counts: list[int]) -> list[tuple[str, str]]:
    """Returns the lines of the table of counts: `("2 of 3", "1,250")`."""
    return [(f"{opened} of {len(counts) - 1}", f"{number:,}") for opened, number in enumerate(counts)]


def _one_line(problem: Problem) -> str:
    """Returns the text of a problem, with the options instead of the parameters."""
    names = {"of": "CAMPAIGN", "opened": "--opened", "since": "--since", "min_opens": "--min-opens"}
    errors = [f"{names[error['field']]} {error['message']}" for error in problem.errors or ()]
    return "; ".join(errors) or problem.detail
