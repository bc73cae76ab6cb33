"""Withdrawals over the API: listed, added and ended in bulk."""

from __future__ import annotations

import pytest

from pixel_server.mail.links import Minter
from pixel_server.store import keys

DAY = "2025-06-10"


@pytest.fixture
def opens(site, secrets, clock):
    minter = Minter("http://pixel.test", secrets)

    def opens(at, who="ada", campaign="mail", **more):
        clock.at(at)
        return site.get(minter.url(campaign, who, now=clock.now, **more)).headers["x-pixel"]

    return opens


def test_withdrawals_add_and_end_in_bulk(site, mail, opens, client, clock):
    mail()
    clock.at(f"{DAY}T09:00Z")
    people = [f"person-{n}" for n in range(2500)]
    answer = site.post("/api/withdrawals", json={"recipients": [*people, "person-0"]})
    assert answer.json() == {"withdrawn": 2501, "new": 2500}
    assert opens(f"{DAY}T09:01Z", "person-2499") == "ignored; reason=withdrawn"
    assert site.post("/api/withdrawals", json={"recipients": people[:2]}).json()["new"] == 0
    listed, after = [], "0"
    while after is not None:
        page = site.get("/api/withdrawals", params={"after": after}).json()
        listed, after = listed + page["items"], page["next"]
    assert {item["mark"] for item in listed} == {mark.hex() for mark in client.hkeys(keys.WITHDRAWN)}
    periods = [{"from": f"{DAY}T09:00:00.000Z", "until": None}]
    assert all(item["periods"] == periods for item in listed)
    clock.at(f"{DAY}T10:00Z")
    ended = site.request("DELETE", "/api/withdrawals", json={"recipients": ["person-1", "nobody"]})
    assert ended.json() == {"allowed": 1}
    assert opens(f"{DAY}T10:01Z", "person-1") == "recorded"
    assert opens(f"{DAY}T10:01Z", "person-2") == "ignored; reason=withdrawn"


def test_withdrawals_bad_row_changes_nothing(site, client):
    answer = site.post("/api/withdrawals", json={"recipients": ["ada", "", 7, "bob"]})
    assert [error["row"] for error in answer.json()["errors"]] == [1, 2]
    assert not client.exists(keys.WITHDRAWN)
