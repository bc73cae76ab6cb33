"""The options of `link` and `embed` about the sending of mails, and the counting of mails as `sent`."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, TypeVar

import click
import redis

from pixel_server.api import uploads
from pixel_server.campaigns import storage
from pixel_server.commands.failures import ONE_LINE_ERRORS, Failure
from pixel_server.commands.minting import STORE_TIMEOUT_SECONDS
from pixel_server.commands.support import is_redis_url_set, settings_here, store_url
from pixel_server.consent import Consent
from pixel_server.mail.links import MintOptions
from pixel_server.recipients import lists
from pixel_server.recipients.lists import ListEntry
from pixel_server.run.up_state import read_up_state
from pixel_server.secret import Secrets
from pixel_server.store import audit_log, client, keys
from pixel_server.store.client import StoreError
from pixel_server.store.compatibility import check_store
from pixel_server.store.store_mark import StoreMark
from pixel_server.times import parse_time
from pixel_server.tokens import Mode

Command = TypeVar("Command", bound=Callable[..., Any])
CountSent = Callable[[Sequence[str]], None]
"""Function that counts the mails to some recipients as sent."""


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


@contextlib.contextmanager
def count_sent(campaign: str, wants_count: bool | None, options: MintOptions) -> Iterator[CountSent]:
    """Yields a function that counts mails as sent, as --sent, --test and --sent-at say.

    wants_count: whether to count; None counts if the store can be used. Raises Failure if `wants_count` is
    True and the store cannot be used.
    """
    is_test = options.get("test", False)
    if is_test and wants_count:
        raise click.UsageError("--test mails are not counted: leave out --sent")
    if is_test or wants_count is False:
        yield _count_nothing
        return
    with contextlib.ExitStack() as stack:
        try:
            count = stack.enter_context(_counting(campaign, options.get("sent_at")))
        except (*ONE_LINE_ERRORS, lists.ListClosed, redis.RedisError, OSError) as error:
            message = f"the mails are not counted as sent: {error}"
            if wants_count:
                raise Failure(message) from None
            settings = settings_here()
            if is_redis_url_set() or read_up_state(settings.data):
                click.echo(f"pixel-server: {message}", err=True)
            count = _count_nothing
        yield count


def _count_nothing(recipients: Sequence[str]) -> None:
    """Does nothing. Used if mails are not counted."""


@contextlib.contextmanager
def _counting(campaign: str, sent_at: int | None) -> Iterator[CountSent]:
    """Yields the function that counts mails in the store. Raises an error if the store cannot be used."""
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
            if mode is Mode.OFF:
                yield _count_nothing
                return
            if mode < Mode.PSEUDONYMOUS:
                number = 0

                def count_number(recipients: Sequence[str]) -> None:
                    nonlocal number
                    number += len(recipients)

                yield count_number
                # The number is added only at the end. If it were added before a failure, the repeated command
                # would count the same mails twice, because a number does not say which recipients it counts.
                if number:
                    runner.run(lists.count_mails(store, campaign, number))
                return
            lists.refuse_closed(record, with_names=False)
            now = time.time()
            mailed_at = now if sent_at is None else sent_at
            store_rows = uploads.list_writer(
                store, secrets, settings, campaign, False, now, audit_log.COMMAND, mailed_at=mailed_at
            )

            async def put(recipients: Sequence[str]) -> None:
                await store_rows([ListEntry(recipient, None) for recipient in recipients])

            yield lambda recipients: runner.run(put(recipients))
        finally:
            runner.run(store.aclose())
