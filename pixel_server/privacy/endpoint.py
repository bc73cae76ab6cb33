"""/privacy: the page on which a recipient stops being recorded, with the link of any mail.

Without a link's token it is of the browser that shows it: see `opt_out`.
"""

from __future__ import annotations

import logging
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
from pixel_server.counters.stored_format import NewerFormat
from pixel_server.privacy import action_limit, browser_endpoint
from pixel_server.privacy.recipient_page import State, View, headers, language, render
from pixel_server.problems import Problem
from pixel_server.recipients import erasure, withdrawals
from pixel_server.store import audit_log
from pixel_server.tokens import BadToken, Mode, mode_of, verify

log = logging.getLogger("pixel_server.privacy")

_MOST_BODY = 4096
_STATUS = {State.FOREIGN: 404, State.AWAY: 503, State.LATER: 429}
_WISHES = ("stop", "erase", "allow")


@dataclass(frozen=True, slots=True)
class Privacy:
    """GET shows, and changes nothing: scanners follow links. POST changes, if the page itself sent it."""

    api: Api

    async def answer(self, request: Request) -> Response:
        try:
            request_form.check_query(request)
        except Problem as problem:
            return problem.response()
        if request.method == "POST":
            if request_form.is_cross_site(request, self.api.settings.base_url):
                return Response("this form was sent by another site; nothing was changed", 403)
            try:
                fields = await request_form.read_form(request, _MOST_BODY)
            except request_stream.BodyError as error:
                return Response(f"this form {error}; nothing was changed", error.status, error.headers)
            token, wish, site = (fields.get(name, "") for name in ("t", "do", "c"))
        else:
            query = request.query_params
            token, wish, site = query.get("t", ""), "", query.get("c", "")
        if not token:
            return await browser_endpoint.answer(self.api, request, site, wish)
        try:
            # Neither the link's age nor what became of its campaign matters here.
            flags, _, recipient, campaign = verify(token.encode("utf-8", "replace"), self.api.secrets.signing)
        except BadToken:
            return self._page(request, State.FOREIGN, "", Mode.COUNT)
        mode = Mode(mode_of(flags))
        keep = retention.server_days(self.api.settings)
        if not recipient:
            return self._page(request, State.ANONYMOUS, token, mode, keep)
        try:
            if self.api.campaign_cache.mark.trouble:
                return self._page(request, State.AWAY, token, mode, keep)
            if wait := await self._change(recipient, wish):
                answer = self._page(request, State.LATER, token, mode, keep)
                answer.headers["retry-after"] = str(wait)
                return answer
            found = await withdrawals.get_periods(self.api.store, self.api.secrets, recipient)
            is_owed = await erasure.is_owed(self.api.store, self.api.secrets, recipient)
            with suppress(UnknownCampaign, UnreadableCampaign):
                keep = retention.campaign_days(self.api.settings, await get(self.api.store, campaign))
        except (redis.RedisError, OSError, NewerFormat) as error:
            # One that hangs may do it yet, once it goes on.
            log.error("privacy: %s is not done: %s", wish or "looking", error)
            return self._page(request, State.AWAY, token, mode, keep)
        state = State.RECORDED
        if withdrawals.is_withdrawn(found):
            state = State.ERASED if found[-1][0] == 0 else State.STOPPED
            if is_owed:
                state = State.ERASING
        return self._page(request, state, token, mode, keep)

    async def _change(self, recipient: bytes, wish: str) -> int:
        """Does what a recipient wishes. Returns the seconds to wait if there were too many wishes, else 0."""
        api = self.api
        store, secrets, now = api.store, api.secrets, api.clock()
        if wish not in _WISHES:
            return 0
        if wait := await action_limit.count_action(store, secrets.withdrawal_mark(recipient), now):
            return wait
        if wish == "stop":
            if await withdrawals.withdraw(store, secrets, [recipient], now, api.settings.shards):
                await audit_log.note_recipient(store, "recipient.stopped")
        elif wish == "erase":
            await erasure.request_erasure(store, secrets, recipient, now, api.settings.shards)
        elif await withdrawals.allow(store, secrets, [recipient], now):
            await audit_log.note_recipient(store, "recipient.allowed")
        api.withdrawn.learn(recipient, wish != "allow")
        return 0

    def _page(
        self, request: Request, state: State, token: str, mode: Mode, keep: KeepDays | None = None
    ) -> Response:
        settings = self.api.settings
        days = {**(keep._asdict() if keep else {}), "dead_letters": settings.keep_dead_letters}
        view = View(state, "privacy", token, settings.operator, mode, days)
        return Response(
            render(view, language(request.headers.get("accept-language", ""))),
            _STATUS.get(state, 200),
            headers(),
            "text/html; charset=utf-8",
        )
