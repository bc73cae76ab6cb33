"""Strangers with links of mails post to the privacy page without end, while pixels are requested.

PARTS has the numbers of links. The strangers post over CONNECTIONS connections. Counting must go on, each
answered hit must be counted once, and the audit log must keep its lines.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Sequence
from urllib.parse import urlsplit

from pixel_server.mail.links import Minter
from pixel_server.secret import Secrets
from pixel_server.store import audit_log, keys
from pixel_server.store.client import connect
from pixel_server.store.protocols import Redis
from pixel_server.store.shards import shard_of
from tests.chaos.ledger import CAMPAIGN, SHARDS, Ledger
from tests.chaos.outcome import Outcome
from tests.chaos.scenario import own_redis_url, whole_server
from tests.chaos.standstill import StandstillWatch
from tests.stack import until

SECONDS = 12.0
"""Seconds that each part of the attack takes."""
LINKS, CONNECTIONS = 400, 16
MAX_STANDSTILL_SECONDS = 5.0
ACTIONS = ("stop", "allow", "erase", "allow")
PARTS = {
    "4 links, stop": (SHARDS, ("stop",)),
    "4 links": (SHARDS, ACTIONS),
    "400 links": (LINKS, ACTIONS),
}
"""Parts of the attack: (number of links, actions repeated with each link)."""
ANSWER_TIMEOUT_SECONDS = 20.0


def run(seed: int, log: bool = False, seconds: float = SECONDS) -> Outcome:
    outcome = Outcome("hostile-privacy", seed)
    with whole_server() as stack:
        url, secrets = own_redis_url(stack), Secrets.load(stack.data)
        with connect(url, timeout=10.0) as client:
            stack.call("POST", "/api/keys", {"name": "made before", "scopes": ["read"]})
            audit_log_before = client.xrange(keys.AUDIT)
            longest = 0.0
            with Ledger(seed, stack.address, secrets, lambda: (stack.port,)) as ledger:
                for part, (count, actions) in PARTS.items():
                    watch = StandstillWatch(url)
                    watch.start()
                    attack = Attack(stack.port, _tokens(stack.address, secrets, part, count), actions)
                    attack.start()
                    time.sleep(seconds)
                    outcome.events.update(attack.stop(part))
                    longest = max(longest, _note(outcome, part, watch.stop(), client))
                    if log:
                        print(f"{part}: {outcome.figures}", flush=True)
            outcome.standstill = longest
            outcome.expect(longest < MAX_STANDSTILL_SECONDS, f"counting stood still for {longest:.1f} s")
            until(lambda: not any(client.xlen(keys.hits(shard)) for shard in range(SHARDS)), every=0.2)
            ledger.compare(url, outcome)
            _compare_logs(client, audit_log_before, outcome)
    return outcome


def _note(outcome: Outcome, part: str, longest: float, client: Redis) -> float:
    """Notes the figures of one part of the attack. Returns the longest standstill, in seconds."""
    outcome.figures[f"{part}: counting stood still, s at most"] = round(longest, 1)
    waiting = sum(client.xlen(keys.hits(shard)) for shard in range(SHARDS))
    outcome.figures[f"{part}: entries waiting at its end"] = waiting
    return longest


def _compare_logs(client: Redis, lines_before: list[object], outcome: Outcome) -> None:
    kept = client.xrange(keys.AUDIT)
    outcome.expect(kept[: len(lines_before)] == lines_before, "lines of the audit log were pushed out")
    pages = [fields for _, fields in kept if fields[b"who"] == audit_log.PAGE.encode()]
    outcome.expect(not pages, f"recipients wrote {len(pages)} lines into the audit log")
    outcome.figures["lines in the log of recipients"] = client.xlen(keys.ACTIONS)
    counted = sum(map(int, client.hvals(keys.ACTION_COUNTS)))
    outcome.figures["actions that changed something"] = counted
    outcome.expect(client.xlen(keys.ACTIONS) <= audit_log.MAX_LINES, "the log of recipients is not bounded")
    outcome.figures["rewrites requested"] = int(client.hget(keys.REWRITE, "asked") or 0)


def _tokens(address: str, secrets: Secrets, part: str, count: int) -> list[str]:
    """Returns tokens of recipients who open nothing, equally many of each shard, and new for each part."""
    minter, per_shard = Minter(address, secrets), count // SHARDS
    by_shard: dict[int, list[str]] = {shard: [] for shard in range(SHARDS)}
    number = 0
    while any(len(tokens) < per_shard for tokens in by_shard.values()):
        name = f"hostile {part} {number}"
        number += 1
        tokens = by_shard[shard_of(secrets.recipient_key(name), SHARDS)]
        if len(tokens) < per_shard:
            tokens.append(urlsplit(str(minter.url(CAMPAIGN, name))).path[3:-4])
    return [token for tokens in zip(*by_shard.values(), strict=True) for token in tokens]


class Attack:
    """Posts to the privacy page over CONNECTIONS connections, from `start` to `stop`."""

    def __init__(self, port: int, tokens: Sequence[str], actions: Sequence[str]) -> None:
        self._port = port
        self._actions = actions
        self._tokens = tokens
        self._over = threading.Event()
        self._answers: Counter[int] = Counter()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, part: str) -> Counter[str]:
        """Ends the attack. Returns the numbers of answers by status."""
        self._over.set()
        self._thread.join()
        return Counter({f"{part}: answers {status}": count for status, count in self._answers.items()})

    async def _run(self) -> None:
        await asyncio.gather(*(self._connection(number) for number in range(CONNECTIONS)))

    async def _connection(self, number: int) -> None:
        step = number
        while not self._over.is_set():
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                try:
                    while not self._over.is_set():
                        token = self._tokens[step % len(self._tokens)]
                        action = self._actions[step // len(self._tokens) % len(self._actions)]
                        writer.write(_post(token, action))
                        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), ANSWER_TIMEOUT_SECONDS)
                        self._answers[int(head.split(b" ", 2)[1])] += 1
                        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                        await asyncio.wait_for(reader.readexactly(length), ANSWER_TIMEOUT_SECONDS)
                        step += CONNECTIONS + 1  # each request takes the next link, over all connections
                finally:
                    writer.close()
            except (OSError, EOFError, TimeoutError):
                self._answers[0] += 1
                await asyncio.sleep(0.05)


def _post(token: str, action: str) -> bytes:
    body = f"t={token}&do={action}"
    return (
        "POST /privacy HTTP/1.1\r\nHost: pixel.test\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()
