"""The options of `link` and `embed` about the sending of mails, and the counting of mails as `sent`."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import click
import redis

from pixel_server import consent_ref
from pixel_server.api import uploads
from pixel_server.campaigns import storage
from pixel_server.commands.failures import ONE_LINE_ERRORS, Failure
from pixel_server.commands.minting import STORE_TIMEOUT_SECONDS
from pixel_server.commands.support import is_redis_url_set, settings_here, store_url
from pixel_server.consent import Consent
from pixel_server.consent_ref import ConsentRef
from pixel_server.mail.links import MintOptions
from pixel_server.recipients import consents, lists
from pixel_server.recipients.lists import ListEntry
from pixel_server.run.up_state import read_up_state
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import audit_log, client, keys
from pixel_server.store.client import StoreError
from pixel_server.store.compatibility import check_store
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.store_mark import StoreMark
from pixel_server.times import parse_time
from pixel_server.tokens import Mode

Command = TypeVar("Command", bound=Callable[..., Any])
CountSent = Callable[[Sequence[ListEntry]], Sequence[bool]]
"""Function that counts the mails to some recipients as sent, and stores their consents.

Returns for each recipient whether a link may tell the recipient apart."""


def sending_options(command: Command) -> Command:
    """Adds the options --sent-at, --test and --sent/--no-sent to a command."""
    sent_at = click.option(
        "--sent-at",
        callback=_parse_time,
        help="Time of sending, as 2026-11-30T09:00:00+01:00. A day, or a time without an offset, is in the "
        "campaign's time zone.",
    )
    test = click.option("--test", is_flag=True, help="The mail is your own trial: its opens are not counted.")
    sent = click.option(
        "--sent/--no-sent",
        default=None,
        help="Whether the mails of the list count as sent.  [default: --sent, if Redis answers]",
    )
    return sent_at(test(sent(command)))


def _parse_time(context: click.Context, option: click.Parameter, text: str | None) -> datetime | None:
    """Returns the time as written: without a time zone if it has no offset."""
    try:
        return None if text is None else parse_time(text)
    except ValueError:
        raise click.BadParameter("must be a date, or a date and time, as 2026-11-30T09:00:00+01:00") from None


def consent_option(command: Command) -> Command:
    """Adds the option --consent-ref to a command."""
    return click.option(
        "--consent-ref",
        callback=_parse_consent,
        metavar="VERSION@TIME",
        help="The consent of RECIPIENT, as 2026-05@2026-05-04T09:30:00Z. It is stored in Redis, and is not "
        "part of the link. A list has it in its column consent_ref.",
    )(command)


def _parse_consent(context: click.Context, option: click.Parameter, text: str | None) -> ConsentRef | None:
    try:
        return None if text is None else consent_ref.parse(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@contextlib.contextmanager
def count_sent(
    campaign: str,
    wants_count: bool | None,
    options: MintOptions,
    *,
    needs_consent: bool,
    has_consents: Callable[[], bool] = lambda: False,
    consent: ConsentRef | None = None,
) -> Iterator[CountSent]:
    """Yields a function that counts mails as sent, and stores consents.

    wants_count: whether to count; None counts if the store can be used. needs_consent: whether only
    recipients with a consent may be told apart. has_consents: function that returns whether the list has a
    column `consent_ref`; in such a list, an empty cell is no consent. consent: the consent of a single
    recipient. Raises Failure if `wants_count` is True or `consent` is given, and the store cannot be used.
    """
    is_test = options.get("test", False)
    if is_test and wants_count:
        raise click.UsageError("--test mails are not counted: leave out --sent")
    are_sent = wants_count is not False and not is_test
    offline = _Offline(has_consents)
    if not (are_sent or needs_consent or consent):
        yield offline.count
        return
    with contextlib.ExitStack() as stack:
        try:
            sending = Sending(campaign, options.get("sent_at"), are_sent, needs_consent, has_consents)
            count = stack.enter_context(_counting(sending))
        except (*ONE_LINE_ERRORS, lists.ListClosed, redis.RedisError, OSError) as error:
            what = "the consent is not stored" if consent else "the mails are not counted as sent"
            if wants_count or consent:
                raise Failure(f"{what}: {error}") from None
            settings = settings_here()
            if are_sent and (is_redis_url_set() or read_up_state(settings.data)):
                click.echo(f"pixel-server: {what}: {error}", err=True)
            count = offline.count
        yield count


def warn_without_consent(is_apart: bool) -> None:
    """Warns on standard error if a link does not tell its recipient apart for lack of a consent."""
    if not is_apart:
        click.echo(
            "pixel-server: no consent of this recipient is stored, so the link has the mode count; give "
            "--consent-ref, or upload the list with its column consent_ref",
            err=True,
        )


class Sending(NamedTuple):
    """The sending of mails. sent_at: time of sending (s), or None for now. are_sent: whether to count them.

    needs_consent, has_consents: see `count_sent`.
    """

    campaign: str
    sent_at: int | None
    are_sent: bool
    needs_consent: bool
    has_consents: Callable[[], bool]


class _Offline:
    """Counts nothing, and stores no consents. Warns once if there are consents."""

    def __init__(self, has_consents: Callable[[], bool]) -> None:
        self._has_consents = has_consents
        self._has_warned = False

    def count(self, entries: Sequence[ListEntry]) -> list[bool]:
        if not self._has_warned and any(entry.consent for entry in entries):
            self._has_warned = True
            click.echo(
                "pixel-server: the consents of the list are not stored: upload the list with "
                "`pixel-server campaign upload` before you send the mails",
                err=True,
            )
        return [entry.consent is not None or not self._has_consents() for entry in entries]


@contextlib.contextmanager
def _counting(sending: Sending) -> Iterator[CountSent]:
    """Yields the function that counts mails in the store. Raises an error if the store cannot be used."""
    campaign = sending.campaign
    settings = settings_here()
    url = store_url(settings)
    secrets = Secrets.load(settings.data, settings.signing_secrets, settings.recipient_secret)
    with client.connect(url, timeout=STORE_TIMEOUT_SECONDS) as probe:
        pipe = probe.pipeline(transaction=False)
        pipe.hget(keys.STORE, "recipient")
        if pipe.execute() != [secrets.fingerprints()[0].encode()]:
            raise StoreError("this Redis belongs to a server with other secrets")
    with asyncio.Runner() as runner:
        store = client.connect_async(url, timeout=10.0)
        try:
            runner.run(check_store(store, url, settings.shards, secrets, StoreMark(settings.data)))
            record = runner.run(storage.get(store, campaign))
            mode = Consent(settings).rule(record.mode, None).mode
            number = 0
            if mode >= Mode.PSEUDONYMOUS:
                lists.refuse_closed(record, with_names=False)
            now = time.time()
            sent_at = now if sending.sent_at is None else sending.sent_at
            store_rows = uploads.list_writer(
                *(store, secrets, settings, campaign, False, now, audit_log.COMMAND),
                mailed_at=sent_at if sending.are_sent else None,
            )

            async def put(entries: Sequence[ListEntry]) -> list[bool]:
                nonlocal number
                are_apart = await _are_apart(store, secrets, settings, sending, entries)
                to_store = [
                    entry
                    for entry, is_apart in zip(entries, are_apart, strict=True)
                    if is_apart and (sending.are_sent or entry.consent)
                ]
                if to_store:
                    await store_rows(to_store)
                number += are_apart.count(False)
                return are_apart

            def count_number(entries: Sequence[ListEntry]) -> list[bool]:
                nonlocal number
                number += 0 if mode is Mode.OFF else len(entries)
                return [True] * len(entries)

            yield count_number if mode < Mode.PSEUDONYMOUS else lambda entries: runner.run(put(entries))
            # The number is added only at the end. If it were added before a failure, the repeated command
            # would count the same mails twice, because a number does not say which recipients it counts.
            if number and sending.are_sent:
                runner.run(lists.count_mails(store, campaign, number))
        finally:
            runner.run(store.aclose())


async def _are_apart(
    store: AsyncRedis, secrets: Secrets, settings: Settings, sending: Sending, entries: Sequence[ListEntry]
) -> list[bool]:
    """Returns for each recipient whether a link may tell the recipient apart."""
    if sending.has_consents() or not sending.needs_consent:
        return [entry.consent is not None or not sending.has_consents() for entry in entries]
    recipients = [secrets.recipient_key(entry.recipient) for entry in entries]
    stored = await consents.read(store, sending.campaign, recipients, settings.shards)
    return [
        entry.consent is not None or key in stored for entry, key in zip(entries, recipients, strict=True)
    ]
