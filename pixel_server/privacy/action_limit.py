"""Limits a recipient's actions on the privacy page.

Redis counts the actions of all web processes together.
"""

from __future__ import annotations

from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis
from pixel_server.store.script import EVEN_IF_FULL, ScriptCall, script_call

MAX_ACTIONS = 10
"""Largest number of actions of a recipient in a minute, over all of the recipient's links."""
MAX_RECIPIENTS = 100_000
"""Largest number of recipients that are counted in a minute: some 8 MB.

Further recipients must wait for the next minute.
"""

_COUNT = (
    EVEN_IF_FULL
    + """
-- KEYS: hash of this minute's actions, by the recipient's mark. ARGV: mark, MAX_ACTIONS, MAX_RECIPIENTS.
-- Returns 1 and counts the action if it is within both limits. Otherwise returns 0 and writes nothing.
local n = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0')
if n >= tonumber(ARGV[2]) then return 0 end
if n == 0 and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) then return 0 end
redis.call('HINCRBY', KEYS[1], ARGV[1], 1)
if n == 0 then redis.call('EXPIRE', KEYS[1], 120) end
return 1
"""
)


def _count_call(mark: bytes, minute: int) -> ScriptCall:
    """Returns the call that counts an action.

    mark: the recipient's withdrawal mark. minute: number of the minute since 1970.
    """
    return script_call(_COUNT, keys=(keys.acts(minute),), arguments=(mark, MAX_ACTIONS, MAX_RECIPIENTS))


async def count_action(store: AsyncRedis, mark: bytes, now: float) -> int:
    """If an action is allowed, counts the action and returns 0. Else returns the seconds to wait.

    mark: `Secrets.withdrawal_mark` of the recipient. now: seconds since 1970.
    """
    is_allowed = await store.eval(*_count_call(mark, int(now // 60)))
    return 0 if is_allowed else 60 - int(now) % 60
