"""What happens in a demo, as the hits that the door would make of it."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator

from pixel_server import hit, tokens
from pixel_server.demo import mailing, site
from pixel_server.demo.mailing import Opening
from pixel_server.demo.site import Step
from pixel_server.hit import Hit
from pixel_server.mail.links import Minter
from pixel_server.secret import Secrets
from pixel_server.store import shards
from pixel_server.times import DAY
from pixel_server.tokens import Mode

Routed = tuple[int | None, Hit]
"""The shard of a hit, None where any will do, and the hit."""


def first_day(now: float) -> int:
    """When the fortnight begins that today (of UTC) is the last day of, seconds."""
    return int(now) // DAY * DAY - (site.DAYS - 1) * DAY


def recipient(reader: int) -> str:
    return f"reader-{reader + 1:04d}@example.org"


def fortnight(
    letter: str, pages: str, now: float, seed: int, secrets: Secrets, mode: Mode, count: int
) -> Iterator[Routed]:
    """All hits up to now, by time. letter, pages: ids of the campaigns. mode: of the mails. count: of
    shards."""
    start = first_day(now)
    mails = _mails(letter, start, mailing.openings(start, seed), secrets, mode, count)
    views = _views(pages, site.steps(start, seed), secrets, count)
    both = heapq.merge(mails, views, key=lambda routed: routed[1].time)
    return (routed for routed in both if routed[1].time <= now * 1000)


def _mails(
    campaign: str, start: int, found: Iterable[Opening], secrets: Secrets, mode: Mode, count: int
) -> Iterator[Routed]:
    minter = Minter("https://pixel.example", secrets)  # of a link only the token is used
    for one in found:
        is_own = one.verdict == "own"
        to = "editor@example.org" if is_own else recipient(one.reader)
        sent = mailing.sent_at(start, one.reader)
        url = minter.url(campaign, to, mode=mode, sent_at=sent, test=is_own)
        if url is None:
            return
        token = url.rpartition("/")[2].removesuffix(".gif").encode()
        flags, token_time, key, _ = tokens.read(token, secrets.signing)
        made = Hit(
            *(one.at, campaign, hit.EMAIL, "GET", flags, token_time, key, b"", one.address),
            *(one.agent, one.referrer, one.language),
        )
        yield shards.of_key(key, count) if key else None, made


def _views(campaign: str, found: Iterable[Step], secrets: Secrets, count: int) -> Iterator[Routed]:
    name = campaign.encode()
    for one in found:
        who = one.who
        near = shards.of_key(secrets.routing_key(who.address, who.agent.encode()), count)
        visitor = view = b""
        if one.visitor >= 0:
            visitor = secrets.visitor_key(b"cookie", name, one.visitor.to_bytes(8))
        if one.view >= 0:
            view = secrets.visitor_key(b"view", name, one.view.to_bytes(8))
        made = Hit(
            time=one.at,
            campaign=campaign,
            kind=hit.WEB,
            method="GET" if one.view < 0 else "POST",
            visitor=visitor,
            address=who.address,
            agent=who.agent,
            referrer=one.page,
            language=who.language,
            page=one.page,
            page_referrer=one.referrer,
            view=view,
            spent=one.spent,
            visits=one.visit,
            is_new=one.is_new,
        )
        yield near, made
