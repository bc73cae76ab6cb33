"""`pixel-server campaign upload`: whom a campaign goes to."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import IO, TYPE_CHECKING

import click

from pixel_server.commands.support import Failure, as_json, with_store
from pixel_server.consent import Consent
from pixel_server.secret import Secrets
from pixel_server.settings import Settings

if TYPE_CHECKING:
    from pixel_server.store.protocols import AsyncRedis

CHUNK = 64 << 10


@click.command("upload")
@click.argument("id")
@click.argument("file", type=click.File("rb"))
@click.option("--column", default="recipient", show_default=True, help="Its column that names the recipient.")
@as_json
def upload(id: str, file: IO[bytes], column: str, as_json: bool) -> None:  # noqa: A002
    """Take in a list of whom a campaign goes to, so that it is known who did not open it.

    CSV with a first line that names the columns, or NDJSON; `-` is standard input. The recipient is taken,
    and in mode `identified` the column `name`; other columns are not. To take one in again does no harm.
    """
    from pixel_server.api import uploads  # noqa: PLC0415
    from pixel_server.campaigns import storage  # noqa: PLC0415
    from pixel_server.mail.list_lines import is_ndjson  # noqa: PLC0415
    from pixel_server.problems import Problem  # noqa: PLC0415
    from pixel_server.recipients import lists  # noqa: PLC0415
    from pixel_server.store import audit_log, clock  # noqa: PLC0415

    first = file.read(CHUNK)

    async def take(store: AsyncRedis, settings: Settings) -> uploads.Upload:
        is_named = lists.keeps_names(await storage.get(store, id), Consent(settings))
        secrets = Secrets.load(settings.data, settings.signing, settings.recipient_secret)
        put = uploads.list_writer(
            store, secrets, settings, id, is_named, await clock.now(store), audit_log.COMMAND
        )
        kind = uploads.NDJSON if is_ndjson(first) else uploads.CSV
        made = uploads.Upload(kind, put, is_named, column)
        try:
            await made.read(_chunks(first, file))
        except lists.ListClosed as error:
            raise lists.ListClosed(f"{error}; {made.progress}") from None
        finally:
            await uploads.log_end(store, made, id, audit_log.COMMAND)
        return made

    try:
        done = with_store(take)
    except storage.UnknownCampaign:
        raise Failure(f"there is no campaign {id}") from None
    except Problem as problem:
        raise Failure(f"{file.name}: {problem.detail}") from None
    except lists.ListClosed as error:
        raise Failure(str(error)) from None
    if not (done.new or done.known or done.withdrawn or done.bad):
        raise Failure(f"{file.name}: there is no recipient in it")
    if as_json:
        click.echo(json.dumps({**done.counts, "errors": done.errors}))
    else:
        click.echo(f"{done.new:,} new, {done.known:,} known, {done.withdrawn:,} withdrawn")
    if done.bad:
        bad = done.errors[0]
        why = f"lines left out: {done.bad:,}, the first of them line {bad['line']}: {bad['message']}"
        raise Failure(f"{file.name}: {why}")


async def _chunks(first: bytes, file: IO[bytes]) -> AsyncIterator[bytes]:
    chunk = first
    while chunk:
        yield chunk
        chunk = file.read(CHUNK)
