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
    "cluster": "tests.chaos.cluster",
    "two-failures": "tests.chaos.two_failures",
    "rolling-versions": "tests.chaos.rolling_versions",
