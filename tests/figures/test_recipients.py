"""Recipients of a campaign by state: in pages, and all as lines."""

from __future__ import annotations

import asyncio
import csv
import io
import json

import pytest

from pixel_server.figures import recipients
from pixel_server.mail.links import Minter
from pixel_server.store import keys
from pixel_server.store.client import connect_async

DAY = "2025-06-10"
LIST = {"Content-Type": "application/x-ndjson"}
SCANNER = "python-requests/2.32.3"


@pytest.fixture
def story(site, mail, clock, secrets, stats):
    """Makes five recipients: ada read, bob was scanned, cyd both, dan has an unknown open, eve none."""
    clock.at(f"{DAY}T08:00Z")
    mail(mode="identified")
    names = ("ada", "bob", "cyd", "eve")
    body = "".join(json.dumps({"recipient": who, "name": f"={who.title()}"}) + "\n" for who in names)
    assert site.put("/api/campaigns/mail/recipients", content=body, headers=LIST).status_code == 200
    minter = Minter("http://pixel.test", secrets)
    opens = [("ada", None), ("bob", SCANNER), ("cyd", SCANNER), ("cyd", None), ("dan", "")]
    for who, agent in opens:
        headers = {} if agent is None else {"User-Agent": agent}
        site.get(minter.url("mail", who, now=clock.now), headers=headers)
    stats("mail")


def who(answer, secrets):
    known = {secrets.recipient_key(name).hex(): name for name in ("ada", "bob", "cyd", "dan", "eve")}
    return sorted(known[row["key"]] for row in answer.json()["items"])


@pytest.mark.parametrize(
    ("state", "found"),
    [
        ("opened", ["ada", "bob", "cyd", "dan"]),
        ("person", ["ada", "cyd"]),
        ("machine_only", ["bob"]),
        ("unknown", ["dan"]),
        ("unopened", ["eve"]),
    ],
)
def test_recipients_of_a_state_are_listed(story, site, secrets, state, found):
    answer = site.get("/api/campaigns/mail/recipients", params={"state": state})
    assert (answer.status_code, who(answer, secrets), answer.json()["next"]) == (200, found, None)


def test_recipients_row_has_opens_and_name(story, site, secrets):
    answer = site.get("/api/campaigns/mail/recipients", params={"state": "person"})
    [ada] = [row for row in answer.json()["items"] if row["recipient"] == "ada"]
    assert ada == {
        "key": secrets.recipient_key("ada").hex(),
        "recipient": "ada",
        "name": "=Ada",
        "listed": True,
        "opens": 1,
        "opens_person": 1,
        "first_open": f"{DAY}T08:00:00.000Z",
        "last_open": f"{DAY}T08:00:00.000Z",
        "last_open_person": f"{DAY}T08:00:00.000Z",
        "withdrawn": False,
        "first_open_person": f"{DAY}T08:00:00.000Z",
    }


def test_recipients_as_lines_has_all(story, site):
    lines = site.get("/api/campaigns/mail/recipients", headers={"Accept": "application/x-ndjson"})
    assert len([json.loads(line) for line in lines.text.splitlines()]) == 4
    table = site.get("/api/campaigns/mail/recipients", headers={"Accept": "text/csv"})
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert {row["name"] for row in rows} == {"'=Ada", "'=Bob", "'=Cyd", ""}, "no spreadsheet runs a name"
    assert table.headers["cache-control"] == "no-store"
    told = site.get("/api/audit").json()["items"][0]
    assert (told["what"], told["about"]) == ("recipients.read", {"campaign": "mail", "state": "opened"})


def test_recipients_pages_have_each_once(site, mail, clock):
    clock.at(f"{DAY}T08:00Z")
    mail()
    body = "".join(json.dumps({"recipient": f"r{n}"}) + "\n" for n in range(5000))
    site.put("/api/campaigns/mail/recipients", content=body, headers=LIST)
    seen, after = [], "0"
    while after is not None:
        page = site.get("/api/campaigns/mail/recipients", params={"state": "unopened", "after": after}).json()
        seen += [row["key"] for row in page["items"]]
        after = page["next"]
    assert (len(seen), len(set(seen))) == (5000, 5000)


def test_recipients_other_mode_hides_names(story, site):
    site.patch("/api/campaigns/mail", json={"mode": "pseudonymous"})
    rows = site.get("/api/campaigns/mail/recipients").json()["items"]
    assert {(row["recipient"], row["name"]) for row in rows} == {(None, None)}


def test_recipients_bad_request_is_refused(mail, page, site):
    mail()
    page()
    ask = "/api/campaigns/{}/recipients"
    assert site.get(ask.format("mail"), params={"state": "unopened"}).status_code == 409
    assert site.get(ask.format("page")).status_code == 409
    assert site.get(ask.format("none")).status_code == 404
    for query in ({"state": "read"}, {"after": "x"}, {"after": "16384"}, {"after": ""}):
        assert site.get(ask.format("mail"), params=query).status_code == 422
    site.patch("/api/campaigns/mail", json={"mode": "count"})
    assert site.get(ask.format("mail")).status_code == 409


def test_used_places_are_those_with_a_list_or_a_record(client, redis_url):
    border = keys.PEOPLE_BUCKETS  # the first place of the second shard
    client.hset(keys.listed(0, "a", border - 1), "x", "")
    client.hset(keys.people(1, "a", 0), "y", "")
    client.hset(keys.people(1, "b", 10), "z", "")
    client.hset(keys.people(1, "b", 11), "outside", "")

    async def used():
        store = connect_async(redis_url, timeout=10.0)
        found = await recipients.used_places(store, ["b", "a", "c"], range(border - 10, border + 11))
        await store.aclose()
        return found

    assert asyncio.run(used()) == [(border - 1, "a"), (border, "a"), (border + 10, "b")]
