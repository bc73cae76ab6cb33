"""`pixel-server recipients`"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from pixel_server import files
from pixel_server.campaigns import storage
from pixel_server.campaigns.campaign import Campaign
from pixel_server.commands.failures import Failure
from pixel_server.commands.list_options import column_option, open_list, refuse_bad_rows
from pixel_server.commands.support import with_store
from pixel_server.consent import Consent
from pixel_server.counters.recipient_record import RecipientRecord
from pixel_server.figures import recipients as figures
from pixel_server.mail.recipient_files import Filled, Filling, Values
from pixel_server.recipients import lists, withdrawals
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import audit_log
from pixel_server.store.protocols import AsyncRedis
from pixel_server.times import iso_ms

NEW_COLUMNS = ("first_open", "last_open", "opens", "verdict")
WITHDRAWN = "withdrawn"


@click.command()
@click.argument("campaign_id", metavar="CAMPAIGN")
@click.option("--state", type=click.Choice(figures.STATES), help="Only recipients in this state.")
@click.option(
    "--join",
    "source",
    type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True),
    help="Your list, CSV or NDJSON, to write with the opens beside each row.",
)
@column_option
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="File to write.")
def recipients(campaign_id: str, state: str | None, source: Path | None, column: str, out: Path) -> None:
    """Write to a file what the recipients of a campaign did.

    With --join, OUT is your list with the columns first_open, last_open, opens and verdict. The first three
    count opens by anybody, also by machines. The verdict is `person`, `machine_only`, `opened` (the state
    `unknown`: it is not known by whom), `unopened`, or `withdrawn`. Rows that cannot be used are left out and
    named in OUT.bad; the exit code is then 1. Without --join, OUT is CSV with a row for each recipient in the
    state (default: opened). OUT is written as a whole, or not at all.
    """

    async def write(store: AsyncRedis, settings: Settings) -> Filled:
        campaign = await storage.get(store, campaign_id)
        keeps_names = lists.keeps_names(campaign, Consent(settings))
        if campaign.closed_at is not None:
            raise Failure("this campaign is closed: its recipients are gone")
        chosen_state = state or ("all" if source else "opened")
        await audit_log.note(
            store, audit_log.COMMAND, "recipients.read", campaign=campaign.id, state=chosen_state
        )
        secrets = Secrets.load(settings.data, settings.signing_secrets, settings.recipient_secret)
        if source is not None:
            return await _join(store, settings, secrets, campaign, state, source, column, out)
        parts = figures.rows(store, secrets, campaign.id, settings.shards, chosen_state, keeps_names)
        with files.open_whole(out) as file:
            async for lines in figures.as_csv(parts):
                file.write(lines)
        return Filled(0, 0)

    try:
        filled = with_store(write)
    except lists.ListClosed as error:
        raise Failure(str(error)) from None
    except OSError as error:
        raise Failure(f"{error.filename or out}: {error.strerror}") from None
    refuse_bad_rows(filled, _bad_file(out))


def _bad_file(out: Path) -> Path:
    return out.with_name(f"{out.name}.bad")


async def _join(
    store: AsyncRedis,
    settings: Settings,
    secrets: Secrets,
    campaign: Campaign,
    state: str | None,
    source: Path,
    column: str,
    out: Path,
) -> Filled:
    """Writes a list with the new columns. Makes two round trips for each batch of rows."""
    with (
        open_list(source, column, NEW_COLUMNS) as (rows, on_progress),
        files.open_whole(out) as file,
        Filling(rows, file, _bad_file(out), on_progress) as filling,
    ):
        for batch in rows.batches():
            keys = [secrets.recipient_key(row.recipient) for row in batch if not row.error]
            records = await figures.read_some(store, campaign.id, settings.shards, keys)
            withdrawn = await withdrawals.withdrawn_now(store, secrets, keys)
            filling.write(batch, _values(keys, records, withdrawn, state))
    return filling.filled


def _values(
    keys: Sequence[bytes],
    records: Sequence[RecipientRecord],
    withdrawn: set[bytes],
    state: str | None,
) -> list[Values | None]:
    """Returns the values of NEW_COLUMNS for each recipient, or None if the recipient is not in the state."""
    all_values: list[Values | None] = []
    for key, record in zip(keys, records, strict=True):
        is_withdrawn = key in withdrawn
        verdict = WITHDRAWN if is_withdrawn and not record.opens else verdict_of(record)
        if state is not None and not figures.has_state(state, record, True, is_withdrawn):
            all_values.append(None)
        elif record.opens:
            times = (iso_ms(record.first * 1000), iso_ms(record.last * 1000))
            all_values.append((*times, record.opens, verdict))
        else:
            all_values.append((None, None, 0, verdict))
    return all_values


def verdict_of(record: RecipientRecord) -> str:
    """Returns the narrowest state in `figures.STATES` that a recipient has."""
    return next(state for state in _NARROWEST_FIRST if figures.has_state(state, record, is_listed=True))


_NARROWEST_FIRST = ("person", "machine_only", "unopened", "opened")
