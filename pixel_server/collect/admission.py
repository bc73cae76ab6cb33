"""The door: what is a good pixel request, and the hit it becomes. Asks nobody; computes only."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Literal, NamedTuple

import msgspec

from pixel_server import hit
from pixel_server.campaigns.cache import PLAIN, Directory, Web
from pixel_server.collect import beacon, responses, visitor_cookie
from pixel_server.collect.client_address import ClientAddress
from pixel_server.collect.page_params import NOTHING, Said, of_query
from pixel_server.collect.request_head import Head
from pixel_server.collect.responses import Answer
from pixel_server.consent import Consent, allowed
from pixel_server.hit import Hit
from pixel_server.recipients.withdrawals import Withdrawn
from pixel_server.secret import Secrets
from pixel_server.settings import Settings, cookie_path
from pixel_server.slug import is_slug_bytes
from pixel_server.store import keys, shards
from pixel_server.times import DAY
from pixel_server.tokens import BadToken, Mode, mode_of, read, with_mode

OPEN, PAGE = b"/o/", b"/p/"
SUFFIX = b".gif"
_METHODS = frozenset({"GET", "HEAD"})


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """A hit to be recorded. shard: None where any will do. answer: once it is stored."""

    shard: int | None
    data: bytes
    answer: Answer = responses.RECORDED


class _Who(NamedTuple):
    """Where a page's hit goes, and what it says of its visitor; see `hit.Hit`."""

    shard: int
    visitor: bytes = b""
    visits: int = 0
    is_new: bool = False
    answer: Answer = responses.RECORDED


class Door:
    """Decides on pixel requests, by what this process knows.

    `recent` holds the client addresses of the last hits, for `/readyz` to notice a forgotten proxy;
    `dropped`, by campaign and why (`keys.dropped`), how many opens and views said no, and how many requests
    came from where they must not come from.
    """

    def __init__(
        self,
        settings: Settings,
        secrets: Secrets,
        directory: Directory,
        consent: Consent,
        withdrawn: Withdrawn,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._secrets = secrets
        self._directory = directory
        self._default = consent.default
        self._withdrawn = withdrawn
        self._keeps_all = consent.default.mode >= Mode.PSEUDONYMOUS
        self._address = ClientAddress(settings)
        self._lifetime = settings.token_days * DAY
        self._shards = settings.shards
        self._path = cookie_path(settings.base_url)
        self._clock = clock
        self.recent: deque[bytes] = deque(maxlen=1000)
        self.dropped: Counter[str] = Counter()

    def check(
        self, method: str, path: bytes, query: bytes, head: Head, peer: str | None
    ) -> Answer | Accepted:
        """What becomes of a request under /o/ or /p/.

        path: as it was sent, undecoded, without query.
        """
        name = path[3 : -len(SUFFIX)]
        if not path.endswith(SUFFIX) or not name:
            return responses.NOT_FOUND
        if path.startswith(OPEN):
            return self.mail(method, name, head, peer)
        if path.startswith(PAGE):
            return self._page(method, name, query, head, peer)
        return responses.NOT_FOUND

    def mail(self, method: str, name: bytes, head: Head, peer: str | None) -> Answer | Accepted:
        """What becomes of a request for a mail's pixel. name: the token, or what stands in its place."""
        try:
            flags, token_time, recipient, campaign = read(name, self._secrets.signing)
        except BadToken:
            return responses.BAD_TOKEN
        if method not in _METHODS:
            return _other_method(method)
        if campaign in self._directory.gone:
            return responses.GONE
        if self._directory.is_web(campaign):
            return responses.KIND
        now = self._clock()
        if token_time + self._lifetime < now:
            return responses.EXPIRED
        if recipient and recipient in self._withdrawn:
            return responses.WITHDRAWN
        if head.opted_out:
            self._drop(campaign, "out")
            return responses.OPTED_OUT
        if head.asks or not self._keeps_all or campaign in self._directory.rules:
            mode = self._allowed(campaign, mode_of(flags), head)
            if mode == Mode.OFF:
                return self._ignored(campaign, head, NOTHING)
            if mode == Mode.COUNT:  # as if the link had been made so
                recipient, token_time = b"", token_time - token_time % DAY
            flags = with_mode(flags, mode)
        address = self._address.of(peer, head.headers)
        data = hit.encode(
            Hit(
                int(now * 1000),
                campaign,
                hit.EMAIL,
                method,
                flags,
                token_time,
                recipient,
                b"",
                address,
                *head.evidence,
            )
        )
        self.recent.append(address)
        return Accepted(shards.of_key(recipient, self._shards) if recipient else None, data)

    def _page(
        self, method: str, name: bytes, query: bytes, head: Head, peer: str | None
    ) -> Answer | Accepted:
        if not is_slug_bytes(name):
            return responses.NO_CAMPAIGN
        campaign = name.decode()
        if campaign in self._directory.gone:
            return responses.GONE if method in _METHODS else _other_method(method)
        if not self._directory.is_web(campaign):
            return responses.NO_CAMPAIGN
        if method not in _METHODS:
            return _other_method(method)
        return self.view(method, campaign, of_query(query), head, peer)

    def beacon(self, method: str, campaign: str, head: Head) -> Answer | None:
        """What becomes of a POST to `/p/{campaign}`, or of an OPTIONS before it; None: go by its body.

        campaign: a slug.
        """
        if campaign in self._directory.gone:
            return responses.GONE if method == "POST" else responses.PREFLIGHT
        if not self._directory.is_web(campaign):
            return responses.NO_CAMPAIGN
        if not beacon.is_welcome(head.headers.get(b"origin"), self._web(campaign).origins):
            self.dropped[keys.dropped(campaign, "origin")] += 1
            return responses.BAD_ORIGIN
        return None if method == "POST" else responses.PREFLIGHT

    def view(self, method: str, campaign: str, said: Said, head: Head, peer: str | None) -> Answer | Accepted:
        """What becomes of a hit that a page of a web campaign sent."""
        if head.opted_out:
            self._drop(campaign, "out", said)
            return responses.OPTED_OUT
        mode = self._allowed(campaign, Mode.IDENTIFIED, head)
        if mode == Mode.OFF:
            return self._ignored(campaign, head, said)
        address = self._address.of(peer, head.headers)
        evidence, now = head.evidence, self._clock()
        near = shards.of_key(self._secrets.routing_key(address, evidence[0].encode()), self._shards)
        who = _Who(near)
        if mode >= Mode.PSEUDONYMOUS:
            who = self._who(method, campaign, said, head, near, int(now))
        data = hit.encode(
            Hit(
                int(now * 1000),
                campaign,
                hit.WEB,
                method,
                0,
                0,
                b"",
                who.visitor,
                address,
                *evidence,
                said.page or evidence[1],
                said.referrer,
                self._secrets.visitor_key(b"view", campaign.encode(), said.view) if said.view else b"",
                said.spent,
                who.visits,
                who.is_new,
            )
        )
        self.recent.append(address)
        return Accepted(who.shard, data, who.answer)

    def _who(self, method: str, campaign: str, said: Said, head: Head, near: int, now: int) -> _Who:
        """The visitor, where identity and page name one. near: the shard of one who is not named.

        What was asked for ahead, or with HEAD, nobody has seen: that has no cookie, and gets none.
        """
        web, name = self._web(campaign), campaign.encode()
        identity = web.identity
        if identity == "own" and said.own:
            visitor = self._secrets.visitor_key(b"own", name, said.own)
            return _Who(shards.of_key(visitor, self._shards), visitor)
        if identity != "cookie" or not said.agrees or method == "HEAD" or head.is_ahead:
            return _Who(near)
        signing, get = self._secrets.cookies, head.headers.get
        before = visitor_cookie.read(get(b"cookie"), campaign, signing, now, self._shards)
        held = visitor_cookie.new(near, now) if before is None else visitor_cookie.again(before, now)
        answer = responses.RECORDED
        if before is None or visitor_cookie.is_due(before, held):
            path = (self._path if web.path is None else web.path) + "/p/"
            site = get(b"sec-fetch-site")
            answer = responses.with_cookie(visitor_cookie.header(held, campaign, signing[0], path, now, site))
        visitor = self._secrets.visitor_key(b"cookie", name, held.id)
        return _Who(held.shard, visitor, held.visits, before is None, answer)

    def _web(self, campaign: str) -> Web:
        return self._directory.web.get(campaign, PLAIN)

    def _allowed(self, campaign: str, linked: int, head: Head) -> int:
        return allowed(linked, self._directory.rules.get(campaign, self._default), head.asks)

    def _ignored(self, campaign: str, head: Head, said: Said) -> Answer:
        rule = self._directory.rules.get(campaign, self._default)
        if rule.mode == Mode.OFF or not head.asks:
            return responses.OFF
        self._drop(campaign, "gpc", said)
        return responses.ASKED

    def _drop(self, campaign: str, why: Literal["gpc", "out"], said: Said = NOTHING) -> None:
        """Counts a request that is not kept: a view once, and not again with each report of its time."""
        if said.spent < 0:
            self.dropped[keys.dropped(campaign, why)] += 1


def _other_method(method: str) -> Answer:
    return responses.OPTIONS if method == "OPTIONS" else responses.BAD_METHOD
