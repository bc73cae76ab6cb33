"""The salts that tell visitors without a cookie apart are deleted from Redis and from the disk."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import datetime
from zoneinfo import ZoneInfo

from pixel_server.counters import visitor_salts
from pixel_server.store import keys
from pixel_server.store.client import connect, connect_async
from pixel_server.times import DAY
from tests.disk import forms, search
from tests.stack import Stack, until


def test_visitor_salt_expired_leaves_redis_and_disk(stack: Stack):
    # In the first half hour of a day there is the salt of the day before, too.
    zone = next(zone for zone in ("Asia/Kathmandu", "UTC") if datetime.now(ZoneInfo(zone)).hour)
    made = {"id": "site", "name": "Site", "kind": "web", "time_zone": zone}
    assert stack.call("POST", "/api/campaigns", made)[0] == 201
    until(lambda: stack.get("/p/site.gif") == (200, "recorded"))
    until(lambda: stack.totals("site")["unique_visitors"] == 1)
    url = json.loads((stack.data / "up.json").read_text())["redis_url"]
    with connect(url) as client:
        [name] = client.keys("px:*:salt:*")
        salt = client.get(name)
        end = int(name.rpartition(b":")[2])
        assert end - time.time() <= DAY
        assert client.ttl(name) <= end + 48 * 3600 - time.time() + 1  # Redis rounds to seconds
        shard = int(name.split(b"{")[1][:1])
        assert name.decode() == keys.salt(shard, end)
    secret = forms("salt", salt)
    assert search(stack.data, secret).keys() == {"salt: packed"}, "the search finds it while it is there"

    async def remove(now: float) -> int:
        there = connect_async(url)
        try:
            return await visitor_salts.remove_old(there, 4, now)
        finally:
            await there.aclose()

    assert asyncio.run(remove(end + 47 * 3600 - 1)) == 0
    assert asyncio.run(remove(end + 47 * 3600)) == 1
    until(lambda: search(stack.data, secret) == {})
    with connect(url) as client:
        assert not client.keys("px:*:salt:*")
    stack.stop()
    stack.start()
    assert search(stack.data, secret) == {}
    assert stack.totals("site")["unique_visitors"] == 1
