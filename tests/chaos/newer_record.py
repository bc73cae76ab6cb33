"""A campaign record of a newer version, and a record that cannot be read, under a flood and restarts."""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
import time
from pathlib import Path

from pixel_server.secret import Secrets
from pixel_server.store import keys
from pixel_server.store.client import connect
from tests.chaos.emptied_redis import KEY, readyz, say
from tests.chaos.ledger import CAMPAIGN, SHARDS, Ledger
from tests.chaos.outcome import Outcome
from tests.chaos.standstill import StandstillWatch
from tests.stack import Stack, until

ODD = {
    "a newer kind": lambda record: record.replace(b'"email"', b'"push"'),
    "an odd time zone": lambda record: record.replace(b'"UTC"', b'"Mars/Olympus"'),
}


def run(seed: int, log: bool = False) -> Outcome:
    outcome = Outcome("newer-record", seed)
    draw = random.Random(seed)
    data = Path(tempfile.mkdtemp(prefix="px-"))
    stack = Stack(data, PIXEL_API_KEY=KEY)
    ledger: Ledger | None = None
    try:
        stack.start()
        url = (data / "up.json").read_text().split('"redis_url": "')[1].split('"')[0]
        stack.call("POST", "/api/campaigns", {"id": CAMPAIGN, "name": "Chaos", "kind": "email"})
        stack.call("POST", "/api/campaigns", {"id": "other", "name": "Other", "kind": "email"})
        until(lambda: CAMPAIGN.encode() in (data / "campaigns.json").read_bytes())
        ledger = Ledger(seed, stack.address, Secrets.load(data), lambda: (stack.port,))
        ledger.start()
        watch = StandstillWatch(url)
        watch.start()
        with connect(url) as client:
            record = client.hget(keys.campaign(CAMPAIGN), "record")
            for name, change in ODD.items():
                say(log, name)
                odd = change(record)
                client.hset(keys.campaign(CAMPAIGN), "record", odd)
                client.xadd(keys.CHANGES, {"id": CAMPAIGN})
                until(lambda: readyz(stack).get("store", {}).get("unreadable_campaigns") == [CAMPAIGN])
                time.sleep(draw.uniform(1, 2))
                watch.paused = True  # while no worker lives
                for words in (" serve", "work --one"):
                    for pid in stack.pids(words)[:1]:
                        say(log, f"kill -9 of {words.strip()}")
                        os.kill(pid, signal.SIGKILL)
                        outcome.events["kill -9"] += 1
                until(lambda: readyz(stack).get("store", {}).get("unreadable_campaigns") == [CAMPAIGN], 30)
                until(lambda: readyz(stack)["workers"], within=30)
                time.sleep(5)  # RQ keeps the job of a killed worker listed for this long
                watch.paused = False
                time.sleep(draw.uniform(1, 2))
                status, _ = stack.call("GET", f"/api/campaigns/{CAMPAIGN}/stats")
                outcome.expect(status == 409, f"stats of an unreadable campaign answer {status}")
                _, listed = stack.call("GET", "/api/campaigns")
                outcome.expect(
                    [item["id"] for item in listed["items"]] == ["other"], "the list shows not others"
                )
                kept = client.hget(keys.campaign(CAMPAIGN), "record")
                outcome.expect(kept == odd, "the record was changed")
                client.hset(keys.campaign(CAMPAIGN), "record", record)
                client.xadd(keys.CHANGES, {"id": CAMPAIGN})
                outcome.events["records of a newer version"] += 1
            until(lambda: readyz(stack).get("store", {}).get("unreadable_campaigns") == [])
            ledger.stop()
            until(lambda: not sum(client.xlen(keys.hits(shard)) for shard in range(SHARDS)), within=60)
            stopped = [shard for shard in range(SHARDS) if client.exists(keys.stop(shard))]
            outcome.expect(not stopped, f"shards {stopped} stand still")
        outcome.standstill = watch.stop()
        ledger.compare(url, outcome)
    except BaseException:
        print(stack.output()[-5000:])
        raise
    finally:
        if ledger is not None:
            ledger.stop()
        if stack.process is not None:
            stack.stop()
        shutil.rmtree(data, ignore_errors=True)
        stack.log.unlink(missing_ok=True)
    return outcome
