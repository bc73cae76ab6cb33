"""Hostile readers: 200 clients request the most expensive pages without a pause; some read no answers.

Meanwhile no pixel may be answered 503, 99 of 100 must be answered within P99_MS, and each must be stored
once. On a busy machine, twice the latency without these clients is allowed.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path

from pixel_server.secret import Secrets
from pixel_server.store.client import connect
from tests.chaos.ledger import CAMPAIGN, Ledger
from tests.chaos.outcome import Outcome
from tests.load import Answer, Request, _length, _note
from tests.stack import Stack, until

P99_MS = 50.0
SECONDS = 12.0
CAMPAIGNS = 300
CONNECTIONS, PAUSE_SECONDS = 8, 0.03
"""Connections that request pixels, and their pause after each pixel: about 200 pixels a second."""
CLIENTS = {"readers": (200, 0), "mutes": (0, 200), "both": (140, 60)}
"""Rounds: (clients that read their answers, clients that do not)."""
KEY = "key-of-the-hostile-readers-test"


class Pixels(Ledger):
    """A ledger whose client requests one pixel at a time on each connection, and notes latencies (ms)."""

    def __init__(self, *args, **options) -> None:
        super().__init__(*args, **options)
        self.latencies: list[float] = []

    async def _request_bursts(self) -> None:
        await asyncio.gather(*(self._connection() for _ in range(CONNECTIONS)))

    async def _connection(self) -> None:
        port = self._ports()[0]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while not self._over.is_set():
            for request in self._burst(port):
                if self._over.is_set():
                    break
                self.requests.append(request)
                began = time.perf_counter()
                try:
                    await self._one(request, reader, writer)
                except (OSError, EOFError, TimeoutError):
                    writer.close()
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                self.latencies.append((time.perf_counter() - began) * 1000)
                await asyncio.sleep(PAUSE_SECONDS)
        writer.close()

    async def _one(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        request.answer = Answer(sent=True)
        writer.write(request.wire())
        async with asyncio.timeout(10):
            head = await reader.readuntil(b"\r\n\r\n")
            _note(head, request.answer)
            await reader.readexactly(_length(head))


def percentile(latencies: list[float], share: float) -> float:
    return (
        sorted(latencies)[min(len(latencies) - 1, int(len(latencies) * share))] if latencies else float("nan")
    )


def run(seed: int, log: bool = False) -> Outcome:
    outcome = Outcome("hostile readers", seed)
    data = Path(tempfile.mkdtemp(prefix="px-"))
    stack = Stack(data, PIXEL_TRUSTED_PROXIES="127.0.0.1", PIXEL_API_KEY=KEY)
    stack.start()
    try:
        _story(stack, outcome, seed, log)
    finally:
        stack.stop()
        shutil.rmtree(data)
        stack.log.unlink()
    return outcome


def _story(stack: Stack, outcome: Outcome, seed: int, log: bool) -> None:
    key, cookie, share = _prepare(stack)
    ledgers = []
    max_p99 = P99_MS
    for name, (readers, mutes) in {"nobody": (0, 0), **CLIENTS}.items():
        ledger = Pixels(seed, stack.address, Secrets.load(stack.data), lambda: [stack.port])
        ledger.start()
        answers: dict[str, int] = {}
        health: list[float] = []
        try:
            if readers or mutes:
                numbers = [str(readers), str(mutes), str(SECONDS)]
                command = [sys.executable, "-m", "tests.chaos.hostile", str(stack.port), key, cookie, share]
                hostile = subprocess.Popen([*command, *numbers], stdout=subprocess.PIPE)
                health = _health(stack, hostile)
                answers = json.loads(hostile.communicate(timeout=60)[0])
            else:
                time.sleep(SECONDS / 3)
        finally:
            ledger.stop()
        ledgers.append(ledger)
        refused = sum(request.answer.status == 503 for request in ledger.requests)
        p99 = percentile(ledger.latencies, 0.99)
        outcome.figures[f"{name}: pixels requested"] = len(ledger.latencies)
        outcome.figures[f"{name}: pixels, p50, ms"] = round(percentile(ledger.latencies, 0.5), 1)
        outcome.figures[f"{name}: pixels, p99, ms"] = round(p99, 1)
        outcome.figures[f"{name}: pixels, slowest, ms"] = round(max(ledger.latencies), 1)
        outcome.figures[f"{name}: pixels answered 503"] = refused
        outcome.expect(not refused, f"{name}: {refused} pixels were answered 503")
        if name == "nobody":
            max_p99 = max(P99_MS, 2 * p99)
        outcome.expect(p99 < max_p99, f"{name}: p99 of pixels was {p99:.0f} ms, not under {max_p99:.0f}")
        if health:
            outcome.figures[f"{name}: /healthz and /readyz, slowest, ms"] = round(max(health), 1)
            outcome.expect(max(health) < 5000, f"{name}: /healthz or /readyz did not answer within 5 s")
        if answers:
            outcome.figures[f"{name}: their answers"] = ", ".join(
                f"{k}: {v}" for k, v in sorted(answers.items())
            )
    output = stack.output()
    errors = output.count("Exception in ASGI") - output.count("requests.ClientDisconnect\n")
    outcome.expect(not errors, f"the log has {errors} exceptions: {output[-3000:]}")
    merged = ledgers[0]
    for other in ledgers[1:]:
        merged.requests += other.requests
    with connect(json.loads((stack.data / "up.json").read_text())["redis_url"]) as client:
        until(lambda: not sum(client.xlen(f"px:{{{shard}}}:hits") for shard in range(4)))
    merged.compare(json.loads((stack.data / "up.json").read_text())["redis_url"], outcome)


def _health(stack: Stack, hostile: subprocess.Popen[bytes]) -> list[float]:
    """Returns latencies of /healthz and /readyz (ms) while clients run. An unanswered request is infinite."""
    latencies = []
    while hostile.poll() is None:
        for path in ("/healthz", "/readyz"):
            began = time.perf_counter()
            try:
                with urllib.request.urlopen(stack.address + path, timeout=5) as answer:
                    answer.read()
            except (OSError, http.client.HTTPException):
                latencies.append(float("inf"))
                continue
            latencies.append((time.perf_counter() - began) * 1000)
        time.sleep(0.3)
    return latencies


def _prepare(stack: Stack) -> tuple[str, str, str]:
    """Returns (a `read` key, the cookie of its session, the token of a share link)."""
    for body in (
        {"id": CAMPAIGN, "name": "Chaos", "kind": "email"},
        {"id": "site", "name": "Site", "kind": "web", "identity": "own"},
        *({"id": f"c{i}", "name": f"Campaign {i}", "kind": "email", "sent": 100} for i in range(CAMPAIGNS)),
    ):
        assert stack.call("POST", "/api/campaigns", body)[0] == 201
    key = stack.call("POST", "/api/keys", {"name": "reader", "scopes": ["read"]})[1]["key"]
    status, share = stack.call("POST", "/api/campaigns/site/shares", {"name": "share"})
    assert status == 201, share
    for i in range(300):
        stack.get(f"/p/site.gif?v=visitor-{i}&u=https://example.org/{i}")

    class Keep(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_):
            return None

    body = urllib.parse.urlencode({"key": key}).encode()
    try:
        urllib.request.build_opener(Keep).open(stack.address + "/sign-in", body)
    except urllib.error.HTTPError as answer:
        cookie = answer.headers["Set-Cookie"].partition(";")[0].partition("=")[2]
    return key, cookie, share["url"].rpartition("/")[2]
