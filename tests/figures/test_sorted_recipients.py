"""Recipients of a campaign: sorted in pages, searched and counted."""

from __future__ import annotations

import json
from itertools import product

import pytest

from pixel_server.api import recipient_lists
from pixel_server.figures.sorted_recipients import NUMBER_SORTS, SORTS, TEXT_SORTS
from pixel_server.mail.links import Minter

DAY = "2025-06-10"
LIST = {"Content-Type": "application/x-ndjson"}
PATH = "/api/campaigns/mail/recipients"
SCANNER = "python-requests/2.32.3"
NAMES = {
    "ada@example.org": "Zoe",
    "Bob@example.org": None,
    "cyd@example.org": "ada K.",
    "eve@example.org": "Eve",
}


pytestmark = pytest.mark.usefixtures("few_buckets")


@pytest.fixture
def story(site, mail, clock, secrets, stats):
    """Makes six recipients: ada opened twice, cyd and dan (not on the list) once, fay by a machine.

    A machine opened the mail of cyd too, at 11:30.

    bob opened nothing. eve opened nothing and withdrew.
    """
    clock.at(f"{DAY}T08:00Z")
    mail(mode="identified")
    rows = [{"recipient": who, "name": name} if name else {"recipient": who} for who, name in NAMES.items()]
    site.put(PATH, content="".join(json.dumps(row) + "\n" for row in rows), headers=LIST)
    minter = Minter("http://pixel.test", secrets)
    opens = [("cyd@example.org", 9), ("ada@example.org", 10), ("dan", 11), ("ada@example.org", 12)]
    for who, hour in opens:
        clock.at(f"{DAY}T{hour:02}:00Z")
        site.get(minter.url("mail", who, now=clock.now))
        if hour == 11:
            clock.at(f"{DAY}T11:30Z")
            site.get(minter.url("mail", "cyd@example.org", now=clock.now), headers={"User-Agent": SCANNER})
    site.get(minter.url("mail", "fay", now=clock.now), headers={"User-Agent": SCANNER})
    site.post("/api/withdrawals", json={"recipients": ["eve@example.org"]})
    stats("mail")


@pytest.fixture
def listed(site, secrets):
    """Returns a function that reads all pages of a sorted list, and returns the first letters of all."""
    people = (*NAMES, "dan", "fay")
    letters = {secrets.recipient_key(who).hex(): who[0].lower() for who in people}

    def read(limit=2, **query):
        found, after = "", None
        while True:
            parameters = {"limit": limit, **query} | ({"after": after} if after else {})
            page = site.get(PATH, params=parameters).json()
            assert len(page["items"]) <= limit
            found += "".join(letters[row["key"]] for row in page["items"])
            after = page["next"]
            if after is None:
                return found

    return read


def test_sorted_recipients_state_and_order_are_kept(story, listed):
    for query, found in (
        ({"sort": "last_open", "state": "person"}, "acd"),
        ({"sort": "last_open", "state": "opened", "order": "asc"}, "dc"),
        ({"sort": "last_open_person", "state": "person"}, "adc"),
        ({"sort": "last_open_person", "state": "person", "order": "asc"}, "cda"),
        ({"sort": "first_open", "state": "person"}, "dac"),
        ({"sort": "first_open_person", "state": "all"}, "dac"),
        ({"sort": "last_open_person", "state": "all"}, "adc"),
        ({"sort": "recipient", "state": "unopened"}, "b"),
        ({"sort": "recipient", "state": "withdrawn"}, "e"),
        ({"sort": "opens_person", "state": "opened", "limit": 1}, "a"),
    ):
        assert listed(**query).startswith(found), query


def test_sorted_recipients_missing_text_comes_last_in_both_orders(story, listed):
    assert listed(sort="recipient", state="all")[:4] == "abce"
    assert listed(sort="recipient", state="all", order="desc")[:4] == "ecba"
    assert listed(sort="name", state="all")[:3] == "cea"
    assert set(listed(sort="name", state="all", order="desc")[3:]) == set("bdf")


def test_sorted_recipients_pages_have_each_recipient_once(story, listed):
    for sort, order, limit in product(SORTS, ("asc", "desc"), (2, 6)):
        found = listed(limit, sort=sort, order=order, state="all")
        assert sorted(found) == list("abcdef"), (sort, order, limit)


def test_sorted_recipients_cursor_holds_no_recipient(story, site):
    for sort in SORTS:
        cursor = site.get(PATH, params={"sort": sort, "limit": 1}).json()["next"]
        assert ("-" in cursor) == (sort in NUMBER_SORTS)
        assert not any(who[:3].lower() in cursor for who in NAMES)


def test_sorted_recipients_default_orders(story, listed):
    assert listed(sort="opens", state="person")[0] == "a"
    assert listed(sort="recipient", state="person")[0] == "a"


def test_sorted_recipients_counts_are_those_of_the_states(story, site):
    counts = site.get(f"{PATH}/counts").json()
    assert counts == {
        "all": 6,
        "opened": 4,
        "person": 3,
        "machine_only": 1,
        "unknown": 0,
        "unopened": 1,
        "withdrawn": 1,
    }
    for state, number in counts.items():
        assert len(site.get(PATH, params={"state": state}).json()["items"]) == number


def test_sorted_recipients_counts_without_a_list_leave_unopened_unknown(site, mail):
    mail()
    counts = site.get(f"{PATH}/counts").json()
    assert counts == {
        "all": 0,
        "opened": 0,
        "person": 0,
        "machine_only": 0,
        "unknown": 0,
        "unopened": None,
        "withdrawn": 0,
    }


def search(site, text, **more):
    return site.post(f"{PATH}/search", json={"text": text, **more})


def test_search_recipients_finds_parts_of_addresses_and_names(story, site):
    for text, found in (
        ("ADA", ["ada@example.org", "cyd@example.org"]),
        ("da", ["ada@example.org", "cyd@example.org"]),
        ("example.org", ["ada@example.org", "cyd@example.org", "Bob@example.org", "eve@example.org"]),
        ("dan", [None]),
        ("nobody", []),
    ):
        answer = search(site, text).json()
        names = [row["recipient"] for row in answer["items"]]
        assert (answer["found"], names[:2], set(names)) == (len(found), found[:2], set(found)), text


def test_search_recipients_limit_keeps_the_number_found(story, site):
    answer = search(site, "example.org", limit=1).json()
    assert (len(answer["items"]), answer["found"]) == (1, 4)


def test_search_recipients_without_names_finds_the_exact_recipient(story, site, secrets):
    site.patch("/api/campaigns/mail", json={"mode": "pseudonymous"})
    [row] = search(site, "ada@example.org").json()["items"]
    assert (row["key"], row["opens"], row["recipient"]) == (
        secrets.recipient_key("ada@example.org").hex(),
        2,
        None,
    )
    assert search(site, "eve@example.org").json()["items"][0]["withdrawn"] is True
    assert search(site, "ada").json() == {"items": [], "found": 0}


def test_sorted_recipients_bad_parameters_are_refused(story, site):
    for query in (
        {"sort": "key"},
        {"sort": "opens", "order": "up"},
        {"sort": "opens", "after": "4711"},
        {"sort": "opens", "after": "0" * 16},
        {"sort": "recipient", "after": "1-" + "0" * 16},
        {"sort": "recipient", "after": "0" * 16},
        {"after": "0" * 16},
        {"sort": "opens", "after": "ada@example.org"},
    ):
        assert site.get(PATH, params=query).status_code == 422, query
    for body in ({}, {"text": ""}, {"text": "a\x00"}, {"text": "a", "limit": 0}, {"text": 1}):
        assert site.post(f"{PATH}/search", json=body).status_code == 422, body


def test_sorted_recipients_as_lines_are_refused(story, site):
    assert site.get(PATH, params={"sort": "opens"}, headers={"Accept": "text/csv"}).status_code == 422


def test_sorted_recipients_names_need_mode_identified(story, site):
    site.patch("/api/campaigns/mail", json={"mode": "pseudonymous"})
    for sort in TEXT_SORTS:
        assert site.get(PATH, params={"sort": sort}).status_code == 409
    assert site.get(PATH, params={"sort": "opens"}).status_code == 200
    site.patch("/api/campaigns/mail", json={"mode": "count"})
    assert site.get(PATH, params={"sort": "opens"}).status_code == 409
    assert site.get(f"{PATH}/counts").status_code == 409
    assert search(site, "ada").status_code == 409


def test_sorted_recipients_of_too_many_are_refused(story, site, monkeypatch):
    monkeypatch.setattr(recipient_lists, "MAX_RECIPIENTS", 3)
    for answer in (
        site.get(PATH, params={"sort": "opens"}),
        site.get(f"{PATH}/counts"),
        search(site, "ada"),
    ):
        assert answer.status_code == 409
        assert "at most 3" in answer.json()["detail"]
    assert len(site.get(PATH).json()["items"]) == 4


def test_sorted_recipients_unreadable_record_is_503(story, site, client):
    name = next(client.scan_iter("px:*:people:mail:*"))
    client.hset(name, client.hkeys(name)[0], b"\x99\x7f")
    assert site.get(PATH, params={"sort": "opens"}).status_code == 503
