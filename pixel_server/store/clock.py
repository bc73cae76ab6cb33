"""The time that everything goes by: that of Redis, whatever the clock of this machine says.

A process measures how far its monotonic clock is from Redis `TIME`, each EVERY seconds and never for a hit.
Between two measurements, and while Redis is away, it adds the last known distance to its monotonic clock. So
a wrong clock, or a clock that is set while the process runs, changes no hit's time and deletes nothing.

A process whose own clock is more than LIMIT seconds off says so in its log and in the store (CLOCKS), for
/readyz and `doctor`, and does no chores and no retention: nobody can tell which of the two clocks is right.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from typing import NamedTuple

import redis

from pixel_server import tasks
from pixel_server.store import keys
from pixel_server.store.protocols import AsyncRedis, Redis, Value
from pixel_server.store.script import EVEN_IF_FULL, ScriptCall, script_call
from pixel_server.times import DAY

log = logging.getLogger("pixel_server.store.clock")

LIMIT = 60.0
"""Seconds that a process's clock may differ from Redis's."""
EVERY = 2.0
"""Seconds between two measurements."""
FRESH = 15
"""Seconds for which a process's word about its clock holds."""
FORMAT = 1

_NOTE = (
    EVEN_IF_FULL
    + """
-- KEYS: clocks. ARGV: process; format and seconds that its clock is ahead, for example "1 70".
-- Stores both with the time of Redis, and removes processes that have reported nothing for a minute.
local now, all = tonumber(redis.call('TIME')[1]), redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local at = tonumber(string.match(all[i + 1], '%d+$') or '0')
  if math.abs(now - at) > 60 then redis.call('HDEL', KEYS[1], all[i]) end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. now)
redis.call('EXPIRE', KEYS[1], 60)
return 1
"""
)


class Clock:
    """Returns the seconds since 1970 by Redis's clock when called.

    Until the first measurement it goes by the clock of this machine.
    """

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()
        self._is_measured = False

    def __call__(self) -> float:
        return time.monotonic() + self._offset

    @property
    def ahead(self) -> float:
        """Seconds that this machine's clock is ahead of Redis's; below 0: behind."""
        return time.time() - self()

    @property
    def is_wrong(self) -> bool:
        """Whether this machine's clock differs too much from Redis's."""
        return abs(self.ahead) > LIMIT

    def measure(self, store: Redis) -> None:
        """Asks Redis for its time. Raises redis.RedisError or OSError if Redis does not answer."""
        sent = time.monotonic()
        self._take(store.time(), sent)

    async def measure_async(self, store: AsyncRedis) -> None:
        """See `measure`."""
        sent = time.monotonic()
        self._take(await store.time(), sent)

    def _take(self, answer: tuple[int, int], sent: float) -> None:
        """Redis read its clock between `sent` and now: in the middle, give or take half of the round trip.

        What lies within that error is no news, so the time does not tremble.
        """
        half = (time.monotonic() - sent) / 2
        offset = answer[0] + answer[1] / 1e6 - (sent + half)
        if not self._is_measured or abs(offset - self._offset) > half:
            self._offset = offset
        self._is_measured = True


class Report:
    """Says in the log, and to the store, when the clock of this process is wrong. what: "web" or "worker"."""

    def __init__(self, clock: Clock, what: str) -> None:
        self._clock = clock
        self._name = f"{what} {os.getpid()} on {socket.gethostname()}"
        self._told = 0.0

    def command(self) -> tuple[Value, ...] | None:
        """Returns the command to give to Redis, None if there is nothing to say."""
        ahead = self._clock.ahead
        if self._clock.is_wrong:
            if abs(ahead - self._told) > LIMIT:
                log.error("clock: %s", text(self._name, ahead))
                self._told = ahead
            return "EVAL", *_note_call(process=self._name, ahead_seconds=ahead)
        if not self._told:
            return None
        self._told = 0.0
        log.warning("clock: the clock of %s agrees with that of Redis again", self._name)
        return "HDEL", keys.CLOCKS, self._name


def _note_call(*, process: str, ahead_seconds: float) -> ScriptCall:
    """Returns the call of _NOTE."""
    return script_call(_NOTE, keys=(keys.CLOCKS,), arguments=(process, f"{FORMAT} {ahead_seconds:.0f}"))


class Wrong(NamedTuple):
    """A process whose clock is wrong. ahead: seconds; below 0: behind."""

    process: str
    ahead: int


def wrong(found: dict[bytes, bytes], now: float) -> list[Wrong]:
    """Returns the processes whose clocks are wrong. found: what CLOCKS holds. now: Redis's time, s."""
    clocks = []
    for process, value in sorted(found.items()):
        words = value.split()
        if len(words) == 3 and words[0] == b"%d" % FORMAT and abs(now - int(words[2])) <= FRESH:
            clocks.append(Wrong(process.decode("utf-8", "replace"), int(words[1])))
    return clocks


def text(process: str, ahead: float) -> str:
    """Says what is wrong with a clock, and what to do."""
    return (
        f"the clock of {process} is {distance(ahead)} that of Redis: set both right (NTP); "
        "until then this process does no chores and no retention"
    )


def distance(ahead: float) -> str:
    """Returns a distance in words: `"2.0 hours ahead of"` for 7200."""
    for unit, seconds in (("days", DAY), ("hours", 3600), ("minutes", 60), ("seconds", 1)):
        if abs(ahead) >= 2 * seconds or seconds == 1:
            return f"{abs(ahead) / seconds:.1f} {unit} {'ahead of' if ahead > 0 else 'behind'}"
    raise AssertionError


async def now(store: AsyncRedis) -> float:
    """Returns Redis's time, for a command that asks once."""
    seconds, microseconds = await store.time()
    return int(seconds) + int(microseconds) / 1e6


async def follow(clock: Clock, store: AsyncRedis) -> None:
    """Measures again and again, until cancelled, and reports a wrong clock of this web process."""
    report = Report(clock, "web")

    async def measure() -> None:
        await clock.measure_async(store)
        if command := report.command():
            await store.execute_command(*command)

    # If Redis is away the recorder logs it, and the last known distance holds.
    await tasks.repeat(measure, EVERY, unreported=(redis.RedisError, OSError))
