"""The chores of each minute."""

from __future__ import annotations

import asyncio

from pixel_server.store import keys
from workers import maintenance


def test_chores_old_salt_is_removed(client, settings, secrets):
    client.set(keys.salt(2, 1_750_000_500), b"s" * 32)
    asyncio.run(maintenance._finish(settings, secrets, 1_750_000_500 + 47.5 * 3600))
    assert not client.exists(keys.salt(2, 1_750_000_500))


def test_chores_cut_off_or_late_ask_for_a_rewrite(client, settings, secrets):
    """The key may be removed while the append-only file still holds it."""

    def rewrites_asked_at(now: float) -> int:
        asyncio.run(maintenance._finish(settings, secrets, now))
        return int(client.hget(keys.REWRITE, "asked") or 0)

    assert rewrites_asked_at(1_750_000_000) == rewrites_asked_at(1_750_000_060) == 0
    client.hset(keys.REWRITE, "salts", 0)  # as a worker leaves it that was killed while it removed salts
    assert rewrites_asked_at(1_750_000_120) == rewrites_asked_at(1_750_000_180) == 1
    assert rewrites_asked_at(1_750_000_180 + 3700) == 2, "by then, some salts may have expired by themselves"
