"""The whole server of one scenario, and questions that several scenarios ask it."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pixel_server.collect.spool.status import read_status
from pixel_server.store import keys
from pixel_server.store.client import connect
from tests.chaos.ledger import SHARDS
from tests.stack import Stack, until

API_KEY = "key-of-the-chaos-test"


@contextlib.contextmanager
def whole_server(*options: str, **environ: str) -> Iterator[Stack]:
    """Yields a running `pixel-server up` with an empty data directory. Removes both when the block ends.

    options: of the command, such as `--relay`. environ: settings of the server. If the block raises, prints
    the end of the server's log.
    """
    stack = Stack(Path(tempfile.mkdtemp(prefix="px-")), PIXEL_API_KEY=API_KEY, **environ)
    try:
        stack.start(*options)
        yield stack
    except BaseException:
        print(stack.output()[-5000:])
        raise
    finally:
        if stack.process is not None:
            stack.stop()
        shutil.rmtree(stack.data, ignore_errors=True)
        stack.log.unlink(missing_ok=True)


def own_redis_url(stack: Stack) -> str:
    """Returns the URL of the Valkey that `up` has started."""
    url: str = json.loads((stack.data / "up.json").read_text())["redis_url"]
    return url


def readyz(stack: Stack) -> dict[str, Any]:
    """Returns the answer of /readyz, or {} while the web process does not answer."""
    try:
        return stack.call("GET", "/readyz")[1] or {}
    except OSError:  # the web process is being restarted
        return {}


def warnings(stack: Stack) -> str:
    """Returns the warnings of /readyz, joined. While it does not answer, they contain "was emptied" too."""
    return "; ".join(readyz(stack).get("warnings", ["not known: was emptied or not"]))


def reported(stack: Stack) -> int:
    """Returns the number of lost hits that /readyz reports, or -1 while it does not answer."""
    hits: int = readyz(stack).get("losses", {}).get("hits", -1)
    return hits


def settle(redis_url: str, data: Path) -> None:
    """Returns when nothing waits, neither in the spool of this data directory nor in a stream."""
    with connect(redis_url, timeout=10) as client:
        until(
            lambda: (
                not read_status(data / "spool").segments
                and not sum(client.xlen(keys.hits(shard)) for shard in range(SHARDS))
            ),
            within=60,
            every=0.2,
        )
    time.sleep(1)  # the last acknowledged hits are compared within a second


def say(log: bool, text: str) -> None:
    """Prints a line about the progress of a scenario, with the time, if `log` is set."""
    if log:
        print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)
