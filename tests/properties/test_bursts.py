"""Bursts come out as when each hit is judged in a list, whatever the cuts of the stream and the crashes."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from pixel_server import hit
from pixel_server.campaigns import storage
from pixel_server.campaigns.campaign import new_campaign
from pixel_server.counters import histogram, open_breakdown, recipient_record, series
from pixel_server.hit import Hit
from pixel_server.secret import Secrets
from pixel_server.settings import Settings
from pixel_server.store import keys
from pixel_server.store.client import connect_async
from pixel_server.tokens import Mode, Part, Token
from tests.cluster_nodes import client_of
from tests.conftest import NOW
from tests.properties import examples
from tests.properties.crashing_rollup import (
    Step,
    count_all_with_crashes,
    cuts_of_a_stream,
    steps,
    store_in_batches,
)
from tests.stack import READER

GMAIL = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
VERDICTS = {READER: "person", GMAIL: "proxy", "curl/8.5.0": "scanner", "": "unknown"}
"""Verdict on a hit that is not part of a burst, by its agent."""
BEGIN = int(NOW) // 900 * 900 + 600
"""Seconds since 1970 at which the stories begin: 10 minutes after a bucket begins."""
SENT = BEGIN - 100


@dataclass(frozen=True)
class MailHit:
    """A hit of a story. at: seconds after BEGIN. minted: when its link was made, seconds since 1970."""

    at: int
    recipient: int
    address: int
    agent: str
    method: str
    part: Part
    minted: int

    @property
    def link(self) -> tuple[int, Part]:
        return self.minted, self.part

    @property
    def is_open(self) -> bool:
        return self.method == "GET" and self.part != Part.BOTTOM

    @property
    def source(self) -> tuple[int, str] | None:
        """The address and the agent at delivery, None later."""
        is_at_delivery = BEGIN + self.at - SENT < Settings().delivery_seconds
        return (self.address, self.agent) if is_at_delivery else None

    def hit(self) -> Hit:
        key = self.recipient.to_bytes(8, "big")
        flags = Token("mail", 0, key, Mode.PSEUDONYMOUS, self.part).flags
        ms = (BEGIN + self.at) * 1000
        address = bytes([203, 0, 113, self.address])
        return Hit(ms, "mail", hit.EMAIL, self.method, flags, self.minted, key, b"", address, self.agent)


mail_hits = st.builds(
    MailHit,
    at=st.sampled_from([0, 10, 20, 29, 30, 31, 40, 50, 61, 70, 200, 330, 345, 360, 480, 499, 500, 510, 700]),
    recipient=st.sampled_from([1, 1, 1, 2]),
    address=st.integers(1, 4),
    agent=st.sampled_from([READER, READER, READER, *VERDICTS]),
    method=st.sampled_from(["GET", "GET", "GET", "HEAD"]),
    part=st.sampled_from([Part.SINGLE, Part.SINGLE, Part.SINGLE, Part.TOP, Part.BOTTOM]),
    minted=st.sampled_from([0, 0, 0, 1]),
)

repeats = st.sampled_from([1, 1, 1, 1, 1, 2, 17, 20])
stories = st.lists(st.tuples(mail_hits, repeats), min_size=3, max_size=16).map(
    lambda parts: [mail_hit for mail_hit, n in parts for _ in range(n)]
)
"""Lists of hits. Some have more hits in a minute than traces are kept."""


def is_evidence(hits: list[MailHit]) -> bool:
    """Returns whether hits on one link are a burst."""
    sources = {mail_hit.source for mail_hit in hits} - {None}
    return len({mail_hit.address for mail_hit in hits}) >= 3 or len(sources) >= 3


def verdicts_in_a_list(story: list[MailHit]) -> list[str]:
    """Returns the final verdict on each hit, judged beside the hits of the list whose traces are kept."""
    verdicts = [VERDICTS[mail_hit.agent] for mail_hit in story]
    newest = 0
    kept: list[int] = []
    for i, new in enumerate(story):
        newest = max(newest, BEGIN + new.at)
        kept = [j for j in kept if (BEGIN + story[j].at) // 60 >= newest // 60 - 5]
        if (BEGIN + new.at) // 60 < newest // 60 - 5:
            continue
        if verdicts[i] == "proxy":
            continue
        others = [j for j in kept if story[j].recipient == new.recipient]
        nearby = [j for j in [*others, i] if story[j].link == new.link]
        for start in {story[j].at for j in nearby}:
            within = [j for j in nearby if start <= story[j].at <= start + 30]
            if i in within and is_evidence([story[j] for j in within]):
                for j in within:
                    verdicts[j] = "scanner"
        minute = [j for j in others if story[j].at // 60 == new.at // 60]
        quarter = [
            story[j] for j in minute if story[j].at // 15 == new.at // 15 and story[j].link == new.link
        ]
        addresses = {mail_hit.address for mail_hit in quarter}
        sources = {mail_hit.source for mail_hit in quarter} - {None}
        is_new_address = len(addresses) < 3 and new.address not in addresses
        is_new_source = new.source is not None and len(sources) < 3 and new.source not in sources
        if len(minute) < 16 or is_new_address or is_new_source:
            kept.append(i)
    return verdicts


def counts_in_a_list(story: list[MailHit]) -> dict[str, Any]:
    """Returns the figures that the verdicts in a list give."""
    verdicts = verdicts_in_a_list(story)
    opens: dict[int, list[tuple[int, str]]] = {}
    for mail_hit, verdict in zip(story, verdicts, strict=True):
        if mail_hit.is_open:
            opens.setdefault(mail_hit.recipient, []).append((BEGIN + mail_hit.at, verdict))
    persons = {who: [o for o in of_one if o[1] in ("person", "proxy")] for who, of_one in opens.items()}
    clients: Counter[str] = Counter()
    for of_one in persons.values():
        clients.update("cGmail" if verdict == "proxy" else "cThunderbird" for _, verdict in of_one)
    firsts = [min(at for at, _ in of_one) for of_one in persons.values() if of_one]
    delays = Counter(f"t{histogram.delay_bin(at - SENT)}" for at in firsts)

    def recipients_with(name: str) -> int:
        classes = {name, "proxy"} if name == "person" else {name}
        return sum(any(verdict in classes for _, verdict in of_one) for of_one in opens.values())

    return {
        "hits": {name: verdicts.count(name) for name in ("person", "proxy", "scanner", "unknown")},
        "unique": Counter(at // 900 * 900 for at in firsts),
        "labels": clients + delays,
        "recipients": {name: recipients_with(name) for name in ("person", "scanner", "unknown")},
        "first": {who: min(at for at, _ in of_one) if of_one else 0 for who, of_one in persons.items()},
        "last": {who: max(at for at, _ in of_one) if of_one else 0 for who, of_one in persons.items()},
    }


@settings(
    max_examples=examples(50), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(story=stories, cuts=cuts_of_a_stream, crashes=st.lists(steps(16), max_size=4))
def test_bursts_any_cuts_and_crashes_give_the_verdicts_of_a_list(
    valkey_url: str, secrets: Secrets, story: list[MailHit], cuts: list[int], crashes: list[Step]
):
    client = client_of(valkey_url)
    client.flushall()
    note(f"{story} {cuts} {crashes}")
    own = Settings(redis_url=valkey_url, shards=1, keep_buckets=3650, soon_seconds=0)

    async def create() -> None:
        store = connect_async(valkey_url)
        await storage.create(store, new_campaign("mail", "mail", "email", sent_at=SENT))
        await store.aclose()

    asyncio.run(create())
    store_in_batches(client, [mail_hit.hit() for mail_hit in story], cuts)
    count_all_with_crashes(client, own, secrets, crashes)

    total = {name.decode(): int(n) for name, n in client.hgetall(keys.total(0, "mail")).items()}
    expected = counts_in_a_list(story)
    assert {name: total.get(f"hits_{name}", 0) for name in expected["hits"]} == expected["hits"]
    recipients = {name: total.get(f"recipients_{name}", 0) for name in expected["recipients"]}
    assert recipients == expected["recipients"]
    unique: Counter[int] = Counter()
    for name in client.keys(keys.buckets(0, "mail", "*")):
        midnight = BEGIN // 86_400 * 86_400
        assert name.decode().endswith(series.utc_day(midnight))
        for number, cell in series.unpack(client.get(name)).items():
            unique[midnight + number * 900] += (cell + [0] * 20)[series.UNIQUE_OPENS_PERSON]
    assert +unique == expected["unique"]
    labels = open_breakdown.unpack(client.hget(keys.breakdown(0, "mail"), open_breakdown.ALL)).get(0, {})
    assert {label: n for label, n in labels.items() if label[0] in "ct"} == dict(expected["labels"])
    months = [value for name, value in client.hgetall(keys.breakdown(0, "mail")).items() if name != b"all"]
    days = [day for month in months for day in open_breakdown.unpack(month).values()]
    assert days == [labels][: len(labels)]
    for who, first in expected["first"].items():
        key = who.to_bytes(8, "big")
        name = keys.people(0, "mail", recipient_record.people_bucket(key))
        record = recipient_record.unpack(client.hget(name, key))
        assert record.first_person == first
        assert expected["last"][who] <= record.last_person <= record.last
    rules = {name.decode(): int(n) for name, n in client.hgetall(keys.rules(0, "mail")).items()}
    assert sum(n for name, n in rules.items() if " " not in name) == len(story)
    alone = [VERDICTS[mail_hit.agent] for mail_hit in story]
    assert rules.get("burst", 0) == sum(a != b for a, b in zip(alone, verdicts_in_a_list(story), strict=True))
    newest = max(BEGIN + mail_hit.at for mail_hit in story) // 60
    minutes = {int(name.rpartition(b":")[2]) for name in client.keys(keys.evidence(0, 0)[:-1] + "*")}
    assert all(newest - 5 <= minute <= newest for minute in minutes)
    client.close()
