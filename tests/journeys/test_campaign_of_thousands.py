"""A campaign with a known mix of readers and machines, through the real admission, recorder and roll-up."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from datetime import datetime
from ipaddress import ip_network

import pytest

from pixel_server.classify.networks import Networks
from pixel_server.mail.links import Minter
from pixel_server.settings import Settings
from pixel_server.tokens import Mode
from tests.stack import READER

SENT = 3000
SENDING = int(datetime.fromisoformat("2026-03-01T08:00Z").timestamp())
GMAIL = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
OUTLOOK = "Microsoft Office/16.0 (Windows NT 10.0; Microsoft Outlook 16.0.17328; Pro)"
CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/137.0.0.0 Safari/537.36"
)
APPLE = "Mozilla/5.0"
BOT = "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)"
PROGRAM_WEIGHTS = {"gmail": 35, "apple": 30, "outlook": 20, "behind a gateway": 10, "bot": 5}
HOME, GATEWAY = "198.51.100.9", "207.211.30.1"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, trusted_proxies=(ip_network("203.0.113.7/32"),))


def story(draw):
    """Yields (recipient, program, whether the recipient reads, opens) of each recipient.

    An open is (seconds after sending, agent, address).
    """
    for n in range(SENT):
        program = draw.choices(list(PROGRAM_WEIGHTS), list(PROGRAM_WEIGHTS.values()))[0]
        reads = program != "bot" and draw.random() < 0.3
        later = draw.randrange(600, 86_400)
        opens = []
        if program == "gmail" and reads:
            opens = [(later, GMAIL, "66.249.84.1")] * draw.choice([1, 2])
        elif program == "apple":
            opens = [(draw.randrange(60, 3600), APPLE, "172.224.226.1")]
        elif program == "outlook" and reads:
            opens = [(later, OUTLOOK, HOME)]
        elif program == "behind a gateway":
            opens = [(2, CHROME, GATEWAY), *([(later, OUTLOOK, HOME)] if reads else [])]
        elif program == "bot":
            opens = [(later, BOT, HOME)]
        yield f"r{n}", program, reads, opens


def test_rates_of_thousands_follow_their_definitions(site, mail, clock, secrets, stats):
    assert Networks.load().names(bytes(map(int, GATEWAY.split(".")))) == ("mimecast",)
    clock.now = SENDING
    mail(sent=SENT + 10, bounced=10)
    minter = Minter("http://pixel.test", secrets)
    expected: Counter[str] = Counter()
    hits: list[tuple[int, str, str, str]] = []
    for who, program, reads, opens in story(random.Random(2026)):
        url = minter.url("mail", who, sent_at=SENDING)
        expected[program] += 1
        expected[f"{program} read"] += reads
        expected["opens"] += len(opens)
        hits += [(SENDING + after, url, agent, address) for after, agent, address in opens]
    for at, url, agent, address in sorted(hits):
        clock.now = at
        headers = {"User-Agent": agent, "X-Forwarded-For": address}
        assert site.get(url, headers=headers).headers["x-pixel"] == "recorded"
    clock.now = SENDING + 90_000
    figures = stats("mail")

    person = expected["gmail read"] + expected["outlook read"] + expected["behind a gateway read"]
    opened = (
        person
        + expected["apple"]
        + expected["behind a gateway"]
        - expected["behind a gateway read"]
        + expected["bot"]
    )
    totals, verdicts, rate = figures["totals"], figures["verdicts"], figures["open_rate"]
    assert (totals["opens"], totals["unique_opens"]) == (expected["opens"], opened)
    assert totals["unique_opens_person"] == person
    recipients = {name: row["recipients"] for name, row in verdicts.items() if row["recipients"] is not None}
    assert recipients == {
        "person": person,
        "prefetch": expected["apple"],
        "scanner": expected["behind a gateway"] + expected["bot"],
        "unknown": 0,
    }
    assert verdicts["prefetch"]["hits"] == expected["apple"]
    assert verdicts["scanner"]["hits"] == expected["behind a gateway"] + expected["bot"]
    assert sum(row["hits"] for row in verdicts.values()) == totals["hits"] == expected["opens"]
    assert rate["low"] == round(person / SENT, 6)
    assert rate["high"] == round(opened / SENT, 6)
    visible = SENT - expected["apple"]
    assert rate["estimate"] == round(person / visible, 6)
    truth = sum(count for name, count in expected.items() if name.endswith(" read")) / SENT
    assert rate["interval"][0] <= truth <= rate["interval"][1]


def test_stats_gmail_opened_twice_is_one_person(site, mail, clock, secrets, stats):
    clock.now = SENDING
    mail(sent=1)
    url = Minter("http://pixel.test", secrets).url("mail", "ada", sent_at=SENDING)
    for after in (3, 4000):
        clock.now = SENDING + after
        site.get(url, headers={"User-Agent": GMAIL, "X-Forwarded-For": "66.249.84.1"})
    figures = stats("mail")
    assert (figures["totals"]["opens"], figures["totals"]["unique_opens_person"]) == (2, 1)
    assert (figures["verdicts"]["proxy"]["hits"], figures["open_rate"]["low"]) == (2, 1.0)


def test_verdicts_gateways_are_not_persons(site, mail, clock, secrets, stats):
    clock.now = SENDING
    mail(sent=4)
    minter = Minter("http://pixel.test", secrets)
    addresses = ["40.92.0.1", "209.222.82.7", GATEWAY, "2a01:111:f403::1"]
    clock.now = SENDING + 599
    for n, address in enumerate(addresses):
        for agent in (CHROME, OUTLOOK, READER):
            url = minter.url("mail", f"r{n}", sent_at=SENDING)
            site.get(url, headers={"User-Agent": agent, "X-Forwarded-For": address})
    figures = stats("mail")
    assert (figures["totals"]["unique_opens"], figures["totals"]["unique_opens_person"]) == (4, 0)
    assert figures["open_rate"] is not None
    assert (figures["open_rate"]["low"], figures["open_rate"]["high"]) == (0.0, 1.0)


def test_rates_test_mails_are_not_counted(site, mail, clock, secrets, stats):
    clock.now = SENDING
    mail(sent=2)
    trial = Minter("http://pixel.test", secrets).url("mail", "me", sent_at=SENDING, test=True)
    clock.now = SENDING + 600
    site.get(trial)
    figures = stats("mail")
    assert (figures["totals"]["hits"], figures["totals"]["opens"], figures["totals"]["unique_opens"]) == (
        1,
        0,
        0,
    )
    assert (figures["verdicts"]["own"]["hits"], figures["open_rate"]["high"]) == (1, 0.0)


@pytest.mark.parametrize("sent_at_of", ["link", "campaign", "nothing"])
@pytest.mark.parametrize(("after", "person"), [(0, 0), (4, 0), (5, 1)])
def test_verdicts_open_right_after_sending_is_a_scanner(
    site, mail, clock, secrets, stats, sent_at_of, after, person
):
    clock.now = SENDING
    mail(sent_at="2026-03-01T08:00:00Z" if sent_at_of == "campaign" else None)
    minter = Minter("http://pixel.test", secrets)
    url = minter.url("mail", "ada", sent_at=SENDING if sent_at_of == "link" else None, now=SENDING)
    clock.now = SENDING + after
    site.get(url, headers={"User-Agent": CHROME})
    assert stats("mail")["totals"]["unique_opens_person"] == (1 if sent_at_of == "nothing" else person)


def test_compare_uses_visible_recipients_only(site, mail, clock, secrets, stats):
    """Compares campaigns of 200 recipients, of whom 40 or 120 are hidden. Of the others a quarter reads."""
    minter = Minter("http://pixel.test", secrets)
    clock.now = SENDING + 3600
    agents = {"gmail": GMAIL, "apple": APPLE, "outlook": OUTLOOK}
    for name, hidden, readers in (("few", 40, 40), ("many", 120, 20), ("better", 120, 40)):
        mail(id=name, sent=200, sent_at="2026-03-01T08:00:00Z")
        openers = [("apple", n) for n in range(hidden)] + [
            ("outlook", 100 + hidden + n) for n in range(readers)
        ]
        for program, n in [*openers, ("gmail", 0)]:  # one hidden recipient reads in Gmail too
            url = minter.url(name, f"r{n}", now=SENDING)
            headers = {"User-Agent": agents[program], "X-Forwarded-For": HOME}
            assert site.get(url, headers=headers).headers["x-pixel"] == "recorded"
        figures = stats(name)
        assert figures["hidden"] == {"recipients": hidden, "person": 1}
        visible = 200 - figures["hidden"]["recipients"]
        assert figures["open_rate"]["estimate"] == round(readers / visible, 6)

    def against_the_first(*ids):
        answer = site.get("/api/compare?ids=" + ",".join(ids))
        return [one["to_first"] for one in answer.json()["items"]]

    first, many, better = against_the_first("few", "many", "better")
    assert first is None
    assert (many["difference"], many["significant"]) == (0.0, False)
    assert (better["difference"], better["significant"]) == (0.25, True)
    assert stats("few", **{"from": "2026-03-01", "to": "2026-03-02"})["hidden"] is None
    site.get(minter.url("few", "r199", mode=Mode.COUNT, now=SENDING), headers={"User-Agent": OUTLOOK})
    assert stats("few")["totals"]["opens_anonymous"] == 1
    assert against_the_first("few", "many", "better") == [None, None, None]
    assert against_the_first("many", "better")[1]["significant"] is True
