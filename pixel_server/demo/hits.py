"""Turns the made-up events of the demo into hits, as the pixel endpoint turns requests into hits."""

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
from pixel_server.store.shards import shard_of
from pixel_server.times import DAY
from pixel_server.tokens import Mode

RoutedHit = tuple[int | None, Hit]
"""(shard, hit). The shard is None if the hit may go to any shard."""


def first_day(now: float) -> int:
    """Returns the start of the demo's first day, in s since 1970, UTC.

    The demo's last day is the day of `now`.
    """
    return int(now) // DAY * DAY - (site.DAYS - 1) * DAY


def recipient_address(reader: int) -> str:
    """Returns the mail address of a reader: `reader-0001@example.org` for reader 0."""
    return f"reader-{reader + 1:04d}@example.org"


def make_hits(
    newsletter: str, web_site: str, now: float, seed: int, secrets: Secrets, mode: Mode, shard_count: int
) -> Iterator[RoutedHit]:
    """Yields all hits up to now, ordered by time.

    newsletter, web_site: ids of the campaigns. now: seconds since 1970. mode: the mode of the newsletter.
    """
    start = first_day(now)
    opens = _opens(newsletter, start, mailing.openings(start, seed), secrets, mode, shard_count)
    views = _views(web_site, site.steps(start, seed), secrets, shard_count)
    merged = heapq.merge(opens, views, key=lambda routed: routed[1].time)
    return (routed for routed in merged if routed[1].time <= now * 1000)


def _opens(
    campaign: str, start: int, openings: Iterable[Opening], secrets: Secrets, mode: Mode, shard_count: int
) -> Iterator[RoutedHit]:
    minter = Minter("https://pixel.example", secrets)  # only the token of each link is used
    for opening in openings:
        is_test = opening.verdict == "own"
        address = "editor@example.org" if is_test else recipient_address(opening.reader)
        sent = mailing.sent_at(start, opening.reader)
        url = minter.url(campaign, address, mode=mode, sent_at=sent, test=is_test)
        if url is None:
            return
        token = url.rpartition("/")[2].removesuffix(".gif").encode()
        flags, token_time, key, _ = tokens.verify(token, secrets.signing)
        record = Hit(
            *(opening.at_ms, campaign, hit.EMAIL, "GET", flags, token_time, key, b"", opening.address),
            *(opening.agent, opening.referrer, opening.language),
        )
        yield shard_of(key, shard_count) if key else None, record


def _views(campaign: str, steps: Iterable[Step], secrets: Secrets, shard_count: int) -> Iterator[RoutedHit]:
    name = campaign.encode()
    for step in steps:
        person = step.person
        shard = shard_of(secrets.routing_key(person.address, person.agent.encode()), shard_count)
        visitor = view = b""
        if step.visitor >= 0:
            visitor = secrets.visitor_key(b"cookie", name, step.visitor.to_bytes(8))
        if step.view >= 0:
            view = secrets.visitor_key(b"view", name, step.view.to_bytes(8))
        record = Hit(
            time=step.at_ms,
            campaign=campaign,
            kind=hit.WEB,
            method="GET" if step.view < 0 else "POST",
            visitor=visitor,
            address=person.address,
            agent=person.agent,
            referrer=step.page,
            language=person.language,
            page=step.page,
            page_referrer=step.referrer,
            view=view,
            spent_ms=step.spent_ms,
            visits=step.visit,
            is_new=step.is_new,
        )
        yield shard, record
