"""`/privacy`: the page on which a recipient stops the recording. The privacy link of any mail leads here.

The link holds a token. Without a token, the page is about the browser that shows it; see `browser_endpoint`.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import redis
from starlette.requests import Request
from starlette.responses import Response

from pixel_server.api import request_form, request_stream
from pixel_server.api.context import Api
from pixel_server.campaigns import retention
from pixel_server.campaigns.campaign import UnreadableCampaign
from pixel_server.campaigns.retention import KeepDays
from pixel_server.campaigns.storage import UnknownCampaign, get
from pixel_server.consent_ref import ConsentRef
from pixel_server.counters.stored_format import NewerFormat
from pixel_server.logs import Log
from pixel_server.privacy import action_limit, browser_endpoint
from pixel_server.privacy.document import headers
from pixel_server.privacy.recipient_page import State, View, render
from pixel_server.privacy.texts import choose_language
from pixel_server.problems import Problem
from pixel_server.recipients import consents, erasure, withdrawals
from pixel_server.store import audit_log, replication
from pixel_server.tokens import BadToken, Mode, mode_of, verify

log = Log(__name__)

_MAX_BODY_BYTES = 4096
_STATUS = {State.FOREIGN: 404, State.UNAVAILABLE: 503, State.THROTTLED: 429}
_ACTIONS = ("stop", "erase", "allow")


@dataclass(frozen=True, slots=True)
class Privacy:
    """Handler of `/privacy`.

    GET changes nothing, because scanners follow links. POST acts on the page's form.
    """

    api: Api

    async def answer(self, request: Request) -> Response:
        try:
            request_form.check_query(request)
        except Problem as problem:
            return problem.response()
        if request.method != "POST":
            query = request.query_params
            return await self._answer(request, query.get("t", ""), "", query.get("c", ""))
        if request_form.is_cross_site(request, self.api.settings.base_url):
            return Response("this form was sent by another site; nothing was changed", 403)
        try:
            fields = await request_form.read_form(request, _MAX_BODY_BYTES)
        except request_stream.BodyError as error:
            return Response(f"this form {error}; nothing was changed", error.status, error.headers)
        return await self._answer(request, fields.get("t", ""), fields.get("do", ""), fields.get("c", ""))

    async def _answer(self, request: Request, token: str, action: str, web_campaign: str) -> Response:
        """Answers with the recipient's page of a token, or with the browser's page if `token` is empty.

        action: value of the pressed button, or "". web_campaign: id of the web campaign whose site links to
        the browser's page or frames that page; a client can send any text.
        """
        if not token:
            return await browser_endpoint.answer(self.api, request, web_campaign, action)
        try:
            # Links of any age work here, and links of deleted campaigns too.
            flags, _, recipient, campaign = verify(token.encode("utf-8", "replace"), self.api.secrets.signing)
        except BadToken:
            return self._page(request, State.FOREIGN, "", Mode.COUNT)
        mode = Mode(mode_of(flags))
        keep_days = retention.server_days(self.api.settings)
        if not recipient:
            return self._page(request, State.ANONYMOUS, token, mode, keep_days)
        consent: ConsentRef | None = None
        try:
            if self.api.campaign_cache.mark.trouble:
                return self._page(request, State.UNAVAILABLE, token, mode, keep_days)
            if wait_seconds := await self._act(recipient, action):
                response = self._page(request, State.THROTTLED, token, mode, keep_days)
                response.headers["retry-after"] = str(wait_seconds)
                return response
            state = await self._state(recipient)
            consent = await self._consent(campaign, recipient)
            with suppress(UnknownCampaign, UnreadableCampaign):
                stored = await get(self.api.store, campaign)
                keep_days = retention.campaign_days(self.api.settings, stored)
                if consents.needs_consent(stored) and consent is None:
                    mode = min(mode, Mode.COUNT)
        except (redis.RedisError, OSError, NewerFormat) as error:
            # A Redis that hangs may still carry out the action later.
            log.error(
                "privacy-page-failed",
                "%(action)s failed on the privacy page, the recipient is asked to try again: %(error)s",
                action=action if action in _ACTIONS else "look-up",
                error=error,
            )
            state = State.UNAVAILABLE
        return self._page(request, state, token, mode, keep_days, consent)

    async def _consent(self, campaign: str, recipient: bytes) -> ConsentRef | None:
        """Returns the stored consent of a recipient key in a campaign, or None."""
        api = self.api
        stored = await consents.read(api.store, campaign, [recipient], api.settings.shards)
        return stored.get(recipient)

    async def _state(self, recipient: bytes) -> State:
        """Returns the state of a recipient's withdrawal and erasure. recipient: the recipient key."""
        periods = await withdrawals.get_periods(self.api.store, self.api.secrets, recipient)
        is_owed = await erasure.is_owed(self.api.store, self.api.secrets, recipient)
        if not withdrawals.is_withdrawn(periods):
            return State.RECORDED
        if is_owed:
            return State.ERASING
        return State.ERASED if periods[-1][0] == 0 else State.STOPPED

    async def _act(self, recipient: bytes, action: str) -> int:
        """Carries out a recipient's action, and returns 0.

        After too many actions, changes nothing, and returns the seconds to wait.
        """
        api = self.api
        store, secrets, now = api.store, api.secrets, api.clock()
        if action not in _ACTIONS:
            return 0
        if wait_seconds := await action_limit.count_action(store, secrets.withdrawal_mark(recipient), now):
            return wait_seconds
        if action == "stop":
            if await withdrawals.withdraw(store, secrets, [recipient], now, api.settings.shards):
                await audit_log.note_recipient(store, "recipient.stopped")
        elif action == "erase":
            await erasure.request_erasure(store, secrets, recipient, now, api.settings.shards)
        elif await withdrawals.allow(store, secrets, [recipient], now):
            await audit_log.note_recipient(store, "recipient.allowed")
        api.withdrawn.learn(recipient, action != "allow")
        await replication.confirm(store)
        return 0

    def _page(
        self,
        request: Request,
        state: State,
        token: str,
        mode: Mode,
        keep_days: KeepDays | None = None,
        consent: ConsentRef | None = None,
    ) -> Response:
        """Returns the page.

        keep_days: days for which data is kept; None if the page must not show the days. consent: the stored
        consent of the recipient, or None.
        """
        settings = self.api.settings
        days = {**(keep_days._asdict() if keep_days else {}), "dead_letters": settings.keep_dead_letters}
        view = View(state, "privacy", token, settings.operator, mode, days, consent)
        return Response(
            render(view, choose_language(request.headers.get("accept-language", ""))),
            _STATUS.get(state, 200),
            headers(),
            "text/html; charset=utf-8",
        )
