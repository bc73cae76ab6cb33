"""The checks of `doctor` of what recipients meet: the operator's name, and the addresses of pixels."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from datetime import date
from urllib.parse import urlsplit

import redis

from pixel_server.campaigns import storage
from pixel_server.campaigns.campaign import Campaign
from pixel_server.commands.findings import Finding, counted
from pixel_server.commands.support import base_url_of_up, is_store_known, store_url
from pixel_server.mail.filter_lists import BLOCKED_IDS, easyprivacy_reason, pihole_reason
from pixel_server.mail.preflight import blocked_id_reason, is_private
from pixel_server.settings import Settings
from pixel_server.store.client import connect_async

_PAGE_SIZE = 100
"""Number of campaigns read at once."""


def operator(settings: Settings, today: date) -> Iterator[Finding]:
    """Checks that the privacy page can say who runs this server."""
    if settings.operator:
        yield Finding("settings", "operator", "ok", settings.operator)
    else:
        text = "the privacy page does not say who records: set PIXEL_OPERATOR to your name or address"
        yield Finding("settings", "operator", "advice", text)


def base_url(settings: Settings, today: date) -> Iterator[Finding]:
    """Checks that the pixels of links are loaded: over HTTPS, from outside, and past filter lists."""
    url = settings.base_url or base_url_of_up(settings)
    if url is None:
        text = "PIXEL_BASE_URL is not set, so links need a campaign with a base_url: set the public address"
        yield Finding("settings", "base_url", "advice", text)
    elif problems := address_problems(url):
        yield from (Finding("settings", "base_url", "advice", problem) for problem in problems)
    else:
        yield Finding("settings", "base_url", "ok", url)


def address_problems(url: str) -> list[str]:
    """Returns what keeps pixels under a base URL from being loaded, and what to do."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_private(host.rstrip(".")):
        return [f"nobody else can reach {host}: set PIXEL_BASE_URL to the public address"]
    problems = []
    if parts.scheme != "https":
        problems.append(f"{url} is not https, and many mail programs load no such image: use HTTPS")
    for reason in (easyprivacy_reason(host, f"{parts.path}/o/"), pihole_reason(host)):
        if reason:
            problems.append(f"{url}: {reason}: use another name")
    return problems


def campaigns(settings: Settings, today: date) -> Iterator[Finding]:
    """Checks the addresses of pixels that depend on a campaign: its id, and its own base_url."""
    if not is_store_known(settings):
        return
    try:
        all_campaigns = asyncio.run(_read_campaigns(store_url(settings)))
    except (redis.RedisError, OSError):  # the check of the store reports this error
        return
    problems = defaultdict(list)
    for campaign in all_campaigns:
        if campaign.kind == "web" and campaign.id in BLOCKED_IDS:
            problems[f"{blocked_id_reason(campaign.id)}: make a campaign with another id"].append(campaign.id)
        for problem in address_problems(campaign.base_url) if campaign.base_url else ():
            problems[problem.replace("PIXEL_BASE_URL", "its base_url")].append(campaign.id)
    for problem, ids in problems.items():
        others = f" (and {counted(len(ids) - 1, 'other')})" if len(ids) > 1 else ""
        yield Finding("campaigns", ids[0], "advice", f"{problem}{others}")
    if not problems:
        yield Finding("campaigns", "addresses", "ok", counted(len(all_campaigns), "campaign"))


async def _read_campaigns(url: str) -> list[Campaign]:
    """Returns all campaigns whose record can be read. Raises redis.RedisError or OSError."""
    store = connect_async(url)
    try:
        found, after = await storage.page(store, None, _PAGE_SIZE)
        while after is not None:
            more, after = await storage.page(store, after, _PAGE_SIZE)
            found += more
        return found
    finally:
        await store.aclose()
