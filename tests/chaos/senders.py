"""Mails go through a relay, are opened, and their opens reach webhooks, while all parts are killed at random.

Clients send each mail to `up --relay` until it is answered with 250. A reader requests the pixel of each mail
that has arrived until it is recorded, once to three times, and a mail service reports the mail as delivered.
The relay, web process, workers, Redis and `up` are killed meanwhile; the next mail server and the endpoints
of the webhooks break off and refuse.

At the end, the mails that were answered with 250 must be those that arrived. Each recipient's first open of
each campaign must have reached each endpoint under one id, and the figures must be those of the mails.
"""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException

from pixel_server.mail.placement import pixels
from pixel_server.secret import Secrets
from tests.chaos import killed_relay, webhooks
from tests.chaos.killed_relay import CAMPAIGNS, Chaos, Ledger, addressed, number_of
from tests.chaos.outcome import Outcome
from tests.chaos.scenario import own_redis_url, say, whole_server
from tests.chaos.webhooks import Answers
from tests.deliveries.payloads import postmark_event
from tests.relay.servers import ScriptedServer
from tests.stack import Stack, free_port, until
from tests.webhooks import receiver as receivers
from tests.webhooks.receiver import Receiver

PAUSE_SECONDS = 0.1
"""Seconds between two mails of a client."""
MAX_OPENS = 3


def run(seed: int, log: bool = False, kills: int = 40, mails: int = 300) -> Outcome:
    """Runs the scenario. kills: number of processes that are killed or stopped. mails: smallest number."""
    outcome, draw, port = Outcome("senders", seed), random.Random(seed), free_port()
    chaos, ledger, answers = Chaos(seed, 0, outcome.events), Ledger(), Answers(seed)
    with (
        chaos.behind.running() as behind,
        receivers.running() as receiver,
        whole_server(
            "--relay",
            PIXEL_RELAY_LISTEN=f"127.0.0.1:{port}",
            PIXEL_RELAY_TO=f"smtp://127.0.0.1:{behind.port}",
            PIXEL_SOON_SECONDS="0",  # the mails are opened at once
            PIXEL_WEBHOOK_PRIVATE="1",
        ) as stack,
    ):
        chaos.stack, receiver.answer = stack, answers
        webhooks.make_endpoints(own_redis_url(stack), receiver)
        for campaign in CAMPAIGNS:
            stack.call("POST", "/api/campaigns", {"id": campaign, "name": campaign, "kind": "email"})
        reader, is_calm = Reader(seed, stack, behind), threading.Event()
        with ThreadPoolExecutor(2) as threads:
            sending = threads.submit(
                *(killed_relay.send_from_clients, port, ledger),
                *(lambda number: number >= mails and is_calm.is_set(), PAUSE_SECONDS),
            )
            reading = threads.submit(reader.read_until, sending.done)
            try:
                make_trouble(kills, draw, chaos, receiver, log)
            finally:
                chaos.kills_left, answers.is_calm = 0, True
                is_calm.set()
            sending.result()
            reading.result()
        outcome.sent, outcome.answered = reader.sent, reader.recorded
        compare(stack, chaos, ledger, receiver, outcome)
    outcome.figures["of them answered badly"] = answers.bad
    return outcome


class Reader:
    """Opens each mail that has arrived, and reports it as delivered, as its mail service does.

    sent, recorded: numbers of requests for pixels that were sent, and that were answered `recorded`.
    """

    def __init__(self, seed: int, stack: Stack, behind: ScriptedServer) -> None:
        self._draw, self._stack, self._behind = random.Random(seed + 2), stack, behind
        self._provider = stack.run("deliveries", "add", "postmark").stdout.strip()
        self.sent = self.recorded = 0

    def read_until(self, is_over: Callable[[], bool]) -> None:
        """Reads until `is_over`, and then what is left."""
        number_read = 0
        while not is_over() or number_read < len(self._behind.mails):
            for _, raw in self._behind.mails[number_read:]:
                [pixel] = pixels(raw)
                for _ in range(self._draw.randint(1, MAX_OPENS)):
                    until(lambda url=pixel.url: self._open(url), within=120)
                number = number_of(raw)
                for _ in range(self._draw.randint(1, 2)):
                    until(lambda number=number: self._report(number), within=120)
                number_read += 1
            time.sleep(0.02)

    def _open(self, url: str) -> bool:
        """Requests a pixel. Returns whether the answer is `recorded`."""
        self.sent += 1
        with contextlib.suppress(OSError, HTTPException):
            is_recorded = self._stack.get(url) == (200, "recorded")
            self.recorded += is_recorded
            return is_recorded
        return False

    def _report(self, number: int) -> bool:
        """Reports a mail as delivered. Returns whether the server has taken the report."""
        campaign, recipient = addressed(number)
        event = postmark_event(recipient.partition("@")[0], "delivered")
        body = json.dumps({**event, "Metadata": {"pixel_campaign": campaign}}).encode()
        request = urllib.request.Request(self._provider, body, {"Content-Type": "application/json"})
        with (
            contextlib.suppress(OSError, HTTPException),
            urllib.request.urlopen(request, timeout=60) as answer,
        ):
            return bool(answer.status == 200)
        return False


def make_trouble(kills: int, draw: random.Random, chaos: Chaos, receiver: Receiver, log: bool) -> None:
    """Kills or stops one part after the other, at random."""
    assert chaos.stack is not None
    acts = [
        *webhooks.acts(receiver),
        *[("relay killed", webhooks.kill("pixel_server relay"))] * 3,
        *[("relay killed at a step of a mail", lambda *_: chaos.kill_once())] * 3,
        ("web process killed", webhooks.kill("serve --handle")),
        ("up killed", kill_up),
    ]
    for _ in range(kills):
        name, act = draw.choice(acts)
        say(log, name)
        act(chaos.stack, draw)
        chaos.events[name] += 1
        time.sleep(draw.uniform(0.1, 2.0))


def kill_up(stack: Stack, draw: random.Random) -> None:
    """Kills `up`, with which all its processes end, and starts it again."""
    assert stack.process is not None
    stack.process.kill()
    stack.process.wait()
    stack.start("--relay")


def compare(stack: Stack, chaos: Chaos, ledger: Ledger, receiver: Receiver, outcome: Outcome) -> None:
    """Notes mails, first opens and figures that are not those of the mails that were sent."""
    killed_relay.compare(ledger, chaos.behind, outcome)
    secrets = Secrets.load(stack.data)
    sent_to = {addressed(number_of(raw)) for _, raw in chaos.behind.mails}
    openers = {(campaign, secrets.recipient_key(recipient).hex()) for campaign, recipient in sent_to}
    outcome.figures["first opens of recipients"] = len(openers)
    webhooks.compare(openers, receiver, own_redis_url(stack), outcome)
    compare_figures(stack, Counter(campaign for campaign, _ in sent_to), outcome)
    outcome.expect("traceback=" not in stack.output(), "the log has a traceback")


def compare_figures(stack: Stack, mails: Counter[str], outcome: Outcome) -> None:
    """Notes figures that are not those of the mails. mails: number of mails by campaign."""
    for campaign, number in mails.items():
        expected = {"sent": number, "delivered": number, "unique_opens": number, "low": 1.0, "high": 1.0}
        with contextlib.suppress(AssertionError):
            until(lambda name=campaign, right=expected: figures(stack, name) == right)
        shown = figures(stack, campaign)
        outcome.expect(shown == expected, f"{campaign}: the figures are {shown}, not {expected}")
        outcome.counted += stack.totals(campaign)["opens"]
    outcome.lost = max(0, outcome.answered - outcome.counted)
    outcome.doubled = max(0, outcome.counted - outcome.sent)


def figures(stack: Stack, campaign: str) -> dict[str, object]:
    """Returns figures of a campaign, or {} while the server does not answer."""
    with contextlib.suppress(OSError, HTTPException):
        status, stats = stack.call("GET", f"/api/campaigns/{campaign}/stats")
        if status == 200:
            rate = stats["open_rate"] or {}
            return {
                "sent": stats["sent"],
                "delivered": stats["delivered"],
                "unique_opens": stats["totals"]["unique_opens"],
                "low": rate.get("low"),
                "high": rate.get("high"),
            }
    return {}
