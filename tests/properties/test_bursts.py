"""Bursts come out as they do when each hit is looked at in a list, whatever the cuts and crashes."""

from __future__ import annotations

import asyncio
import contextlib
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
from pixel_server.store.client import connect, connect_async
from pixel_server.tokens import Mode, Token
from tests.conftest import ANY_YEAR, NOW
from tests.properties.test_rollup import Killed, Wire
from tests.stack import READER
from workers.rollup_pass import Outcome, Rollup

GMAIL = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
KINDS = {READER: "person", GMAIL: "proxy", "curl/8.5.0": "scanner", "": "unknown"}
BEGAN = int(NOW) // 900 * 900 + 600
SENT = BEGAN - 100


@dataclass(frozen=True)
class Seen:
    """at: seconds after BEGAN."""

    at: int
    recipient: int
    address: int
    agent: str
    method: str

    def hit(self) -> Hit:
        key = self.recipient.to_bytes(8, "big")
        flags = Token("mail", 0, key, Mode.PSEUDONYMOUS).flags
        ms = (BEGAN + self.at) * 1000
        address = bytes([203, 0, 113, self.address])
        return Hit(ms, "mail", hit.EMAIL, self.method, flags, 0, key, b"", address, self.agent)


seen = st.builds(
    Seen,
    at=st.sampled_from([0, 10, 20, 29, 30, 31, 40, 50, 61, 70, 200, 330, 345, 360, 700]),
    recipient=st.sampled_from([1, 1, 1, 2]),
    address=st.integers(1, 4),
    agent=st.sampled_from([READER, READER, READER, *KINDS]),
    method=st.sampled_from(["GET", "GET", "GET", "HEAD"]),
)

times = st.sampled_from([1, 1, 1, 1, 1, 2, 17, 20])
stories = st.lists(st.tuples(seen, times), min_size=3, max_size=16).map(
    lambda parts: [one for one, n in parts for _ in range(n)]
)
"""Some with more hits in a minute than are held."""


def in_a_list(story: list[Seen]) -> list[str]:
    """The verdict on each hit at the end. there: those that are held."""
    verdicts = [KINDS[one.agent] for one in story]
    newest = 0
    there: list[int] = []
    for i, new in enumerate(story):
        newest = max(newest, BEGAN + new.at)
        there = [j for j in there if (BEGAN + story[j].at) // 60 >= newest // 60 - 5]
        if (BEGAN + new.at) // 60 < newest // 60 - 5:
            continue
        if verdicts[i] == "proxy":
            continue
        others = [j for j in there if story[j].recipient == new.recipient]
        beside = [*others, i]
        for start in {story[j].at for j in beside}:
            within = [j for j in beside if start <= story[j].at <= start + 30]
            if i in within and len({story[j].address for j in within}) >= 3:
                for j in within:
                    verdicts[j] = "scanner"
        minute = [j for j in others if story[j].at // 60 == new.at // 60]
        near = {story[j].address for j in minute if story[j].at // 15 == new.at // 15}
        if len(minute) < 16 or (len(near) < 3 and new.address not in near):
            there.append(i)
    return verdicts


def wanted(story: list[Seen]) -> dict[str, Any]:
    verdicts = in_a_list(story)
    opens: dict[int, list[tuple[int, str, Seen]]] = {}
    for one, verdict in zip(story, verdicts, strict=True):
        if one.method == "GET":
            opens.setdefault(one.recipient, []).append((BEGAN + one.at, verdict, one))
    persons = {who: [o for o in found if o[1] in ("person", "proxy")] for who, found in opens.items()}
    clients: Counter[str] = Counter()
    for found in persons.values():
        clients.update("cGmail" if verdict == "proxy" else "cThunderbird" for _, verdict, _ in found)
    firsts = [min(at for at, _, _ in found) for found in persons.values() if found]
    times = Counter(f"t{histogram.delay_bin(at - SENT)}" for at in firsts)
    return {
        "hits": {name: verdicts.count(name) for name in ("person", "proxy", "scanner", "unknown")},
        "unique": Counter(at // 900 * 900 for at in firsts),
        "labels": clients + times,
        "recipients": {
            name: sum(any(v == name or (name == "person" and v == "proxy") for _, v, _ in f) for f in found)
            for name, found in ((n, opens.values()) for n in ("person", "scanner", "unknown"))
        },
        "first": {who: min(at for at, _, _ in found) if found else 0 for who, found in persons.items()},
        "last": {who: max(at for at, _, _ in found) if found else 0 for who, found in persons.items()},
    }


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    story=stories,
    cuts=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    crashes=st.lists(st.tuples(st.integers(1, 16), st.booleans()), max_size=4),
)
def test_bursts_do_not_depend_on_cuts_and_crashes(
    valkey_url: str,
    secrets: Secrets,
    story: list[Seen],
    cuts: list[int],
    crashes: list[tuple[int, bool]],
):
    client = connect(valkey_url)
    client.flushall()
    note(f"{story} {cuts} {crashes}")
    made = Settings(redis_url=valkey_url, shards=1, keep_buckets=3650, soon_seconds=0)

    async def create() -> None:
        there = connect_async(valkey_url)
        await storage.create(there, new_campaign("mail", "mail", "email", sent_at=SENT))
        await there.aclose()

    asyncio.run(create())
    left = list(story)
    for i in range(len(story)):
        batch, left = left[: cuts[i % len(cuts)]], left[cuts[i % len(cuts)] :]
        if batch:
            client.xadd(keys.hits(0), {"1": hit.encode_batch([hit.encode(one.hit()) for one in batch])})

    def kill() -> None:
        raise Killed

    for number, crash in enumerate([*crashes, None]):
        with contextlib.suppress(Killed):
            wire = Wire(client, {crash: kill} if crash else {})
            rollup = Rollup(wire, made, secrets, 0, max_entries=1 + number % 3, max_ahead_ms=ANY_YEAR)
            while rollup.step(NOW) is Outcome.COUNTED:
                pass

    total = {name.decode(): int(n) for name, n in client.hgetall(keys.total(0, "mail")).items()}
    should = wanted(story)
    assert {name: total.get(f"hits_{name}", 0) for name in should["hits"]} == should["hits"]
    assert {name: total.get(f"recipients_{name}", 0) for name in should["recipients"]} == should["recipients"]
    unique: Counter[int] = Counter()
    for name in client.keys(keys.buckets(0, "mail", "*")):
        midnight = BEGAN // 86_400 * 86_400
        assert name.decode().endswith(series.utc_day(midnight))
        for number, cell in series.unpack(client.get(name)).items():
            unique[midnight + number * 900] += (cell + [0] * 20)[series.UNIQUE_OPENS_PERSON]
    assert +unique == should["unique"]
    labels = open_breakdown.unpack(client.hget(keys.breakdown(0, "mail"), open_breakdown.ALL)).get(0, {})
    assert {k: n for k, n in labels.items() if k[0] in "ct"} == dict(should["labels"])
    months = [value for name, value in client.hgetall(keys.breakdown(0, "mail")).items() if name != b"all"]
    assert [day for month in months for day in open_breakdown.unpack(month).values()] == [labels][
        : len(labels)
    ]
    for who, first in should["first"].items():
        key = who.to_bytes(8, "big")
        kept = recipient_record.unpack(
            client.hget(keys.people(0, "mail", recipient_record.people_bucket(key)), key)
        )
        assert kept.first_person == first
        assert kept.last_person >= should["last"][who]
        assert kept.last_person <= kept.last
    rules = {name.decode(): int(n) for name, n in client.hgetall(keys.rules(0, "mail")).items()}
    assert sum(n for name, n in rules.items() if " " not in name) == len(story)
    assert rules.get("burst", 0) == sum(
        a != b for a, b in zip([KINDS[one.agent] for one in story], in_a_list(story), strict=True)
    )
    newest = max(BEGAN + one.at for one in story) // 60
    kept = {int(name.rpartition(b":")[2]) for name in client.keys(keys.evidence(0, 0)[:-1] + "*")}
    assert all(newest - 5 <= minute <= newest for minute in kept)
    client.close()
