"""Waiting hits fill Redis while no workers run. Then workers start, and must count all hits.

At first hits may use all memory of Redis (no reserve), so that Redis is full to the last byte. Then other
data keeps Redis full, even when no hits wait. At last hits leave a reserve free, as by default.
"""

from __future__ import annotations

import json
import time

from pixel_server.store.client import connect
from pixel_server.store.protocols import Redis
from tests.chaos.ledger import Ledger
from tests.chaos.outcome import Outcome
from tests.chaos.parts import Parts
from tests.stack import until

ROOM_BYTES = 2_000_000
"""Bytes of memory that hits may use."""
MAX_DRAIN_SECONDS = 20.0
"""Seconds within which the hits in a full Redis must be counted."""


def run(seed: int, log: bool = False) -> Outcome:
    outcome = Outcome("full-redis", seed)
    parts = Parts()
    ledger = None
    try:
        with connect(parts.redis_url) as client:
            parts.start_web(PIXEL_MEMORY_RESERVE="0", PIXEL_SPOOL_BYTES="2000000")
            ledger = Ledger(seed, parts.address, parts.secrets, lambda: [parts.port], pause=0.02)
            ledger.start()
            client.config_set("maxmemory", _used(client) + ROOM_BYTES)
            until(lambda: _warns(parts, "Redis is full: used"), 60, every=0.3)
            outcome.figures["entries that filled Redis"] = parts.waiting(client)
            _start_workers(parts, client, outcome, "the backlog of a full Redis, drained in s")

            parts.stop("work")
            filled = parts.waiting(client)
            until(lambda: parts.waiting(client) > filled + 50)
            client.config_set("maxmemory", 1)
            _start_workers(parts, client, outcome, "the same while other data keeps it full, in s")
            client.config_set("maxmemory", 0)

            parts.stop("web")
            client.setrange("others", 30_000_000, b"x")
            client.config_set("maxmemory", _used(client) + 8_000_000)
            parts.start_web(PIXEL_MEMORY_RESERVE="7000000")
            parts.stop("work")
            until(lambda: _warns(parts, "Redis is nearly full: used"), 60, every=0.3)
            client.set("not-refused", b"1")
            parts.start("work", "work")
            client.delete("others")
            until(lambda: not _warns(parts, "full"), 30, every=0.3)
            ledger.stop()
            client.config_set("maxmemory", 0)
            until(lambda: parts.is_quiet(client), 60, every=0.3)
        ledger.compare(parts.redis_url, outcome)
        outcome.expect("Redis is full: used" in parts.log("web"), "the log does not name the cause")
        outcome.expect("traceback=" not in parts.log("work") + parts.log("web"), "a traceback in the log")
    except BaseException:
        print(parts.log("web")[-3000:], parts.log("work")[-3000:])
        raise
    finally:
        if ledger is not None:
            ledger.stop()
        parts.close()
    return outcome


def _start_workers(parts: Parts, client: Redis, outcome: Outcome, figure: str) -> None:
    """Starts workers, and notes the seconds until the now waiting hits are counted.

    More hits arrive meanwhile.
    """
    last = {shard: client.xrevrange(f"px:{{{shard}}}:hits", count=1) for shard in range(4)}
    started = time.monotonic()
    parts.start("work", "work")

    def is_counted() -> bool:
        ends = ((shard, entries[0][0].decode()) for shard, entries in last.items() if entries)
        return not any(client.xrange(f"px:{{{shard}}}:hits", end, end) for shard, end in ends)

    until(is_counted, 60, every=0.1)
    took = time.monotonic() - started
    outcome.figures[figure] = round(took, 1)
    outcome.expect(took <= MAX_DRAIN_SECONDS, f"a full Redis was not drained in {MAX_DRAIN_SECONDS:.0f} s")


def _used(client: Redis) -> int:
    return int(client.info("memory")["used_memory"])


def _warns(parts: Parts, words: str) -> bool:
    warnings = json.loads(parts.get("/readyz") or "{}").get("warnings", [])
    return words in " ".join(warnings)
