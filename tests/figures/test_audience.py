"""The audience of several campaigns: who opened some, all or none of them."""

from __future__ import annotations

import asyncio
import csv
import io
import itertools
import json
import random
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from pixel_server.api import audience as api_audience
from pixel_server.counters import recipient_record
from pixel_server.counters.recipient_record import RecipientRecord
from pixel_server.figures import audience, recipients
from pixel_server.figures.audience import Condition, Source
from pixel_server.mail.links import Minter
from pixel_server.problems import Problem
from pixel_server.recipients import withdrawals
from pixel_server.store import keys
from pixel_server.store.client import connect_async
from pixel_server.store.shards import shard_of
from tests.figures.test_recipients import LIST, SCANNER

DAY = "2025-06-10"
NAMES = ("ada", "bob", "cyd", "dan", "eve", "fay")


pytestmark = pytest.mark.usefixtures("few_buckets")


@pytest.fixture
def story(site, mail, clock, secrets, stats):
    """Fills three campaigns: `old` and `new` have lists, `bare` has none. Eve opened, and then withdrew."""
    clock.at(f"{DAY}T08:00Z")
    for name, mode in (("old", "pseudonymous"), ("new", "identified"), ("bare", "pseudonymous")):
        mail(id=name, mode=mode)
    for campaign, listed in (("old", ("ada", "bob", "cyd", "dan", "eve")), ("new", ("ada", "cyd", "dan"))):
        body = "".join(json.dumps({"recipient": who, "name": f"={who.title()}"}) + "\n" for who in listed)
        assert site.put(f"/api/campaigns/{campaign}/recipients", content=body, headers=LIST).is_success
    minter = Minter("http://pixel.test", secrets)
    opens = [
        ("09:00", "old", ("ada", "cyd", "eve")),
        ("10:00", "new", ("ada", "cyd")),
        ("11:00", "new", ("ada",)),
        ("12:00", "bare", ("cyd", "fay")),
    ]
    for at, campaign, people in opens:
        clock.at(f"{DAY}T{at}Z")
        for who in people:
            site.get(minter.url(campaign, who, now=clock.now))
    site.get(minter.url("old", "bob", now=clock.now), headers={"User-Agent": SCANNER})
    stats("old")
    assert site.post("/api/withdrawals", json={"recipients": ["eve"]}).is_success


@pytest.fixture
def chosen(site, secrets):
    """Returns a function that returns the rows of an audience by the recipient's short name."""
    known = {secrets.recipient_key(name).hex(): name for name in NAMES}

    def chosen(**query):
        rows, after = [], {}
        while after is not None:
            answer = site.get("/api/audience", params={"of": "old,new,bare", **query, **after})
            assert answer.status_code == 200, answer.text
            rows += answer.json()["items"]
            after = {"after": answer.json()["next"]} if answer.json()["next"] else None
        return {known[row["key"]]: row for row in rows}

    return chosen


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, "ada cyd fay"),
        ({"opened": "any"}, "ada cyd fay"),
        ({"opened": "all"}, "cyd"),
        ({"opened": "none"}, "bob dan"),
        ({"opened": "2"}, "ada cyd"),
        ({"opened": "3"}, "cyd"),
        ({"opened": "any", "state": "opened"}, "ada bob cyd fay"),
        ({"opened": "none", "state": "opened"}, "dan"),
        ({"min_opens": "2"}, "ada"),
        ({"opened": "none", "min_opens": "2"}, "bob cyd dan fay"),
        ({"since": f"{DAY}T10:30:00Z"}, "ada cyd fay"),
        ({"opened": "2", "since": f"{DAY}T10:00:00"}, "cyd"),
        ({"opened": "none", "since": "2025-06-11"}, "ada bob cyd dan fay"),
        ({"of": "old", "opened": "none"}, "bob dan"),
        ({"of": "bare,new", "opened": "all"}, "cyd"),
    ],
)
def test_audience_lists_who_fulfils_the_condition(story, chosen, query, found):
    assert " ".join(sorted(chosen(**query))) == found


def test_audience_row_adds_up_all_campaigns(story, chosen, secrets):
    rows = chosen(opened="any")
    assert rows["ada"] == {
        "key": secrets.recipient_key("ada").hex(),
        "recipient": "ada",
        "name": "=Ada",
        "campaigns": 2,
        "opened": 2,
        "opens": 3,
        "last_open": f"{DAY}T11:00:00.000Z",
    }
    assert rows["fay"] | {"key": ""} == {
        **{"key": "", "recipient": None, "name": None},
        **{"campaigns": 1, "opened": 1, "opens": 1, "last_open": f"{DAY}T12:00:00.000Z"},
    }
    assert chosen(opened="none")["dan"] | {"key": "", "name": ""} == {
        **{"key": "", "recipient": "dan", "name": ""},
        **{"campaigns": 2, "opened": 0, "opens": 0, "last_open": None},
    }


def test_audience_names_only_by_a_list_that_may_be_shown(story, chosen, site):
    assert {row["recipient"] for row in chosen(of="old").values()} == {None}
    site.patch("/api/campaigns/new", json={"mode": "pseudonymous"})
    assert {row["recipient"] for row in chosen(of="old,new").values()} == {None}


def test_audience_counts_agree_with_the_lists(story, chosen, site):
    query = {"of": "old,new,bare"}
    answer = site.get("/api/audience/counts", params=query).json()
    assert (answer["recipients"], answer["opened"]) == (5, [2, 1, 1, 1])
    assert answer["without_list"] == ["bare"]
    assert answer["opened"][0] == len(chosen(opened="none"))
    assert sum(answer["opened"][2:]) == len(chosen(opened="2"))
    assert site.get("/api/audience/counts", params={**query, "min_opens": 2}).json()["opened"] == [4, 1, 0, 0]


def test_audience_answer_says_among_whom(story, site):
    answer = site.get("/api/audience", params={"of": "old,bare", "opened": "none"}).json()
    assert answer["without_list"] == ["bare"]
    assert answer["base"].startswith("recipients who are on the list of at least one of these campaigns")
    refused = site.get("/api/audience", params={"of": "bare", "opened": "none"})
    assert (refused.status_code, refused.json()["detail"].partition(":")[0]) == (
        409,
        "it is not known who did not open the mail",
    )


def test_audience_as_lines_has_all_and_no_formula(story, site):
    query = {"of": "old,new,bare"}
    lines = site.get("/api/audience", params=query, headers={"Accept": "application/x-ndjson"})
    assert len([json.loads(line) for line in lines.text.splitlines()]) == 3
    table = site.get("/api/audience", params=query, headers={"Accept": "text/csv"})
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert sorted(row["name"] for row in rows) == ["", "'=Ada", "'=Cyd"]
    assert table.headers["cache-control"] == "no-store"
    told = site.get("/api/audit").json()["items"][0]
    assert (told["what"], told["about"]) == ("audience.read", {"campaigns": "old,new,bare"})


@pytest.mark.parametrize(
    ("query", "status", "field"),
    [
        ({}, 422, "of"),
        ({"of": ""}, 422, "of"),
        ({"of": "old,"}, 422, "of"),
        ({"of": "old,old"}, 422, "of"),
        ({"of": ",".join(f"c{n}" for n in range(300))}, 422, "of"),
        ({"of": "old,none-such"}, 404, None),
        ({"of": "old,page"}, 409, None),
        ({"of": "old,dim"}, 409, None),
        *(
            ({"of": "old", "opened": text}, 422, "opened")
            for text in ("", "some", "0", "2", "-1", "1.0", "٢")
        ),
        *(
            ({"of": "old", "since": text}, 422, "since")
            for text in ("", "yesterday", "2025-13-01", "9999-01-01")
        ),
        *(
            ({"of": "old", "min_opens": n}, 422, "min_opens")
            for n in ("0", "-1", "1" + 30 * "0", "x", "1001", "")
        ),
        ({"of": "old", "state": "unopened"}, 422, "state"),
        ({"of": "old", "after": "16384"}, 422, "after"),
        ({"of": "old", "open": "any"}, 422, "open"),
    ],
)
def test_audience_bad_query_is_refused(site, mail, page, query, status, field):
    mail(id="old")
    mail(id="dim", mode="count")
    page()
    for path in ("/api/audience", "/api/audience/counts"):
        if path.endswith("counts") and query.keys() & {"opened", "after"}:
            continue
        answer = site.get(path, params=query)
        assert answer.status_code == status, answer.text
        if field:
            assert [error["field"] for error in answer.json()["errors"]] == [field]
        else:
            assert query["of"].partition(",")[2] in answer.json()["detail"]


def test_audience_page_ends_after_some_work(story, site, chosen, monkeypatch):
    monkeypatch.setattr(api_audience, "PAGE_SECONDS", 0.0)
    first = site.get("/api/audience", params={"of": "old,new,bare"}).json()
    assert len(first["items"]) < 3
    assert first["next"] is not None
    assert sorted(chosen()) == ["ada", "cyd", "fay"]


def test_audience_second_count_is_refused():
    async def count_twice():
        lock = asyncio.Lock()
        async with lock:
            await api_audience.count_alone(SimpleNamespace(audience_count=lock), None, "key 1")

    with pytest.raises(Problem) as refused:
        asyncio.run(count_twice())
    assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "5"})


def test_audience_needs_the_scope_people(site, mail):
    mail(id="old")
    key = site.post("/api/keys", json={"name": "reads", "scopes": ["read", "write"]}).json()["key"]
    for path in ("/api/audience", "/api/audience/counts"):
        answer = site.get(path, params={"of": "old"}, headers={"Authorization": f"Bearer {key}"})
        assert answer.status_code == 403


def _naive(known, condition, withdrawn):
    """Returns {recipient: (campaigns, opened, opens, last)} by the condition. known: by campaign."""
    found = {}
    for recipient in set().union(*known) - withdrawn:
        records = [by_recipient[recipient] for by_recipient in known if recipient in by_recipient]
        counted = [
            (record.person, record.last_person)
            if condition.state == "person"
            else (record.opens, record.last)
            for record in records
        ]
        opened = sum(opens >= condition.min_opens and last >= condition.since for opens, last in counted)
        if condition.least <= opened <= condition.most:
            last = max(last for opens, last in (*counted, (1, 0)) if opens)
            found[recipient] = (len(records), opened, sum(opens for opens, _ in counted), last)
    return found


def _naive_csv(known, condition, withdrawn):
    """Returns the file that `_csv` must return: written by the csv module, times by datetime."""
    found = _naive(known, condition, withdrawn)
    out = io.StringIO()
    table = csv.writer(out)
    table.writerow(audience.FIELDS)
    for key in sorted(found, key=lambda key: (recipients.place(key, 4), key)):
        *numbers, last = found[key]
        at = datetime.fromtimestamp(last, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z") if last else None
        table.writerow([key.hex(), None, None, *numbers, at])
    return out.getvalue().encode()


async def _csv(parts):
    return b"".join([lines async for lines in audience.as_csv(parts)])


def test_audience_random_campaigns_agree_with_a_plain_count(client, redis_url, secrets):
    draw = random.Random(5)
    people = [draw.randbytes(8) for _ in range(2000)]
    known = [{} for _ in range(5)]
    pipe = client.pipeline(transaction=False)
    for number, by_recipient in enumerate(known):
        for recipient in draw.sample(people, 1000 if number else 40):
            shard, bucket = shard_of(recipient, 4), recipient_record.people_bucket(recipient)
            record = RecipientRecord()
            if is_listed := draw.random() < 0.8:
                pipe.hset(keys.listed(shard, f"c{number}", bucket), recipient, "")
            if not is_listed or draw.random() < 0.5:
                record = _random_record(draw)
                pipe.hset(keys.people(shard, f"c{number}", bucket), recipient, recipient_record.pack(record))
            by_recipient[recipient] = record
    pipe.execute()
    withdrawn = set(people[:100])

    async def check():
        store = connect_async(redis_url, timeout=10.0)
        await withdrawals.withdraw(store, secrets, list(withdrawn), 1_790_000_000, 4)
        sources = [Source(f"c{number}", False) for number in range(5)]
        for bounds, state, since, min_opens in itertools.product(
            ((0, 0), (1, 5), (2, 5), (5, 5)), audience.STATES, (0, 500), (1, 2)
        ):
            condition = Condition(*bounds, state, since, min_opens)
            assert await _csv(audience.rows(store, secrets, sources, 4, condition)) == _naive_csv(
                known, condition, withdrawn
            )
        counts = (await audience.count(store, secrets, sources, 4, Condition(0, 0))).opened
        assert counts == [len(_naive(known, Condition(n, n), withdrawn)) for n in range(6)]
        await store.aclose()

    asyncio.run(check())


def _random_record(draw):
    person, machine = draw.choice(((0, 1), (1, 0), (2, 0), (1, 2), (3, 1)))
    first, middle, last = sorted(draw.choices(range(1, 1000), k=3))
    if not person:
        return RecipientRecord(first, last, machine, prefetch=machine)
    last_person = middle if machine else last
    return RecipientRecord(
        *(first, last, person + machine, 0, person, first, machine), last_person=last_person
    )
