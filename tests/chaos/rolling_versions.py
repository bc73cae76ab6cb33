"""Web process and workers change versions in turn, on one Redis, while pixels are requested.

The former version is the last one that knew neither cluster nor sentinels. Newer web processes run with older
workers, and the other way round; then both are the former version again, and at last both are this version.
A shard may wait meanwhile, but no hit may be lost or doubled.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import time
from pathlib import Path

from pixel_server.store import keys
from pixel_server.store.client import connect
from tests.chaos.ledger import SHARDS, Ledger
from tests.chaos.outcome import Outcome
from tests.chaos.parts import Parts
from tests.chaos.scenario import say
from tests.stack import until

FORMER = "a846031"
"""Commit of the former version."""
ROOT = Path(__file__).parents[2]
STEPS = (
    ("web", "new"),
    ("worker", "new"),
    ("web", "old"),
    ("worker", "old"),
    ("worker", "new"),
    ("web", "new"),
)
"""Which process is replaced by which version, in turn. At first both are old."""


def run(seed: int, log: bool = False, seconds: float = 4.0) -> Outcome:
    """seconds: how long each pair of versions runs."""
    outcome = Outcome("rolling-versions", seed)
    draw = random.Random(seed)
    parts = Parts()
    try:
        code = parts.data / "code"
        if not _unpack_former(code):
            print(f"!! NO COMMIT {FORMER} HERE, SO NO OTHER VERSION RUNS !!", flush=True)
            return outcome
        versions = {"web": "old", "worker": "old"}
        for name in versions:
            _start(parts, name, code)
        until(lambda: parts.get("/healthz"))
        with Ledger(seed, parts.address, parts.secrets, lambda: [parts.port], pause=0.02) as ledger:
            time.sleep(seconds)
            for name, version in STEPS:
                versions[name] = version
                say(log, _describe(versions))
                draw.choice([parts.stop, parts.kill])(name)
                _start(parts, name, code if version == "old" else None)
                outcome.events[f"{name} replaced by the {version} version"] += 1
                time.sleep(seconds)
                until(lambda: parts.get("/healthz"))
                shards = _counting_shards(parts)
                outcome.figures[f"shards counted with {_describe(versions)}"] = shards
        with connect(parts.redis_url) as client:
            until(lambda: parts.is_quiet(client))
        ledger.compare(parts.redis_url, outcome)
    except BaseException:
        print(parts.log("web")[-3000:], parts.log("worker")[-3000:])
        raise
    finally:
        parts.close()
    return outcome


def _describe(versions: dict[str, str]) -> str:
    return ", ".join(f"{version} {name}" for name, version in versions.items())


def _counting_shards(parts: Parts) -> int:
    """Returns the number of shards that are counted within a few seconds."""
    with connect(parts.redis_url) as client:
        before = [client.hget(keys.checkpoint(shard), "id") for shard in range(SHARDS)]
        changed: set[int] = set()

        def look() -> bool:
            for shard in range(SHARDS):
                if client.hget(keys.checkpoint(shard), "id") != before[shard]:
                    changed.add(shard)
            return len(changed) == SHARDS

        with contextlib.suppress(AssertionError):
            until(look, within=5)
    return len(changed)


def _start(parts: Parts, name: str, code: Path | None) -> None:
    if name == "web":
        parts.start("web", "serve", "--port", str(parts.port), code=code)
    else:
        parts.start("worker", "work", code=code)


def _unpack_former(code: Path) -> bool:
    """Unpacks the former version into a directory. Returns False if its commit is not here."""
    code.mkdir()
    archive = ["git", "-C", str(ROOT), "archive", FORMER, "pixel_server", "workers"]
    packed = subprocess.run(archive, capture_output=True, check=False)
    if packed.returncode:
        return False
    subprocess.run(["tar", "-x", "-C", str(code)], input=packed.stdout, check=True, env=os.environ)
    return True
