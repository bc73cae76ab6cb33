"""Admission: decides which pixel requests are recorded, and makes their hits. Computes only, without I/O."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Literal, NamedTuple

import msgspec

from pixel_server import hit
from pixel_server.addresses import HOUSEHOLD_BYTES
from pixel_server.campaigns.cache import DEFAULT_WEB, CampaignCache, WebCampaign
from pixel_server.collect import beacon, responses, visitor_cookie
from pixel_server.collect.client_address import ClientAddress
from pixel_server.collect.page_params import NO_PARAMS, PageParams, parse_query
from pixel_server.collect.request_head import RequestHead
from pixel_server.collect.responses import Answer
from pixel_server.consent import Consent, allowed_mode
from pixel_server.hit import Hit
from pixel_server.recipients.withdrawn_set import WithdrawnSet
from pixel_server.secret import Secrets
from pixel_server.settings import Settings, cookie_path
from pixel_server.slug import is_slug_bytes
from pixel_server.store import keys
from pixel_server.store.shards import shard_of
from pixel_server.times import DAY
from pixel_server.tokens import BadToken, Mode, mode_of, verify, with_mode

OPEN_PREFIX, PAGE_PREFIX = b"/o/", b"/p/"
"""Beginnings of the paths of pixels in mails and on web pages."""
SUFFIX = b".gif"
"""End of the path of every pixel."""
_METHODS = frozenset({"GET", "HEAD"})


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """A hit to record.

    shard: the hit's shard, None if any shard may have it. data: the encoded hit.
    answer: the response once the hit is stored.
    """

    shard: int | None
    data: bytes
    answer: Answer = responses.RECORDED


class _Visitor(NamedTuple):
    """The visitor of a view. shard: the shard of the hit. key: `visitor` of `hit.Hit`, b"" if unknown.

    visits, is_new: as in `hit.Hit`. answer: the response once the hit is stored.
    """

    shard: int
    key: bytes = b""
    visits: int = 0
    is_new: bool = False
    answer: Answer = responses.RECORDED


class Admission:
    """Decides on pixel requests by this process's copies of the campaigns and withdrawals.

    recent: client addresses of the last 1000 hits. `/readyz` reads them to notice a proxy that is not
    trusted.
    dropped: numbers of requests that were not recorded, by campaign and reason (`keys.dropped_field`). They
    are opens and views that GPC, DNT or the opt-out cookie forbids, and beacons from origins that are not
    allowed.
    answers: numbers of requests that were answered without a hit. The endpoints count them.
    """

    def __init__(
        self,
        settings: Settings,
        secrets: Secrets,
        campaigns: CampaignCache,
        consent: Consent,
        withdrawn: WithdrawnSet,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._secrets = secrets
        self._campaigns = campaigns
        self._default_rule = consent.default
        self._withdrawn = withdrawn
        self._default_keeps_recipients = consent.default.mode >= Mode.PSEUDONYMOUS
        self._client_address = ClientAddress(settings)
        self._token_seconds = settings.token_days * DAY
        self._shards = settings.shards
        self._cookie_path = cookie_path(settings.base_url)
        self._clock = clock
        self.recent: deque[bytes] = deque(maxlen=1000)
        self.dropped: Counter[str] = Counter()
        self.answers: Counter[Answer] = Counter()

    def admit(
        self, method: str, path: bytes, query: bytes, head: RequestHead, peer: str | None
    ) -> Answer | Accepted:
        """Returns the response to a request under /o/ or /p/, or the hit to record.

        path: as the client sent it, without query, with only its unreserved characters decoded.
        """
        token_or_slug = path[3 : -len(SUFFIX)]
        if not path.endswith(SUFFIX) or not token_or_slug:
            return responses.NOT_FOUND
        if path.startswith(OPEN_PREFIX):
            return self.admit_open(method, token_or_slug, head, peer)
        if path.startswith(PAGE_PREFIX):
            return self._admit_page(method, token_or_slug, query, head, peer)
        return responses.NOT_FOUND

    def admit_open(self, method: str, token: bytes, head: RequestHead, peer: str | None) -> Answer | Accepted:
        """Returns the response to a request for a mail's pixel, or the hit to record.

        token: the part of the path between /o/ and .gif, whether it is a good token or not.
        """
        try:
            flags, token_time, recipient, campaign = verify(token, self._secrets.signing)
        except BadToken:
            return responses.BAD_TOKEN
        if method not in _METHODS:
            return _other_method(method)
        if campaign in self._campaigns.gone:
            return responses.GONE
        if self._campaigns.kinds.get(campaign) == "web":
            return responses.WRONG_KIND
        now = self._clock()
        if token_time + self._token_seconds < now:
            return responses.EXPIRED
        if recipient and recipient in self._withdrawn:
            return responses.WITHDRAWN
        if head.has_opted_out:
            self._drop(campaign, "out")
            return responses.OPTED_OUT
        if (
            head.requests_no_tracking
            or not self._default_keeps_recipients
            or campaign in self._campaigns.rules
        ):
            mode = self._allowed_mode(campaign, mode_of(flags), head)
            if mode == Mode.OFF:
                return self._ignore(campaign, head, NO_PARAMS)
            if mode == Mode.COUNT:  # record what a link made in mode `count` would carry
                recipient, token_time = b"", token_time - token_time % DAY
            flags = with_mode(flags, mode)
        address = self._client_address.resolve(peer, head.headers)
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
        return Accepted(shard_of(recipient, self._shards) if recipient else None, data)

    def _admit_page(
        self, method: str, slug: bytes, query: bytes, head: RequestHead, peer: str | None
    ) -> Answer | Accepted:
        """Returns the response to a request for a page's pixel, or the hit to record."""
        if not is_slug_bytes(slug):
            return responses.NO_CAMPAIGN
        campaign = slug.decode()
        if campaign in self._campaigns.gone:
            return responses.GONE if method in _METHODS else _other_method(method)
        if not self._campaigns.is_web(campaign):
            return responses.NO_CAMPAIGN
        if method not in _METHODS:
            return _other_method(method)
        return self.admit_view(method, campaign, parse_query(query), head, peer)

    def check_beacon(self, method: str, campaign: str, head: RequestHead) -> Answer | None:
        """Returns the response to a POST to `/p/{campaign}`, or to its CORS preflight (OPTIONS).

        Returns None if the POST is allowed: then its body must be read. campaign: a slug.
        """
        if campaign in self._campaigns.gone:
            return responses.GONE if method == "POST" else responses.PREFLIGHT
        if not self._campaigns.is_web(campaign):
            return responses.NO_CAMPAIGN
        if not beacon.is_allowed_origin(head.headers.get(b"origin"), self._web_campaign(campaign).origins):
            self.dropped[keys.dropped_field(campaign, "origin")] += 1
            return responses.BAD_ORIGIN
        return None if method == "POST" else responses.PREFLIGHT

    def admit_view(
        self, method: str, campaign: str, params: PageParams, head: RequestHead, peer: str | None
    ) -> Answer | Accepted:
        """Returns the response to a request that a page of a web campaign sent, or the hit to record."""
        if head.has_opted_out:
            self._drop(campaign, "out", params)
            return responses.OPTED_OUT
        mode = self._allowed_mode(campaign, Mode.IDENTIFIED, head)
        if mode == Mode.OFF:
            return self._ignore(campaign, head, params)
        address = self._client_address.resolve(peer, head.headers)
        evidence, now = head.evidence, self._clock()
        routing_key = self._secrets.routing_key(address[:HOUSEHOLD_BYTES], evidence[0].encode())
        fallback_shard = shard_of(routing_key, self._shards)
        visitor = _Visitor(fallback_shard)
        if mode >= Mode.PSEUDONYMOUS:
            visitor = self._visitor(method, campaign, params, head, fallback_shard, int(now))
        data = hit.encode(
            Hit(
                int(now * 1000),
                campaign,
                hit.WEB,
                method,
                0,
                0,
                b"",
                visitor.key,
                address,
                *evidence,
                params.page or evidence[1],
                params.referrer,
                self._secrets.visitor_key(b"view", campaign.encode(), params.view) if params.view else b"",
                params.spent_ms,
                visitor.visits,
                visitor.is_new,
            )
        )
        self.recent.append(address)
        return Accepted(visitor.shard, data, visitor.answer)

    def _visitor(
        self, method: str, campaign: str, params: PageParams, head: RequestHead, fallback_shard: int, now: int
    ) -> _Visitor:
        """Returns the visitor. The key is b"" if the campaign's identity or the request gives no key.

        fallback_shard: the shard of a hit without visitor key. Nobody has seen a page that was requested
        ahead of time or with HEAD, so such a request neither uses nor gets a cookie.
        """
        web, campaign_bytes = self._web_campaign(campaign), campaign.encode()
        identity = web.identity
        if identity == "own" and params.own_id:
            key = self._secrets.visitor_key(b"own", campaign_bytes, params.own_id)
            return _Visitor(shard_of(key, self._shards), key)
        if identity != "cookie" or not params.agrees or method == "HEAD" or head.is_prefetch:
            return _Visitor(fallback_shard)
        signing, get = self._secrets.cookies, head.headers.get
        sent = visitor_cookie.read_cookie(get(b"cookie"), campaign, signing, now, self._shards)
        if sent is None:
            cookie = visitor_cookie.new(fallback_shard, now)
        else:
            cookie = visitor_cookie.with_hit(sent, now)
        answer = responses.RECORDED
        if sent is None or visitor_cookie.is_renewal_due(sent, cookie):
            path = (self._cookie_path if web.path is None else web.path) + "/p/"
            header = visitor_cookie.set_cookie_header(
                cookie, campaign, signing[0], path, now, get(b"sec-fetch-site")
            )
            answer = responses.with_cookie(header)
        key = self._secrets.visitor_key(b"cookie", campaign_bytes, cookie.id)
        return _Visitor(cookie.shard, key, cookie.visits, sent is None, answer)

    def _web_campaign(self, campaign: str) -> WebCampaign:
        return self._campaigns.web.get(campaign, DEFAULT_WEB)

    def _allowed_mode(self, campaign: str, link_mode: int, head: RequestHead) -> int:
        return allowed_mode(
            link_mode, self._campaigns.rules.get(campaign, self._default_rule), head.requests_no_tracking
        )

    def _ignore(self, campaign: str, head: RequestHead, params: PageParams) -> Answer:
        """Returns the response to a request that is not recorded. Counts it if GPC or DNT is the reason."""
        rule = self._campaigns.rules.get(campaign, self._default_rule)
        if rule.mode == Mode.OFF or not head.requests_no_tracking:
            return responses.OFF
        self._drop(campaign, "gpc", params)
        return responses.TRACKING_REFUSED

    def _drop(self, campaign: str, reason: Literal["gpc", "out"], params: PageParams = NO_PARAMS) -> None:
        """Counts a request that is not recorded.

        A view counts once, however often its duration is reported.
        """
        if params.spent_ms < 0:
            self.dropped[keys.dropped_field(campaign, reason)] += 1


def _other_method(method: str) -> Answer:
    """Returns the response to a method that is neither GET nor HEAD."""
    return responses.OPTIONS if method == "OPTIONS" else responses.BAD_METHOD
