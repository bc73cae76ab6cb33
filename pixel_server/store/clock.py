"""The time of Redis, which all processes use, so that a wrong clock of a machine does no harm.

A process measures how far its monotonic clock is from Redis `TIME`, every MEASURE_SECONDS, not for each hit.
Between two measurements, and while Redis is away, it adds the last known offset to its monotonic clock. So a
wrong clock, or a clock that is set while the process runs, changes no hit's time and deletes nothing.

A process whose own clock differs by more than WARN_DIFFERENCE_SECONDS reports the difference in its log
and in the store (`keys.CLOCKS`), for /readyz and `doctor`. Above MAX_DIFFERENCE_SECONDS, the process does no
chores (`workers.maintenance`) and no retention, because nobody can tell which of the two clocks is right.
"""

from __future__ import annotations

import os
import socket
import time
from typing import NamedTuple

import redis

from pixel_server import tasks
from pixel_server.logs import Log
from pixel_server.store import keys
from pixel_server.store.nodes import ask_each, node_name, nodes
from pixel_server.store.protocols import AsyncRedis, Redis, Value
from pixel_server.store.script import EVEN_IF_FULL, ScriptCall, script_call
from pixel_server.times import DAY

log = Log(__name__)

WARN_DIFFERENCE_SECONDS = 5.0
"""Seconds that a process's clock may differ from Redis's without a warning. Clocks that are set by NTP differ
by milliseconds."""
MAX_DIFFERENCE_SECONDS = 60.0
"""Seconds that a process's clock may differ from Redis's before the process stops its chores and
retention."""
MEASURE_SECONDS = 2.0
"""Seconds between two measurements."""
FRESH_SECONDS = 15
"""Seconds for which a report on a clock holds."""
FORMAT = 1
"""Format version of a report."""
_NODE = "the node "

_NOTE = (
    EVEN_IF_FULL
    + """
-- KEYS: clocks. ARGV: process; report: format and seconds that its clock is ahead, for example "1 70".
-- Stores the report with the time of Redis, and removes processes that have reported nothing for a minute.
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
    """A function that returns the seconds since 1970 by Redis's clock.

    Until the first measurement the time is that of this machine.
    """

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()
        self._is_measured = False

    def __call__(self) -> float:
        return time.monotonic() + self._offset

    @property
    def ahead(self) -> float:
        """Seconds that this machine's clock is ahead of Redis's, below 0 if it is behind."""
        return time.time() - self()

    @property
    def is_far_off(self) -> bool:
        """Returns whether this machine's clock differs from Redis's by more than MAX_DIFFERENCE_SECONDS."""
        return abs(self.ahead) > MAX_DIFFERENCE_SECONDS

    def measure(self, store: Redis) -> None:
        """Asks Redis for its time. Raises redis.RedisError or OSError if Redis does not answer."""
        sent = time.monotonic()
        self.note_reply(store.time(), sent)

    async def measure_async(self, store: AsyncRedis) -> None:
        """Asks Redis for its time, as `measure` does."""
        sent = time.monotonic()
        self.note_reply(await store.time(), sent)

    def note_reply(self, reply: tuple[int, int], sent: float) -> None:
        """Updates the offset by a reply of Redis `TIME` (seconds, microseconds), requested at `sent`.

        Redis read its clock in the middle of the round trip, with an error of at most half the round trip. A
        new offset within this error is ignored, so the time does not jitter.
        """
        half = (time.monotonic() - sent) / 2
        offset = reply[0] + reply[1] / 1e6 - (sent + half)
        if not self._is_measured or abs(offset - self._offset) > half:
            self._offset = offset
        self._is_measured = True


class ClockReport:
    """Reports in the log and in the store that the clock of this process is wrong.

    kind: "web" or "worker".
    """

    def __init__(self, clock: Clock, kind: str) -> None:
        self._clock = clock
        self._name = f"{kind} {os.getpid()} on {socket.gethostname()}"
        self._reported_ahead = 0.0

    def command(self) -> tuple[Value, ...] | None:
        """Returns the command that updates the store, None if there is nothing to report."""
        ahead = self._clock.ahead
        if abs(ahead) > WARN_DIFFERENCE_SECONDS:
            is_new = not self._reported_ahead or abs(ahead - self._reported_ahead) > MAX_DIFFERENCE_SECONDS
            if is_new or self._clock.is_far_off != (abs(self._reported_ahead) > MAX_DIFFERENCE_SECONDS):
                log.error(
                    "clock-wrong",
                    "%(difference)s",
                    difference=describe(self._name, ahead),
                    ahead_seconds=ahead,
                )
                self._reported_ahead = ahead
            return "EVAL", *_note_call(process=self._name, ahead_seconds=ahead)
        if not self._reported_ahead:
            return None
        self._reported_ahead = 0.0
        log.warning(
            "clock-right",
            "the clock of %(process_name)s agrees with that of Redis again",
            process_name=self._name,
        )
        return "HDEL", keys.CLOCKS, self._name


def _note_call(*, process: str, ahead_seconds: float) -> ScriptCall:
    """Returns the call of _NOTE."""
    return script_call(_NOTE, keys=(keys.CLOCKS,), arguments=(process, f"{FORMAT} {ahead_seconds:.0f}"))


class ClockDifference(NamedTuple):
    """A process, or a node of a cluster, whose clock is wrong. ahead: seconds, below 0 if it is behind.

    process: `"worker 4711 on host1"` or `"the node 10.0.0.1:7000"`.
    """

    process: str
    ahead: int


def parse_wrong_clocks(reports: dict[bytes, bytes], now: float) -> list[ClockDifference]:
    """Returns the processes whose clocks are wrong. now: Redis's time, s.

    reports: the content of `keys.CLOCKS`. A report is `"1 70 1790000000"`: format, seconds ahead, and the
    time of the report.
    """
    clocks = []
    for process, report in sorted(reports.items()):
        words = report.split()
        if len(words) == 3 and words[0] == b"%d" % FORMAT and abs(now - int(words[2])) <= FRESH_SECONDS:
            clocks.append(ClockDifference(process.decode("utf-8", "replace"), int(words[1])))
    return clocks


async def read_wrong_nodes(store: AsyncRedis) -> list[ClockDifference]:
    """Returns the nodes of a cluster whose clocks differ from that of the node of `{all}`."""
    if await nodes(store) == [store]:
        return []

    async def offset(node: AsyncRedis) -> float:
        return await read_time(node) - time.monotonic()

    offset_of_all = await offset(store)
    differences = [
        ClockDifference(f"{_NODE}{node_name(node)}", round(node_offset - offset_of_all))
        for node, node_offset in await ask_each(store, offset)
    ]
    return [difference for difference in differences if abs(difference.ahead) > WARN_DIFFERENCE_SECONDS]


def describe(process: str, ahead: float) -> str:
    """Returns what is wrong with a clock, and what to do, for the operator."""
    text = f"the clock of {process} is {describe_difference(ahead)} that of Redis: set both right (NTP)"
    if abs(ahead) > MAX_DIFFERENCE_SECONDS and not process.startswith(_NODE):
        text += "; until then this process does no chores and no retention"
    return text


def describe_difference(ahead: float) -> str:
    """Returns a difference in words: `"2.0 hours ahead of"` for 7200."""
    for unit, seconds in (("days", DAY), ("hours", 3600), ("minutes", 60), ("seconds", 1)):
        if abs(ahead) >= 2 * seconds or seconds == 1:
            return f"{abs(ahead) / seconds:.1f} {unit} {'ahead of' if ahead > 0 else 'behind'}"
    raise AssertionError


async def read_time(store: AsyncRedis) -> float:
    """Returns Redis's time (s), for a caller that needs the time only once."""
    seconds, microseconds = await store.time()
    return int(seconds) + int(microseconds) / 1e6


async def follow(clock: Clock, store: AsyncRedis) -> None:
    """Measures until it is cancelled, and reports a wrong clock of this web process."""
    report = ClockReport(clock, "web")

    async def measure_and_report() -> None:
        await clock.measure_async(store)
        if command := report.command():
            await store.execute_command(*command)

    # The recorder logs that Redis is away. The last known offset holds.
    await tasks.repeat(measure_and_report, MEASURE_SECONDS, unreported=(redis.RedisError, OSError))
