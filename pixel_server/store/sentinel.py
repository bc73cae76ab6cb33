"""Asks the sentinels for the address of the primary.

A sentinel may be wrong: it may be cut off from its peers, together with a primary that they have replaced. So
more than half of the sentinels in the URL must name the same address: two of two or three, three of five. If
the URL has one sentinel, nothing can contradict it.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections import Counter
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, cast

import hiredis
import redis

from pixel_server.store.tls import tls_context
from pixel_server.store_url import Address, StoreUrl, shown_address

ASK_SECONDS = 0.5
"""Seconds that each sentinel has to answer. All are asked at once."""
CHECK_SECONDS = 1.0
"""Seconds after which the sentinels are asked again."""
RETRY_SECONDS = 0.2
"""Seconds after a failure until the sentinels are asked again."""
TRUST_SECONDS = 5.0
"""Seconds for which the last agreed address is used while too few sentinels agree.

It is shorter than the time for which a web process keeps what it stored: what goes to a primary that was
replaced meanwhile is sent again to the new one.
"""


class NoPrimaryError(redis.ConnectionError):
    """The sentinels do not agree on a primary. The message is one line for the operator."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """Answer of a sentinel. primary: the address that it named. text: the answer for the operator."""

    sentinel: Address
    primary: Address | None
    text: str
    is_name_unknown: bool = False


class AgreedPrimary:
    """The address that the sentinels agreed on, and when to ask them again."""

    def __init__(self, url: StoreUrl) -> None:
        self.url = url
        self._address: Address | None = None
        self._asked_at = self._agreed_at = self._failed_at = float("-inf")
        self._failure = ""

    @property
    def address(self) -> Address:
        """Returns the agreed address. Raises NoPrimaryError if the sentinels were not asked yet."""
        if self._address is None:
            raise NoPrimaryError("the sentinels were not asked yet")
        return self._address

    def forget(self) -> None:
        """Makes the next `refresh` ask the sentinels, because the primary failed."""
        self._asked_at = self._agreed_at = float("-inf")

    async def refresh(self) -> Address:
        """Returns the primary's address. Asks the sentinels if CHECK_SECONDS have passed.

        Raises NoPrimaryError if they do not agree, and did not agree in the last TRUST_SECONDS.
        """
        if self._is_known():
            return self.address
        try:
            return self._agree(await ask(self.url))
        except NoPrimaryError as error:
            return self._trust(error)

    def refresh_sync(self) -> Address:
        """Returns what `refresh` returns."""
        if self._is_known():
            return self.address
        try:
            return self._agree(ask_sync(self.url))
        except NoPrimaryError as error:
            return self._trust(error)

    def _is_known(self) -> bool:
        """Returns whether the agreed address is new enough. Raises NoPrimaryError after a recent failure.

        Otherwise callers that wait for each other would wait for the sentinels one after the other.
        """
        now = time.monotonic()
        if now - self._failed_at < RETRY_SECONDS:
            raise NoPrimaryError(self._failure)
        return now - self._asked_at < CHECK_SECONDS

    def _agree(self, address: Address) -> Address:
        self._asked_at = self._agreed_at = time.monotonic()
        self._address = address
        return address

    def _trust(self, error: NoPrimaryError) -> Address:
        """Returns the last agreed address while it may be used. Raises `error` later."""
        now = time.monotonic()
        if now - self._agreed_at >= TRUST_SECONDS:
            self._failed_at, self._failure = now, str(error)
            raise error
        self._asked_at = now
        return self.address


async def ask(url: StoreUrl) -> Address:
    """Returns the primary's address as soon as enough sentinels agree. Raises NoPrimaryError otherwise."""
    try:
        tls = tls_context(url)
    except OSError as error:
        raise NoPrimaryError(f"cannot read the files for TLS: {error}") from None
    tasks = [asyncio.create_task(_ask_one(url, sentinel, tls)) for sentinel in url.addresses]
    answers: dict[Address, _Answer] = {}
    try:
        for next_answer in asyncio.as_completed(tasks):
            answer = await next_answer
            answers[answer.sentinel] = answer
            if address := _agreed(answers, len(tasks)):
                return address
    finally:
        for task in tasks:
            task.cancel()
    raise NoPrimaryError(_disagreement(url, answers))


def ask_sync(url: StoreUrl) -> Address:
    """Returns what `ask` returns. Runs in a thread of its own, because this thread may have an event loop."""
    result: Future[Address] = Future()

    def run() -> None:
        try:
            result.set_result(asyncio.run(ask(url)))
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        return result.result(ASK_SECONDS * 4)
    except TimeoutError:  # looking up a name may hang
        raise NoPrimaryError(f"the sentinels of {url.shown()} do not answer") from None


def _needed(count: int) -> int:
    """Returns how many of `count` sentinels must agree."""
    return count // 2 + 1


def _agreed(answers: dict[Address, _Answer], count: int) -> Address | None:
    """Returns the address that enough of `count` sentinels named, or None."""
    votes = Counter(answer.primary for answer in answers.values() if answer.primary is not None)
    return next((address for address, number in votes.items() if number >= _needed(count)), None)


def _disagreement(url: StoreUrl, answers: dict[Address, _Answer]) -> str:
    """Returns one line about sentinels that do not agree."""
    if all(answer.is_name_unknown for answer in answers.values()):
        return (
            f"no sentinel of {url.shown()} knows a primary of the name {url.name!r}: the address must end "
            "in the name that the sentinels' configuration has after `sentinel monitor`"
        )
    count = len(url.addresses)
    texts = "; ".join(f"{shown_address(sentinel)} {answers[sentinel].text}" for sentinel in url.addresses)
    if count == 1:
        return f"the sentinel does not name the primary {url.name!r}: {texts}"
    return f"{_needed(count)} of {count} sentinels must agree on the primary {url.name!r}: {texts}"


async def _ask_one(url: StoreUrl, sentinel: Address, tls: ssl.SSLContext | None) -> _Answer:
    try:
        async with asyncio.timeout(ASK_SECONDS):
            reply = await _request_address(url, sentinel, tls)
    except TimeoutError:
        return _Answer(sentinel, None, f"does not answer within {ASK_SECONDS} s")
    except (OSError, EOFError) as error:
        return _Answer(sentinel, None, f"does not answer ({str(error) or type(error).__name__})")
    except hiredis.HiredisError as error:
        return _Answer(sentinel, None, f"answers {error}")
    if reply is None:
        return _Answer(sentinel, None, f"knows no {url.name!r}", is_name_unknown=True)
    try:
        host, port = reply
        primary = host.decode(), int(port)
    except (ValueError, TypeError, AttributeError):
        return _Answer(sentinel, None, f"gives no address ({reply!r:.50})")
    return _Answer(sentinel, primary, f"names {shown_address(primary)}")


async def _request_address(url: StoreUrl, sentinel: Address, tls: ssl.SSLContext | None) -> Any:
    """Returns host and port of the primary, as bytes, or None if the sentinel does not know its name.

    Raises OSError or EOFError if the sentinel is away, and hiredis.HiredisError if it refuses.
    """
    commands: list[tuple[str, ...]] = [("SENTINEL", "GET-MASTER-ADDR-BY-NAME", url.name)]
    if url.sentinel_sign_in.password:
        user = (url.sentinel_sign_in.username,) if url.sentinel_sign_in.username else ()
        commands.insert(0, ("AUTH", *user, url.sentinel_sign_in.password))
    reader, writer = await asyncio.open_connection(*sentinel, ssl=tls)
    try:
        writer.writelines(hiredis.pack_command(cast(Any, command)) for command in commands)
        parser = hiredis.Reader()
        for _ in commands:
            while (reply := parser.gets()) is False:
                if not (data := await reader.read(4096)):
                    raise EOFError("connection closed")
                parser.feed(data)
            if isinstance(reply, hiredis.ReplyError):
                raise reply
        return reply
    finally:
        writer.transport.abort()
