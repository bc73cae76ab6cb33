"""Health of the lists of networks: their age, and a warning about old lists."""

from __future__ import annotations

import asyncio

from pixel_server.classify.network_feeds import PUBLISHED
from pixel_server.classify.networks import list_times
from pixel_server.settings import Settings
from pixel_server.times import DAY

MAX_AGE_DAYS = 90
"""Days after which a published list of networks is too old."""
DISK_TIMEOUT_SECONDS = 0.8
"""Seconds that the disk of the data directory may take to answer."""


async def read(settings: Settings, now: float) -> dict[str, int]:
    """Returns the age in days of each published list, by name. now: Redis's time, s.

    Leaves out a list whose file cannot be read. Returns {} if the disk does not answer.
    """
    try:
        async with asyncio.timeout(DISK_TIMEOUT_SECONDS):
            listed_at = await asyncio.to_thread(list_times, settings)
    except OSError:  # also a timeout
        return {}
    return {name: max(0, int((now - at) // DAY)) for name, at in listed_at.items() if name in PUBLISHED}


def warnings(settings: Settings, age_days: dict[str, int]) -> list[str]:
    """Returns a warning about each old list. Returns none if this server does not refresh the lists."""
    if settings.networks_refresh == "off":
        return []
    return [
        f"the list of networks {name} is {days} days old, so machines may count as people: "
        "`pixel-server doctor` says why it was not refreshed"
        for name, days in age_days.items()
        if days > MAX_AGE_DAYS
    ]
