"""Delivers one unit to its endpoint, and decides what follows from the answer."""

from __future__ import annotations

import email.utils
import random
import time
from dataclasses import dataclass
from typing import NamedTuple

from pixel_server.logs import Log
from pixel_server.settings import Settings
from pixel_server.store.protocols import AsyncRedis
from pixel_server.webhooks import deliveries, event, queue, request, signing, storage
from pixel_server.webhooks.deliveries import Delivery
from pixel_server.webhooks.endpoint import Endpoint
from pixel_server.webhooks.queue import Unit
from pixel_server.webhooks.request import Answer, NoAnswerError, NotSentError
from workers import webhook_content
from workers.webhook_content import Content

log = Log(__name__)

FIRST_RETRY_SECONDS, RETRY_FACTOR, MAX_RETRY_SECONDS = 2.0, 4.0, 4 * 3600.0
"""A unit is tried again after about 2 s, 8 s, 32 s and so on, and at the most 4 hours."""
JITTER = 0.2
"""Part by which a wait is made longer or shorter at random, so that endpoints are not asked in step."""
MAX_PAUSE_SECONDS = 300.0
"""Longest pause of an endpoint that keeps failing. In a pause nothing is sent to it; then one unit is."""
MAX_RETRY_AFTER_SECONDS = 6 * 3600.0
"""Longest pause that an endpoint can ask for with `Retry-After`."""
GONE = 410
ASKS_FOR_PAUSE = (429, 503)


class Verdict(NamedTuple):
    """Decision after a try. answer: for the log.

    retry_ms: ms until the next try of the unit, None for none. pause_ms: ms for which nothing is sent to the
    endpoint.
    """

    is_delivered: bool
    answer: str
    retry_ms: int | None = None
    pause_ms: int = 0


def judge(answer: Answer | str, unit: Unit, failures: int, jitter: float = 0.0) -> Verdict:
    """Returns what follows from an answer, or from the text of an error.

    failures: tries that failed since the last success. jitter: from -1 to 1.
    """
    if isinstance(answer, Answer) and 200 <= answer.status < 300:
        return Verdict(True, answer.body)
    factor = 1 + JITTER * jitter
    wait = min(MAX_RETRY_SECONDS, FIRST_RETRY_SECONDS * RETRY_FACTOR**unit.tries) * factor
    pause = min(MAX_PAUSE_SECONDS, 2.0 ** min(failures, 20)) * factor
    text = answer
    if isinstance(answer, Answer):
        text = answer.body
        if 300 <= answer.status < 400:
            text = "redirects are not followed: give the endpoint's final address"
        if answer.status in ASKS_FOR_PAUSE:
            asked = _retry_after(answer.retry_after, unit.claimed / 1000)
            wait, pause = max(wait, asked), max(pause, asked)
    left = queue.MAX_AGE_SECONDS - (unit.claimed - unit.queued) / 1000
    if left <= 0:
        return Verdict(False, str(text), None, int(pause * 1000))
    return Verdict(False, str(text), int(min(wait, left) * 1000), int(pause * 1000))


def _retry_after(value: str, now: float) -> float:
    """Returns the seconds that a header `Retry-After` asks for, 0 if it cannot be read (RFC 9110, 10.2.3)."""
    if value.strip().isdecimal():
        seconds = float(value)
    else:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - now
        except (ValueError, TypeError):
            return 0.0
    return min(max(0.0, seconds), MAX_RETRY_AFTER_SECONDS)


@dataclass(slots=True)
class Sender:
    """Delivers units. failures: number of tries since the last success, by endpoint."""

    store: AsyncRedis
    settings: Settings
    failures: dict[str, int]

    async def deliver(self, endpoint: Endpoint, unit: Unit) -> None:
        """Sends a unit, and stores what came of it. Raises redis.RedisError or OSError if Redis is away."""
        content = await webhook_content.make(self.store, self.settings, unit.events)
        await queue.forget(self.store, endpoint.id, unit, content.left_out)
        if not content.payloads:
            return
        started = time.monotonic()
        answer = await self._send(endpoint, unit, content)
        ms = int((time.monotonic() - started) * 1000)
        failures = self.failures.get(endpoint.id, 0)
        reply = answer if isinstance(answer, Answer) else str(answer)
        verdict = judge(reply, unit, failures, random.uniform(-1, 1))  # noqa: S311 - jitter
        is_list = endpoint.events_per_request > 1
        line = Delivery(
            at=unit.claimed,
            webhook_id=unit.id,
            type=event.LIST if is_list else unit.events[0].type,
            events=len(content.payloads),
            attempt=unit.tries + 1,
            status=answer.status if isinstance(answer, Answer) else None,
            ms=ms,
            answer=deliveries.shorten(verdict.answer, content.personal),
            outcome=_outcome(verdict),
            was_sent=not isinstance(answer, NotSentError),
        )
        if verdict.is_delivered:
            if self.failures.pop(endpoint.id, None):
                log.info("webhook-works", "the webhook %(webhook)s works again", webhook=endpoint.id)
            await queue.note_delivered(self.store, endpoint.id, unit, line)
        else:
            await self._note_failed(endpoint, unit, line, verdict)

    async def _send(self, endpoint: Endpoint, unit: Unit, content: Content) -> Answer | NoAnswerError:
        """Returns the endpoint's answer, or the error whose text says why no answer came."""
        now = unit.claimed / 1000
        body = content.body(endpoint.events_per_request > 1, unit.claimed)
        secrets = endpoint.signing_secrets(now)
        try:
            return await request.post(
                endpoint.url,
                signing.headers(unit.id, now, body, secrets),
                body,
                is_private_allowed=bool(self.settings.webhook_private),
            )
        except NoAnswerError as error:
            return error

    async def _note_failed(self, endpoint: Endpoint, unit: Unit, line: Delivery, verdict: Verdict) -> None:
        self.failures[endpoint.id] = await queue.note_failed(
            self.store, endpoint.id, unit, line, retry_ms=verdict.retry_ms, pause_ms=verdict.pause_ms
        )
        if self.failures[endpoint.id] == 1:
            log.warning(
                "webhook-failing",
                "the webhook %(webhook)s fails, trying again for a day: %(answer)s",
                webhook=endpoint.id,
                answer=deliveries.failure(line) if line.status is None else f"answered {line.status}",
            )
        if verdict.retry_ms is None:
            log.error(
                "webhook-set-aside",
                "the webhook %(webhook)s took %(events)d events in no try of a day: they are set aside, send "
                "them again when it works",
                webhook=endpoint.id,
                events=line.events,
            )
        if line.status == GONE:
            await storage.disable(self.store, endpoint.id, "answered 410 Gone")


def _outcome(verdict: Verdict) -> str:
    if verdict.is_delivered:
        return "delivered"
    return "set aside" if verdict.retry_ms is None else "retry"
