"""Runs every chaos scenario, or the named scenarios, one after the other.

make chaos
make chaos CHAOS="--seed 7 --kills 50 --only kills"

A scenario is a module here with `run(seed, log, **options) -> Outcome`. The exit code is 1 if a scenario
failed.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time

from tests import leftovers

SCENARIOS = {
    "kills": "tests.chaos.story",
    "full-redis": "tests.chaos.full_redis",
    "silent-connections": "tests.chaos.silent_connections",
    "hostile-privacy": "tests.chaos.hostile_privacy",
    "clocks": "tests.chaos.clocks",
    "hostile-readers": "tests.chaos.hostile_readers",
    "far-redis": "tests.chaos.far_redis",
    "few-descriptors": "tests.chaos.few_descriptors",
    "emptied-redis": "tests.chaos.emptied_redis",
    "promoted-replica": "tests.chaos.promoted_replica",
    "newer-record": "tests.chaos.newer_record",
    "sentinel-failover": "tests.chaos.sentinel_failover",
    "cluster": "tests.chaos.cluster",
    "two-failures": "tests.chaos.two_failures",
    "killed-relay": "tests.chaos.killed_relay",
    "rolling-versions": "tests.chaos.rolling_versions",
    "webhooks": "tests.chaos.webhooks",
    "webhooks-failover": "tests.chaos.webhooks_failover",
    "senders": "tests.chaos.senders",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument(
        "--kills", type=int, default=200, help="how many processes the scenario `kills` kills"
    )
    parser.add_argument(
        "--failures", type=int, default=30, help="how many parts fail in the scenario `cluster`"
    )
    parser.add_argument("--only", nargs="*", choices=SCENARIOS, default=list(SCENARIOS))
    chosen = parser.parse_args()
    leftovers.begin()
    print(f"seed {chosen.seed}", flush=True)
    failed = []
    for name in chosen.only:
        print(f"-- {name}", flush=True)
        counts = {"kills": {"kills": chosen.kills}, "cluster": {"failures": chosen.failures}}
        options = counts.get(name, {})
        outcome = importlib.import_module(SCENARIOS[name]).run(chosen.seed, log=True, **options)
        print(outcome.table(), flush=True)
        if outcome.failed:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
