"""How often a recipient may act on the privacy page: counted in Redis, for all web processes together."""

from __future__ import annotations

from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis

MOST = 10
"""Actions of a recipient in a minute, whichever of their links they use."""
KNOWN = 100_000
"""Recipients counted in a minute, some 8 MB; further ones must wait for the next minute."""

_TAKE = """#!lua flags=allow-oom
-- KEYS: actions of this minute. ARGV: mark, actions at most, recipients counted at most.
-- Returns 1 if the action is within bounds, and counts it, else 0; then nothing is written.
local n = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0')
if n >= tonumber(ARGV[2]) then return 0 end
if n == 0 and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) then return 0 end
redis.call('HINCRBY', KEYS[1], ARGV[1], 1)
if n == 0 then redis.call('EXPIRE', KEYS[1], 120) end
return 1
"""


async def wait(store: AsyncRedis, mark: bytes, now: float) -> int:
    """Counts an action. Returns 0 if it may be done, else the seconds until the next may."""
    is_within = await store.eval(_TAKE, 1, keys.acts(int(now // 60)), mark, MOST, KNOWN)
    return 0 if is_within else 60 - int(now) % 60
