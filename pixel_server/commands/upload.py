"""`pixel-server campaign upload`"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import IO

import click

from pixel_server.api import uploads
from pixel_server.campaigns import storage
from pixel_server.commands.failures import Failure
from pixel_server.commands.list_options import column_option
from pixel_server.commands.support import as_json, with_store
from pixel_server.consent import Consent
from pixel_server.problems import Problem
from pixel_server.recipients import consents, lists
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import audit_log, clock
from pixel_server.store.protocols import AsyncRedis

CHUNK_BYTES = 64 << 10


@click.command()
@click.argument("id")
@click.argument("file", type=click.File("rb"))
@column_option
@click.option(
    "--sent/--no-sent", default=True, show_default=True, help="Whether the mails to this list count as sent."
)
@as_json
def upload(id: str, file: IO[bytes], column: str, sent: bool, as_json: bool) -> None:  # noqa: A002
    """Upload the recipients of a campaign, so that the recipients who did not open it can be listed.

    The number of different recipients is the campaign's `sent`, unless you have given the campaign a number.

    FILE is CSV with a first line that names the columns, or NDJSON; `-` is standard input. The recipient is
    stored, and in mode `identified` the column `name`. The column `consent_ref` holds consents, as
    2026-05@2026-05-04T09:30:00Z; a campaign of the preset `consented` takes only rows with one. Other columns
    are ignored. A list can be uploaded again.
    """

    async def read_list(store: AsyncRedis, settings: Settings) -> uploads.Upload:
        campaign = await storage.get(store, id)
        keeps_names = lists.keeps_names(campaign, Consent(settings))
        now = await clock.read_time(store)
        secrets = Secrets.load(settings.data, settings.signing_secrets, settings.recipient_secret)
        mailed_at = uploads.time_of_sending(campaign, now) if sent else None
        store_rows = uploads.list_writer(
            store, secrets, settings, id, keeps_names, now, audit_log.COMMAND, mailed_at=mailed_at
        )
        upload = uploads.Upload(
            store_rows,
            is_csv=None,
            keeps_names=keeps_names,
            needs_consent=consents.needs_consent(campaign),
            column=column,
        )
        try:
            await upload.read(_chunks(file))
        except lists.ListClosed as error:
            raise lists.ListClosed(f"{error}; {upload.progress}") from None
        finally:
            await uploads.log_end(store, upload, id, audit_log.COMMAND)
        return upload

    try:
        uploaded = with_store(read_list)
    except Problem as problem:
        raise Failure(f"{file.name}: {problem.detail}") from None
    except lists.ListClosed as error:
        raise Failure(str(error)) from None
    for warning in uploaded.warnings:
        click.echo(f"pixel-server: {file.name}: line {warning['line']}: {warning['message']}", err=True)
    if not (uploaded.has_usable_lines or uploaded.bad):
        raise Failure(f"{file.name}: there is no recipient in it")
    if as_json:
        click.echo(json.dumps({**uploaded.counts, "errors": uploaded.errors, "warnings": uploaded.warnings}))
    else:
        click.echo(f"{uploaded.new:,} new, {uploaded.known:,} known, {uploaded.withdrawn:,} withdrawn")
    if uploaded.bad:
        first_error = uploaded.errors[0]
        why = f"lines left out: {uploaded.bad:,}; line {first_error['line']}: {first_error['message']}"
        raise Failure(f"{file.name}: {why}")


async def _chunks(file: IO[bytes]) -> AsyncIterator[bytes]:
    while chunk := file.read(CHUNK_BYTES):
        yield chunk
