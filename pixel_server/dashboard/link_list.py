"""`/campaigns/{id}/pixel/list`: takes a list of recipients, and returns it with the links of each recipient.

The list is checked before a link is made, so that a bad list gives a page with its bad lines and not half a
file. Until the answer is sent, the list lies in a file of the data directory that has no name and goes with
the process. No address is stored, unless the sender also asks to count the mails as sent.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from pixel_server.api import links, recipient_lists, recipients, uploads
from pixel_server.api.context import Api
from pixel_server.api.media_types import CSV, NDJSON
from pixel_server.api.request_file import FileForm
from pixel_server.api.request_stream import BodyError
from pixel_server.campaigns import storage
from pixel_server.campaigns.campaign import Campaign
from pixel_server.dashboard import formatting, permissions, pixel, render
from pixel_server.figures import recipients as recipient_rows
from pixel_server.figures.recipients import Parts
from pixel_server.mail.links import Link, Minter
from pixel_server.mail.list_rows import ListError, ListRow
from pixel_server.mail.recipient_files import CHUNK_BYTES, LINK_COLUMNS, RecipientFile, link_values
from pixel_server.problems import Problem
from pixel_server.recipients import consents, lists
from pixel_server.tokens import Mode

MAX_LIST_BYTES = 32 << 20
"""Largest number of bytes of a list: about a million addresses."""
MAX_ERRORS = 100
"""Largest number of bad lines that the page names."""


class Checked(NamedTuple):
    """The result of reading a list.

    rows, bad: numbers of rows that can be used, and that cannot. is_csv: False for NDJSON. errors: the first
    bad rows, as `{line, message}`.
    """

    rows: int
    bad: int
    is_csv: bool
    errors: list[dict[str, Any]]


async def page(api: Api, request: Request) -> Response:
    campaign = await api.campaign(request.path_params["id"])
    try:
        _minter_and_mode(api, campaign)
    except Problem as problem:
        return _page(api, request, campaign, pixel.LIST_FIELDS, problem)
    return _page(api, request, campaign, pixel.LIST_FIELDS)


async def create(api: Api, request: Request) -> Response:
    """Returns the uploaded list with the columns LINK_COLUMNS, or a page if the list is bad."""
    campaign = await api.campaign(request.path_params["id"])
    form, upload = request.state.form, request.state.file
    fields = {name: form.get(name, "").strip() for name in pixel.LIST_FIELDS}
    column = fields["column"] or uploads.COLUMN
    checked: Checked | None = None
    with ExitStack() as stack:
        try:
            minter, mode = _minter_and_mode(api, campaign)
            file = stack.enter_context(_open(api.settings.data))
            await _receive(upload, file)
            checked = await asyncio.to_thread(check, file, column)
            if not checked.rows or (checked.bad and not fields["leave_out"]):
                raise Problem(422, _why_refused(checked))
            are_sent = bool(fields["count_sent"])
            if are_sent or consents.needs_consent(campaign):
                await _store(api, request, campaign, file, column, rows=checked.rows, are_sent=are_sent)
        except ClientDisconnect:
            return Response(status_code=400)  # the browser is gone and shows no answer
        except BodyError as error:
            raise Problem(error.status, f"this form {error}; no link was made") from None
        except Problem as problem:
            with suppress(ClientDisconnect, BodyError):
                await upload.skip()
            if problem.status not in (409, 413, 422):
                raise
            return _page(api, request, campaign, fields, problem, checked)
        await storage.note_links(api.store, campaign.id, api.clock())
        stack.pop_all()  # the answer closes the file
    make_link = partial(minter.link, campaign.id, now=api.clock())
    modes = Modes(mode, consents.needs_consent(campaign))
    ending = "csv" if checked.is_csv else "ndjson"
    return StreamingResponse(
        fill(file, column, make_link, modes),
        headers={
            **render.headers(),
            "Content-Type": CSV if checked.is_csv else NDJSON,
            "Content-Disposition": f'attachment; filename="{campaign.id}-links.{ending}"',
        },
    )


async def download(api: Api, request: Request) -> Response:
    """Returns the stored list of a campaign that keeps names, with the links of each recipient, as CSV.

    Leaves out recipients who withdrew. Raises Problem 403 without the scope `write`, and 409 if the campaign
    keeps no names or cannot have links.
    """
    campaign = await api.campaign(request.path_params["id"])
    session = request.state.session
    if "write" not in session.scopes:
        raise permissions.Lacking(session, "write", "make links")
    minter, mode = _minter_and_mode(api, campaign)
    if not recipient_lists.keeps_names(api, campaign):
        raise Problem(409, "only the mode “identified” keeps recipients: upload the list to get its links")
    await storage.note_links(api.store, campaign.id, api.clock())
    unread = await recipient_lists.read_recipients(api, campaign, "all", "0", request.state.who)
    make_link = partial(minter.link, campaign.id, mode=mode, now=api.clock())
    return StreamingResponse(
        recipient_rows.as_csv(_with_links(unread, make_link), ("recipient", "name", *LINK_COLUMNS)),
        headers={
            **render.headers(),
            "Content-Disposition": f'attachment; filename="{campaign.id}-links.csv"',
        },
        media_type="text/csv; charset=utf-8",
    )


async def _with_links(parts: Parts, make_link: Callable[[str], Link]) -> Parts:
    """Yields the recipients of a stored list who did not withdraw, each with the columns LINK_COLUMNS."""
    async for place_after, rows in parts:
        yield (
            place_after,
            [
                {**row, **dict(zip(LINK_COLUMNS, link_values(make_link(row["recipient"])), strict=True))}
                for row in rows
                if row["recipient"] is not None and not row["withdrawn"]
            ],
        )


def _minter_and_mode(api: Api, campaign: Campaign) -> tuple[Minter, Mode]:
    """Returns the minter and the mode of a campaign's links. Raises Problem 409 if it cannot have links."""
    mode = api.consent.rule(campaign.mode, None).mode
    if mode is Mode.OFF:
        raise Problem(409, "the mode of this campaign is off: no link is made")
    return links.minter_of(api, campaign), mode


def check(file: IO[bytes], column: str) -> Checked:
    """Reads a whole list. Raises Problem 422 if the list cannot be read."""
    rows = bad = 0
    errors: list[dict[str, Any]] = []
    try:
        reader = _reader(file, column)
        for row in reader.rows():
            if not row.error:
                rows += 1
                continue
            bad += 1
            if len(errors) < MAX_ERRORS:
                errors.append({"line": row.line, "message": row.error})
    except ListError as error:
        raise Problem(422, f"this list cannot be used: {error}") from None
    return Checked(rows, bad, reader.is_csv, errors)


class Modes(NamedTuple):
    """The modes of the links of a list. mode: the campaign's mode.

    needs_consent: whether a recipient without a consent in the list gets a link of mode `count`. In a list
    with the column `consent_ref`, all such recipients do.
    """

    mode: Mode
    needs_consent: bool

    def of_row(self, row: ListRow, has_consents: bool) -> Mode:
        """Returns the mode of the link of a row. has_consents: whether the list has the column."""
        is_apart = row.consent is not None or not (self.needs_consent or has_consents)
        return self.mode if is_apart else min(self.mode, Mode.COUNT)


def fill(file: IO[bytes], column: str, make_link: Callable[..., Link], modes: Modes) -> Iterator[bytes]:
    """Yields the rows that can be used, byte for byte as they were, each with its links. Closes the file.

    The cells of the sender are not changed, even if a spreadsheet takes them for formulas: a mail service
    needs them as they are. The new cells begin with `http` or `<img`, which is not a formula.
    """
    with file:
        reader = _reader(file, column)
        yield reader.header
        for batch in reader.batches():
            good = [row for row in batch if not row.error]
            row_modes = [modes.of_row(row, reader.has_consents) for row in good]
            made = [make_link(row.recipient, mode=mode) for row, mode in zip(good, row_modes, strict=True)]
            yield b"".join(map(reader.with_fields, good, map(link_values, made)))


def _reader(file: IO[bytes], column: str) -> RecipientFile:
    file.seek(0)
    return RecipientFile(file, column, LINK_COLUMNS, lambda line, message: None, with_consents=True)


def _open(directory: Path) -> IO[bytes]:
    """Returns a new file without a name. Raises Problem 503 if the disk refuses it."""
    try:
        return tempfile.TemporaryFile(dir=directory)
    except OSError as error:
        raise _disk_problem(error) from None


async def _receive(upload: FileForm, file: IO[bytes]) -> None:
    """Copies the upload to a file.

    Raises Problem 413 if it has more than MAX_LIST_BYTES, and 503 if the disk is full.
    """
    size = 0
    async for chunk in upload.chunks():
        size += len(chunk)
        if size > MAX_LIST_BYTES:
            raise Problem(
                413,
                f"the list has more than {MAX_LIST_BYTES >> 20} MB: split it, or use "
                "“pixel-server link” for lists of any length",
            )
        try:
            await asyncio.to_thread(file.write, chunk)
        except OSError as error:
            raise _disk_problem(error) from None


def _disk_problem(error: OSError) -> Problem:
    return Problem(
        503, f"the data directory of this server cannot take the list ({error.strerror}); ask the operator"
    )


async def _store(
    api: Api,
    request: Request,
    campaign: Campaign,
    file: IO[bytes],
    column: str,
    *,
    rows: int,
    are_sent: bool,
) -> None:
    """Puts the recipients and their consents on the campaign's list.

    rows: number of rows that can be used. are_sent: whether their mails count as sent. Only counts recipients
    who are not told apart.
    """
    if not lists.keeps_recipients(campaign, api.consent):
        if are_sent:
            await lists.count_mails(api.store, campaign.id, rows)
        return
    upload = await recipients.store_list(
        api,
        campaign,
        _chunks(file),
        request.state.who,
        is_csv=None,
        mailed_at=uploads.time_of_sending(campaign, api.clock()) if are_sent else None,
        column=column,
        may_store_names="people" in request.state.session.scopes,
    )
    without_consent = rows - upload.new - upload.known - upload.withdrawn
    if are_sent and consents.needs_consent(campaign) and without_consent > 0:
        await lists.count_mails(api.store, campaign.id, without_consent)


async def _chunks(file: IO[bytes]) -> AsyncIterator[bytes]:
    file.seek(0)
    while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
        yield chunk


def _why_refused(checked: Checked) -> str:
    if not checked.rows:
        return "no line of this list can be used, so no link was made: mend the list"
    lines = formatting.counted(checked.bad, "line")
    return f"{lines} of this list cannot be used, so no link was made: mend or leave out these lines"


def _page(
    api: Api,
    request: Request,
    campaign: Campaign,
    fields: Mapping[str, str],
    problem: Problem | None = None,
    checked: Checked | None = None,
) -> Response:
    context = {
        **pixel.context(api, campaign),
        "list_fields": fields,
        "list_refused": problem.detail if problem else "",
        "checked": checked,
        "takes_lists": problem is None or problem.status != 409,
    }
    return render.page(api, request, "link_list.html", context, problem.status if problem else 200)
