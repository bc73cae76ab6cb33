"""A mailing to 10,000 recipients with known opens, through the whole server: the rates are as expected."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pixel_server.classify.networks import Networks
from tests.journeys.test_campaign_of_thousands import APPLE, BOT, CHROME, GATEWAY, GMAIL, HOME, OUTLOOK
from tests.load import Request, flood
from tests.stack import Stack, until

PROGRAM_WEIGHTS = {"gmail": 34, "apple": 28, "outlook": 20, "gateway": 6, "burst": 5, "at once": 4, "bot": 3}
RECIPIENTS = 10_000
Hit = tuple[str, str]
"""User agent and address of a request."""


def story(draw: random.Random, program: str, reads: bool) -> list[Hit]:
    """Returns the requests for the mail of one recipient."""
    if program == "gmail":
        return [(GMAIL, f"66.249.84.{draw.randrange(8)}")] * (draw.choice([1, 2]) if reads else 0)
    if program == "apple":
        return [(APPLE, "172.224.226.1")]
    if program == "outlook":
        return [(OUTLOOK, HOME)] * reads
    if program == "gateway":
        return [(CHROME, GATEWAY), *[(OUTLOOK, HOME)] * reads]
    if program == "burst":  # a gateway of four machines, before a company that reads in Gmail
        return [(CHROME, f"192.0.2.{n}") for n in range(4)] + [(GMAIL, "66.249.84.9")] * reads
    return [(CHROME, "192.0.2.99") if program == "at once" else (BOT, HOME)]


@pytest.fixture
def stack(data: Path) -> Iterator[Stack]:
    """Returns a running stack that takes addresses from X-Forwarded-For, and judges by times of its own."""
    times = {"PIXEL_SOON_SECONDS": "900", "PIXEL_DELIVERY_SECONDS": "7200"}
    made = Stack(data, PIXEL_TRUSTED_PROXIES="127.0.0.1", **times)
    made.start()
    yield made
    made.stop()


def test_mailing_known_opens_give_the_expected_rates(stack: Stack):
    assert Networks.load().names(bytes(map(int, GATEWAY.split(".")))) == ("mimecast",)
    draw = random.Random(2026)
    now = datetime.now(UTC).replace(microsecond=0)
    programs = draw.choices(list(PROGRAM_WEIGHTS), list(PROGRAM_WEIGHTS.values()), k=RECIPIENTS)
    rows = [
        {"recipient": f"r{n}", "sent_at": (now - timedelta(hours=program != "at once")).isoformat()}
        for n, program in enumerate(programs)
    ]
    made = {"id": "mail", "name": "Mail", "kind": "email"}
    assert stack.call("POST", "/api/campaigns", made)[0] == 201
    status, answer = stack.call("POST", "/api/campaigns/mail/links", {"recipients": rows, "sent": True})
    assert status == 200
    requests: list[Request] = []
    truth: Counter[str] = Counter()
    for program, link in zip(programs, answer["links"], strict=True):
        reads = program not in ("bot", "at once") and draw.random() < 0.3
        hits = story(draw, program, reads)
        truth[program] += 1
        truth["read"] += reads
        truth["seen"] += reads and program != "apple"
        truth["opened"] += bool(hits)
        truth["proxied"] += sum(agent == GMAIL for agent, _ in hits)
        truth["alone"] += bool(hits) and not reads and program != "apple"
        for agent, address in hits:
            requests.append(Request(link["url"], f"X-Forwarded-For: {address}\r\n", agent))
    draw.shuffle(requests)
    asyncio.run(flood("127.0.0.1", stack.port, requests))
    assert all(request.answer.stored for request in requests)
    until(lambda: stack.totals("mail")["hits"] == len(requests))

    _, stats = stack.call("GET", "/api/campaigns/mail/stats")
    assert stats["delivered"] == RECIPIENTS
    assert stats["totals"]["unique_opens"] == truth["opened"]
    assert stats["totals"]["unique_opens_person"] == truth["seen"]
    scanned = truth["gateway"] + truth["burst"] + truth["at once"] + truth["bot"]
    assert stats["verdicts"]["scanner"] == {"hits": scanned + 3 * truth["burst"], "recipients": scanned}
    assert stats["verdicts"]["prefetch"] == {"hits": truth["apple"], "recipients": truth["apple"]}
    assert stats["verdicts"]["proxy"]["hits"] == truth["proxied"]
    assert stats["verdicts"]["unknown"] == {"hits": 0, "recipients": 0}
    assert stats["rules"]["burst"] == 4 * truth["burst"]
    assert stats["rules"]["at-once"] == truth["at once"]
    rate, visible = stats["open_rate"], RECIPIENTS - truth["apple"]
    assert rate["low"] == round(truth["seen"] / RECIPIENTS, 6)
    assert rate["high"] == round(truth["opened"] / RECIPIENTS, 6)
    assert rate["estimate"] == round(truth["seen"] / visible, 6)
    assert stats["time_to_open"]["recipients"] == truth["seen"]
    hour = stats["time_to_open"]["median"]
    assert 3600 * 0.95 <= hour <= 3600 * 1.2
    for state, number in (
        ("person", truth["seen"]),
        ("machine_only", truth["alone"] + truth["apple"]),
        ("unopened", RECIPIENTS - truth["opened"]),
    ):
        found, after = 0, "0"
        while after is not None:
            _, page = stack.call("GET", f"/api/campaigns/mail/recipients?state={state}&after={after}")
            found, after = found + len(page["items"]), page["next"]
        assert found == number, state
