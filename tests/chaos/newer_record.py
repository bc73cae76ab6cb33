"""A campaign's record is unreadable, as of a newer version, while hits arrive and processes are killed."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable

from pixel_server.secret import Secrets
from pixel_server.store import keys
from pixel_server.store.client import connect
from pixel_server.store.protocols import Redis
from tests.chaos.ledger import CAMPAIGN, SHARDS, Ledger
from tests.chaos.outcome import Outcome
from tests.chaos.scenario import own_redis_url, readyz, say, whole_server
from tests.chaos.standstill import StandstillWatch
from tests.stack import Stack, until

CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "a newer kind": lambda record: record.replace(b'"email"', b'"push"'),
    "an odd time zone": lambda record: record.replace(b'"UTC"', b'"Mars/Olympus"'),
}
"""Changes that make a record unreadable, by name."""


def run(seed: int, log: bool = False) -> Outcome:
    outcome = Outcome("newer-record", seed)
    with whole_server() as stack:
        url = own_redis_url(stack)
        stack.call("POST", "/api/campaigns", {"id": CAMPAIGN, "name": "Chaos", "kind": "email"})
        stack.call("POST", "/api/campaigns", {"id": "other", "name": "Other", "kind": "email"})
        until(lambda: CAMPAIGN.encode() in (stack.data / "campaigns.json").read_bytes())
        watch = StandstillWatch(url)
        with (
            Ledger(seed, stack.address, Secrets.load(stack.data), lambda: (stack.port,)) as ledger,
            connect(url) as client,
        ):
            watch.start()
            scenario = _NewerRecord(stack, client, watch, outcome, log)
            for name, change in CHANGES.items():
                scenario.store_unreadable_record(name, change)
            until(lambda: _unreadable(stack) == [])
            ledger.stop()
            until(lambda: not sum(client.xlen(keys.hits(shard)) for shard in range(SHARDS)))
            stopped = [shard for shard in range(SHARDS) if client.exists(keys.stop(shard))]
            outcome.expect(not stopped, f"shards {stopped} stand still")
        outcome.standstill = watch.stop()
        ledger.compare(url, outcome)
    return outcome


class _NewerRecord:
    def __init__(
        self, stack: Stack, client: Redis, watch: StandstillWatch, outcome: Outcome, log: bool
    ) -> None:
        self._stack, self._client, self._watch = stack, client, watch
        self._outcome, self._log = outcome, log
        self._random = random.Random(outcome.seed)

    def store_unreadable_record(self, name: str, change: Callable[[bytes], bytes]) -> None:
        """Changes the campaign's record, kills processes, checks the answers, and puts the record back."""
        say(self._log, name)
        record = self._client.hget(keys.campaign(CAMPAIGN), "record")
        assert record is not None
        self._store(change(record))
        until(lambda: _unreadable(self._stack) == [CAMPAIGN])
        time.sleep(self._random.uniform(1, 2))
        self._kill_processes()
        time.sleep(self._random.uniform(1, 2))
        self._check_answers()
        stored = self._client.hget(keys.campaign(CAMPAIGN), "record")
        self._outcome.expect(stored == change(record), "the record was changed")
        self._store(record)
        self._outcome.events["records of a newer version"] += 1

    def _store(self, record: bytes) -> None:
        self._client.hset(keys.campaign(CAMPAIGN), "record", record)
        self._client.xadd(keys.CHANGES, {"id": CAMPAIGN})

    def _kill_processes(self) -> None:
        """Kills a web process and a worker, and returns when both run again."""
        self._watch.paused = True  # no worker runs for a while
        for words in (" serve", "work --one"):
            for pid in self._stack.pids(words)[:1]:
                say(self._log, f"kill -9 of {words.strip()}")
                os.kill(pid, signal.SIGKILL)
                self._outcome.events["kill -9"] += 1
        until(lambda: _unreadable(self._stack) == [CAMPAIGN])
        until(lambda: readyz(self._stack)["workers"])
        time.sleep(5)  # RQ keeps the job of a killed worker listed for this long
        self._watch.paused = False

    def _check_answers(self) -> None:
        status, _ = self._stack.call("GET", f"/api/campaigns/{CAMPAIGN}/stats")
        self._outcome.expect(status == 409, f"stats of an unreadable campaign answer {status}")
        _, listed = self._stack.call("GET", "/api/campaigns")
        ids = [item["id"] for item in listed["items"]]
        self._outcome.expect(ids == ["other"], f"the list shows {ids}, and not the other campaign alone")


def _unreadable(stack: Stack) -> list[str] | None:
    """Returns the ids of the unreadable campaigns by /readyz, or None while it does not answer."""
    ids: list[str] | None = readyz(stack).get("store", {}).get("unreadable_campaigns")
    return ids
