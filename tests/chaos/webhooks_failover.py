"""Sentinels replace the primary again and again while events of webhooks wait, and workers are killed.

The endpoints and the client are those of `webhooks`. So that events wait, the endpoints refuse everything
from before a failure until after it in half of the rounds. A primary that is cut off answers the server on,
and takes events that its successor never sees. At the end each recorded recipient's first open must have
reached both endpoints, under one id.
"""

from __future__ import annotations

import random
import time

from pixel_server.secret import Secrets
from tests.chaos import webhooks
from tests.chaos.outcome import Outcome
from tests.chaos.scenario import reported, say, whole_server
from tests.chaos.sentinel_failover import cut_off, fail_over, kill_primary
from tests.chaos.webhooks import Answers, Client
from tests.sentinels import Program, Watched
from tests.stack import until
from tests.webhooks import receiver as receivers
from tests.webhooks.receiver import Answer, Received

WAITING_EVENTS = 20
"""Number of recipients who open while the endpoints refuse everything, before a failure begins."""


def run(seed: int, log: bool = False, rounds: int = 15) -> Outcome:
    outcome, draw = Outcome("webhooks-failover", seed), random.Random(seed)
    watched = Watched()
    queue = Program(watched.home)
    environ = {
        "REDIS_URL": watched.url,
        "PIXEL_QUEUE_URL": f"redis://127.0.0.1:{queue.port}",
        "PIXEL_WEBHOOK_PRIVATE": "1",
    }
    try:
        with receivers.running() as receiver, whole_server(**environ) as stack:
            answer = Answers(seed)
            receiver.answer = answer
            webhooks.make_endpoints(watched.url, receiver)
            stack.call("POST", "/api/campaigns", {"id": "spring", "name": "Spring", "kind": "email"})
            with Client(stack, Secrets.load(stack.data)) as client:
                for _ in range(rounds):
                    if draw.random() < 0.5:
                        receiver.answer = _refuse
                        number = len(client.recorded) + WAITING_EVENTS
                        until(lambda number=number: len(client.recorded) >= number, within=120)
                        outcome.events["failures while events wait"] += 1
                    failure = draw.choice((fail_over, kill_primary, cut_off))
                    name = failure.__name__.replace("_", " ")
                    say(log, name)
                    failure(watched, stack)
                    outcome.events[name] += 1
                    receiver.answer = answer
                    if draw.random() < 0.5:
                        webhooks.kill("work --one")(stack, draw)
                        outcome.events["workers killed"] += 1
                    watched.wait_for_replica()
                    time.sleep(draw.uniform(0, 2))
            webhooks.note(client, answer, receiver, watched.url, outcome)
            outcome.reported = reported(stack)
            outcome.expect(outcome.reported == 0, f"{outcome.reported} hits are reported as lost")
    finally:
        queue.kill()
        watched.remove()
    return outcome


def _refuse(request: Received) -> Answer:
    return 503, {}, "not now"
