"""The door: what is a good pixel request, and the hit it becomes. Asks nobody; computes only."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from pixel_server import hit, shards
from pixel_server.collect import answers
from pixel_server.collect.address import ClientAddress
from pixel_server.collect.answers import Answer
from pixel_server.collect.head import Head
from pixel_server.consent import Consent, allowed
from pixel_server.directory import Directory
from pixel_server.hit import Hit, text
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.slug import is_slug_bytes
from pixel_server.tokens import BadToken, Mode, mode_of, read, with_mode
from pixel_server.withdrawals import Withdrawn

OPEN, PAGE = b"/o/", b"/p/"
DAY = 86_400
SUFFIX = b".gif"
_METHODS = frozenset({"GET", "HEAD"})
_OWN = (b"u", b"r", b"v")


class Accepted(NamedTuple):
    """A hit to be recorded. shard: None where any will do."""

    shard: int | None
    data: bytes


class Door:
    """Decides on pixel requests, by what this process knows.

    `recent` holds the client addresses of the last hits, for `/readyz` to notice a forgotten proxy;
    `dropped`, by campaign, how many requests asked for not being followed, where that means not being kept.
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
            return answers.NOT_FOUND
        if path.startswith(OPEN):
            return self.mail(method, name, head, peer)
        if path.startswith(PAGE):
            return self._page(method, name, query, head, peer)
        return answers.NOT_FOUND

    def mail(self, method: str, name: bytes, head: Head, peer: str | None) -> Answer | Accepted:
        """What becomes of a request for a mail's pixel. name: the token, or what stands in its place."""
        try:
            flags, token_time, recipient, campaign = read(name, self._secrets.signing)
        except BadToken:
            return answers.BAD_TOKEN
        if method not in _METHODS:
            return _other_method(method)
        if campaign in self._directory.gone:
            return answers.GONE
        now = self._clock()
        if token_time + self._lifetime < now:
            return answers.EXPIRED
        if recipient and recipient in self._withdrawn:
            return answers.WITHDRAWN
        if head.asks or not self._keeps_all or campaign in self._directory.rules:
            mode = self._allowed(campaign, mode_of(flags), head)
            if mode == Mode.OFF:
                return self._ignored(campaign, head)
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
            return answers.NO_CAMPAIGN
        campaign = name.decode()
        if campaign in self._directory.gone:
            return answers.GONE if method in _METHODS else _other_method(method)
        if not self._directory.is_web(campaign):
            return answers.NO_CAMPAIGN
        if method not in _METHODS:
            return _other_method(method)
        mode = self._allowed(campaign, Mode.IDENTIFIED, head)
        if mode == Mode.OFF:
            return self._ignored(campaign, head)
        page, referrer, own = _query(query)
        address = self._address.of(peer, head.headers)
        evidence = head.evidence
        follow = mode >= Mode.PSEUDONYMOUS
        visitor = self._secrets.visitor_key(b"own", name, own) if own and follow else b""
        key = visitor or self._secrets.routing_key(address, evidence[0].encode())
        data = hit.encode(
            Hit(
                int(self._clock() * 1000),
                campaign,
                hit.WEB,
                method,
                0,
                0,
                b"",
                visitor,
                address,
                *evidence,
                page or evidence[1],
                referrer,
            )
        )
        self.recent.append(address)
        return Accepted(shards.of_key(key, self._shards), data)

    def _allowed(self, campaign: str, linked: int, head: Head) -> int:
        return allowed(linked, self._directory.rules.get(campaign, self._default), head.asks)

    def _ignored(self, campaign: str, head: Head) -> Answer:
        rule = self._directory.rules.get(campaign, self._default)
        if rule.mode == Mode.OFF or not head.asks:
            return answers.OFF
        self.dropped[campaign] += 1
        return answers.ASKED


def _other_method(method: str) -> Answer:
    return answers.OPTIONS if method == "OPTIONS" else answers.BAD_METHOD


def _query(query: bytes) -> tuple[str, str, bytes]:
    """(page, referrer, the page's own visitor id): `u`, `r` and `v`; the first of each counts."""
    if not query:
        return "", "", b""
    found: dict[bytes, bytes] = {}
    for pair in query[:16_384].split(b"&"):
        name, _, value = pair.partition(b"=")
        if name in _OWN:
            found.setdefault(name, unquote_to_bytes(value.replace(b"+", b" ")))
    page, referrer, own = (found.get(name, b"") for name in _OWN)
    return text(page, hit.MAX_URL), text(referrer, hit.MAX_URL), own
