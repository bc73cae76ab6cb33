"""Exact counts: 20,000 hits through the real server, while its workers are killed."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from pixel_server.mail.links import Minter
from pixel_server.secret import Secrets
from tests.load import Request, flood
from tests.stack import Stack, until

HITS = 20_000


def test_stack_flood_of_hits_is_counted_exactly():
    data = Path(tempfile.mkdtemp(prefix="px-"))
    stack = Stack(data, PIXEL_TRUSTED_PROXIES="127.0.0.1", PIXEL_API_KEY="key-of-the-flood-test")
    stack.start()
    try:
        _story(stack)
    finally:
        stack.stop()
        shutil.rmtree(data)
        stack.log.unlink()


def _story(stack: Stack) -> None:
    for name, kind in (("spring", "email"), ("autumn", "email"), ("site", "web")):
        made = {"id": name, "name": name, "kind": kind} | ({"identity": "own"} if kind == "web" else {})
        assert stack.call("POST", "/api/campaigns", made)[0] == 201
    draw = random.Random(7)
    minter = Minter(stack.address, Secrets.load(stack.data))
    requests, people, visitors, addresses = [], Counter(), Counter(), {}
    for _ in range(HITS):
        campaign = draw.choice(("spring", "autumn", "site"))
        address = f"198.{draw.randrange(18, 20)}.{draw.randrange(40)}.{draw.randrange(256)}"
        if campaign == "site":
            visitor = draw.randrange(5_000)
            visitors[visitor] += 1
            url = f"{stack.address}/p/site.gif?v=visitor-{visitor}&u=https://example.org/"
        else:
            person = draw.randrange(8_000)
            people[campaign, person] += 1
            url = minter.url(campaign, f"person-{person}@example.org")
        addresses.setdefault(campaign, set()).add(address)
        requests.append(Request(url, f"X-Forwarded-For: {address}\r\n"))

    over = threading.Event()
    killer = threading.Thread(target=_kill_workers, args=(stack, over))
    killer.start()
    asyncio.run(flood("127.0.0.1", stack.port, requests))
    over.set()
    killer.join()

    answers = Counter(request.answer.pixel for request in requests)
    refused = answers.pop("failed; reason=not-stored", 0)  # of a busy machine; each may be stored or not
    assert answers == {"recorded": HITS - refused}
    assert refused < HITS // 1000

    def exactly(found: int, sent: int) -> bool:
        return sent - refused <= found <= sent

    until(lambda: sum(stack.totals(c)["hits"] for c in ("spring", "autumn", "site")) >= HITS - refused)
    for name in ("spring", "autumn"):
        totals = stack.totals(name)
        assert totals["hits"] == totals["opens"]
        assert exactly(totals["hits"], sum(n for (c, _), n in people.items() if c == name))
        assert exactly(totals["unique_opens"], sum(1 for c, _ in people if c == name))
        assert abs(totals["unique_ips"] - len(addresses[name])) <= 0.02 * len(addresses[name])
    totals = stack.totals("site")
    assert totals["hits"] == totals["views"]
    assert exactly(totals["hits"], sum(visitors.values()))
    assert abs(totals["unique_visitors"] - len(visitors)) <= 0.02 * len(visitors)
    assert abs(totals["unique_ips"] - len(addresses["site"])) <= 0.02 * len(addresses["site"])
    assert "was killed by signal 9" in stack.output()


def _kill_workers(stack: Stack, over: threading.Event) -> None:
    while not over.is_set():
        for pid in stack.pids(" work"):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        over.wait(1.5 + time.monotonic() % 1)
