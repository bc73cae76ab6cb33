"""Connections to Redis die silently, without FIN or RST, as behind a NAT that forgets them.

A web process and the workers reach Redis through a proxy. Again and again all open connections die, while new
connections work. Then nothing goes through for a while, not even over new connections. Counting must go on
within 5 s.
"""

from __future__ import annotations

import json
import random
import time

from pixel_server.store.client import connect
from tests.chaos.ledger import Ledger
from tests.chaos.outcome import Outcome
from tests.chaos.parts import Parts
from tests.chaos.proxy import Proxy
from tests.chaos.standstill import StandstillWatch
from tests.stack import until

ROUNDS = 5
OUTAGE_SECONDS = 8.0
MAX_STANDSTILL_SECONDS = 5.0


def run(seed: int, log: bool = False) -> Outcome:
    draw, outcome = random.Random(seed), Outcome("silent-connections", seed)
    parts = Parts()
    ledger = None
    watch = StandstillWatch(parts.redis_url)
    try:
        proxy = Proxy(parts.socket)
        url = f"redis://127.0.0.1:{proxy.port}/0"
        parts.start_web(REDIS_URL=url)
        parts.start("work", "work", REDIS_URL=url)
        with connect(parts.redis_url) as client:
            until(lambda: json.loads(parts.get("/readyz") or "{}").get("workers"))
            ledger = Ledger(seed, parts.address, parts.secrets, lambda: [parts.port], pause=0.05)
            ledger.start()
            watch.start()
            for _ in range(ROUNDS):
                time.sleep(draw.uniform(4, 6))
                outcome.events["connections that died silently"] += proxy.go_silent()
                if log:
                    print(f"{time.strftime('%X')} connections die; still {watch.longest:.1f}", flush=True)
            time.sleep(6)
            if log:
                print(f"{time.strftime('%X')} outage; still {watch.longest:.1f}", flush=True)
            watch.paused = True
            outcome.events["connections that died silently"] += proxy.go_silent(new=True)
            time.sleep(OUTAGE_SECONDS)
            outcome.events["connections that died silently"] += proxy.go_silent()
            watch.paused = False
            time.sleep(8)
            outcome.standstill = watch.stop()
            ledger.stop()
            until(lambda: parts.is_quiet(client), 60, every=0.3)
            until(lambda: json.loads(parts.get("/readyz") or "{}").get("workers"))
        ledger.compare(parts.redis_url, outcome)
        outcome.expect(
            outcome.standstill <= MAX_STANDSTILL_SECONDS,
            f"counting stood still for more than {MAX_STANDSTILL_SECONDS:.0f} s",
        )
        outcome.expect(outcome.refused == 0, "hits were refused")
        outcome.expect("traceback=" not in parts.log("work") + parts.log("web"), "a traceback in the log")
    except BaseException:
        print(parts.log("web")[-3000:], parts.log("work")[-3000:])
        raise
    finally:
        if ledger is not None:
            ledger.stop()
        watch.stop()
        parts.close()
    return outcome
