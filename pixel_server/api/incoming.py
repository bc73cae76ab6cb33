"""`POST /in/PROVIDER/SECRET`: takes the events that a mail service reports.

A provider repeats a request that is not answered with 2xx, and SNS gives up at 4xx. So 503 is the answer to
all that may pass by itself: Redis is away, a key is not set yet, the certificate of SNS cannot be fetched.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api import request_form
from pixel_server.api.context import Api
from pixel_server.api.deliveries import new_taker
from pixel_server.api.errors import EXPECTED_ERRORS, problem_of
from pixel_server.api.media_types import refuse_codings
from pixel_server.api.request_stream import BodyError, read_body
from pixel_server.api.routing import refuse_other_store, reply
from pixel_server.auth import throttle
from pixel_server.campaigns.campaign import UnreadableCampaign
from pixel_server.deliveries import providers, sendgrid, sources
from pixel_server.deliveries.event import MAX_ERRORS, BadPayload, BadSignature, Events, Head
from pixel_server.deliveries.sns import Certificates
from pixel_server.deliveries.sources import Source
from pixel_server.logs import Log
from pixel_server.problems import Problem
from pixel_server.webhooks import request as outgoing

log = Log(__name__)

PATH = "/in/{provider}/{secret}"
MAX_BODY_BYTES = 10 << 20
MAX_BODIES = 8
"""Largest number of requests whose bodies are in memory at a time. Further requests are answered 503."""
FETCH_TIMEOUT_SECONDS = 10.0
"""Seconds within which SNS must answer."""
_CLOSE = {"Connection": "close"}


async def fetch(url: str) -> str:
    """Returns the text at a URL of SNS. Raises NoAnswerError if the answer is not 200."""
    answer = await outgoing.get(url, is_private_allowed=False, timeout_seconds=FETCH_TIMEOUT_SECONDS)
    if answer.status != 200:
        raise outgoing.NoAnswerError(f"answered {answer.status}")
    return answer.body


@dataclass(slots=True)
class Incoming:
    """Handler of `PATH`. bodies: number of requests whose bodies are being read or handled."""

    api: Api
    certificates: Certificates = field(default_factory=lambda: Certificates(fetch))
    bodies: int = 0

    async def answer(self, request: Request) -> Response:
        try:
            request_form.check_query(request)
            refuse_other_store(self.api)
            source = await self._find_source(request)
            if self.bodies >= MAX_BODIES:
                raise Problem(503, "too many reports come at the moment", headers=_retry(5))
            self.bodies += 1
            try:
                return await self._take(request, source)
            finally:
                self.bodies -= 1
        except UnreadableCampaign as error:
            return Problem(503, f"{error}; update this server").response()
        except EXPECTED_ERRORS as error:
            return problem_of(error, request).response()

    async def _find_source(self, request: Request) -> Source:
        """Returns the source of a request. Raises Problem 404, or 429 if too many wrong secrets come."""
        provider, secret = request.path_params["provider"], request.path_params["secret"]
        source = await sources.find(self.api.store, provider, secret)
        if source is not None:
            return source
        if await self.api.throttle.delay_failure(request, self.api.clock()):
            raise Problem(404, "there is nothing at this address", headers=_CLOSE)
        headers = {**_CLOSE, "Retry-After": str(throttle.RETRY_SECONDS)}
        raise Problem(429, "too many requests to wrong addresses come at the moment", headers=headers)

    async def _take(self, request: Request, source: Source) -> Response:
        api = self.api
        events = await self._read(request, source)
        taker = new_taker(api, f"source {source.id}")
        await taker.take(events.deliveries)
        await taker.confirm()
        taken = taker.taken
        counted = len(events.deliveries) - taken.ignored.total()
        if events.other:
            taken.ignored["other_event"] = events.other
        ignored = taken.ignored.total() + len(events.errors)
        api.reported.update({(source.provider, "counted"): counted, (source.provider, "ignored"): ignored})
        await sources.note_use(api.store, source, api.clock(), counted=counted, ignored=ignored)
        errors = [{"item": error.item, "message": error.message} for error in events.errors[:MAX_ERRORS]]
        if events.errors:
            log.warning(
                "events-left-out",
                "source %(source)s of %(provider)s: %(events)d events cannot be used; event %(item)d: "
                "%(reason)s",
                source=source.id,
                provider=source.provider,
                events=len(events.errors),
                item=events.errors[0].item,
                reason=events.errors[0].message,
            )
        return reply({**taken.to_json(), "errors": errors})

    async def _read(self, request: Request, source: Source) -> Events:
        """Returns the events of a request. Raises Problem if it is not signed or cannot be read."""
        provider, key, now = source.provider, source.key, self.api.clock()
        if key is None and providers.PROVIDERS[provider].is_key_needed:
            raise Problem(
                503, f"this source has no key yet: set it with `pixel-server deliveries key {source.id}`"
            )
        refuse_codings(request)
        try:
            body = await read_body(request, MAX_BODY_BYTES)
        except BodyError as error:
            raise Problem(error.status, f"the body {error}", headers=error.headers) from None
        try:
            if provider == "ses":
                return await providers.read_sns(body, key or "", self.certificates, now)
            return await asyncio.to_thread(providers.read_signed, provider, body, _head(request), key, now)
        except outgoing.NoAnswerError as error:
            _report(source, f"SNS cannot be asked: {error}")
            raise Problem(503, f"SNS {error}; try again", headers=_retry(30)) from None
        except BadSignature as error:
            _report(source, str(error))
            self.api.reported[provider, "refused"] += 1
            raise Problem(403, str(error)) from None
        except BadPayload as error:
            _report(source, str(error))
            self.api.reported[provider, "refused"] += 1
            raise Problem(400, str(error)) from None


def _head(request: Request) -> Head:
    headers = request.headers
    return Head(
        headers.get("authorization", ""),
        headers.get(sendgrid.SIGNATURE_HEADER, ""),
        headers.get(sendgrid.TIMESTAMP_HEADER, ""),
    )


def _report(source: Source, reason: str) -> None:
    log.warning(
        "events-refused",
        "source %(source)s of %(provider)s: a request is refused: %(reason)s",
        source=source.id,
        provider=source.provider,
        reason=reason,
    )


def _retry(seconds: int) -> dict[str, str]:
    return {"Retry-After": str(seconds)}
