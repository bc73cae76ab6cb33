"""The relay of `up --relay` is killed at every step of a mail, and the next server breaks off and refuses.

Clients send each mail again until it is answered with 250, as programs and mail servers do. Then the mails
that were answered with 250 must be those that arrived. A mail may arrive again only after a try in which the
client sent the end of the mail and did not learn what became of it.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tests.chaos.outcome import Outcome
from tests.chaos.scenario import say, whole_server
from tests.relay.servers import ScriptedServer, Talk
from tests.stack import Stack, free_port, until

CLIENTS = 4
CAMPAIGNS = ("spring", "summer")
MAIL = (
    "Subject: mail {number}\r\nContent-Type: text/html\r\nX-Pixel-Campaign: {campaign}\r\n\r\n<p>Hi</p>\r\n"
)
STEPS = ("EHLO", "MAIL", "RCPT", "DATA", ".")


def addressed(number: int) -> tuple[str, str]:
    """Returns the campaign and the recipient of a mail. Each recipient gets a mail of each campaign."""
    return CAMPAIGNS[number % len(CAMPAIGNS)], f"r{number // len(CAMPAIGNS)}@example.org"


class Ledger:
    """What the clients saw. answered: numbers of mails that were answered with 250. doubts: by mail, tries of
    which the client does not know the end. tries: number of all tries."""

    def __init__(self) -> None:
        self.answered: set[int] = set()
        self.doubts: Counter[int] = Counter()
        self.tries = 0


class Chaos:
    """Kills the relay, breaks connections off and refuses commands, at steps that a seed chooses."""

    def __init__(self, seed: int, kills: int, events: Counter[str]) -> None:
        self._random, self._lock = random.Random(seed), threading.Lock()
        self.kills_left, self.events = kills, events
        self.stack: Stack | None = None
        self.behind = ScriptedServer()
        self.behind.replies_to = self._reply

    def kill_once(self) -> None:
        """Returns when the relay was killed once more, at a step of a mail that the seed chooses."""
        with self._lock:
            self.kills_left += 1
        until(lambda: self.kills_left <= 0)

    def _reply(self, step: str) -> bytes | None:
        """Returns the reply to a step in place of the usual reply, or None. May kill the relay first."""
        kind = next((name for name in STEPS if step.upper().startswith(name)), "")
        with self._lock:
            chance = self._random.random()
            if not kind:
                return None
            if chance < 0.06:
                if self.kills_left > 0:
                    self._kill(kind)
            elif chance < 0.1:
                self.events[f"broken off at {kind}"] += 1
                return b""
            elif chance < 0.15 and kind != "EHLO":
                self.events[f"refused at {kind}"] += 1
                return b"451 4.3.0 try again later\r\n"
        return None

    def _kill(self, kind: str) -> None:
        assert self.stack is not None
        for pid in self.stack.pids("pixel_server relay"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.kills_left -= 1
                self.events[f"relay killed at {kind}"] += 1


def run(seed: int, log: bool = False, kills: int = 12, mails: int = 300) -> Outcome:
    """Runs the scenario; takes about a minute."""
    outcome = Outcome("killed-relay", seed)
    chaos, ledger, port = Chaos(seed, kills, outcome.events), Ledger(), free_port()
    with (
        chaos.behind.running() as behind,
        whole_server(
            "--relay",
            PIXEL_RELAY_LISTEN=f"127.0.0.1:{port}",
            PIXEL_RELAY_TO=f"smtp://127.0.0.1:{behind.port}",
        ) as stack,
    ):
        chaos.stack = stack
        send_from_clients(port, ledger, lambda number: number >= mails and chaos.kills_left <= 0)
        say(log, f"{len(ledger.answered)} mails answered with 250")
        for line in stack.output().splitlines():
            outcome.expect("traceback" not in line, line)
    outcome.expect(chaos.kills_left <= 0, f"the relay was to be killed {chaos.kills_left} times more")
    compare(ledger, behind, outcome)
    return outcome


def number_of(raw: bytes) -> int:
    """Returns the number of a mail that arrived."""
    match = re.match(rb"Subject: mail (\d+)\r\n", raw)
    assert match is not None, raw
    return int(match[1])


def compare(ledger: Ledger, behind: ScriptedServer, outcome: Outcome) -> None:
    """Notes mails that were lost, doubled without a lost answer, or changed wrongly."""
    arrived = Counter(number_of(raw) for _, raw in behind.mails)
    doubled = [number for number, count in arrived.items() if count > 1 + ledger.doubts[number]]
    outcome.figures |= {
        "tries to send a mail": ledger.tries,
        "mails answered with 250": len(ledger.answered),
        "mails that arrived": len(arrived),
        "of them again, after an answer that was lost": sum(arrived.values()) - len(arrived),
    }
    outcome.expect(ledger.answered == set(arrived), "not the mails arrived that were answered with 250")
    outcome.expect(not doubled, f"{len(doubled)} mails arrived twice without an answer that was lost")
    outcome.expect(all(b"<img " in raw for _, raw in behind.mails), "a mail has no pixel")
    outcome.expect(all(b"X-Pixel" not in raw for _, raw in behind.mails), "a mail has the relay's field")


def send_from_clients(
    port: int, ledger: Ledger, is_enough: Callable[[int], bool], pause: float = 0.0
) -> None:
    """Sends mails from several clients until `is_enough` is true of a mail's number.

    Each mail is sent until it is answered with 250. pause: seconds between two mails of a client.
    """
    numbers = iter(range(10**6))

    def send() -> None:
        for number in numbers:
            if is_enough(number):
                return
            until(lambda number=number: _try(port, number, ledger), within=120)
            time.sleep(pause)

    with ThreadPoolExecutor(CLIENTS) as clients:
        for ended in [clients.submit(send) for _ in range(CLIENTS)]:
            ended.result()


def _try(port: int, number: int, ledger: Ledger) -> bool:
    """Sends a mail once. Returns whether it was answered with 250."""
    ledger.tries += 1
    is_sent, answer = False, ""
    campaign, recipient = addressed(number)
    with contextlib.suppress(OSError), Talk(port) as client:
        replies = [*client.begin(recipient), client.say("DATA")]
        if [reply[:3] for reply in replies] == ["250", "250", "354"]:
            is_sent = True
            client.send(MAIL.format(number=number, campaign=campaign).encode() + b".\r\n")
            answer = client.reply()
    if answer.startswith("250"):
        ledger.answered.add(number)
    elif is_sent and (not answer or answer.startswith("421")):
        ledger.doubts[number] += 1
    return answer.startswith("250")
