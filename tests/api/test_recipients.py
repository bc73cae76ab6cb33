"""Single recipients over the API: found, shown, erased."""

from __future__ import annotations

import pytest

from pixel_server.mail.links import Minter
from pixel_server.tokens import Mode

DAY = "2025-06-10"


@pytest.fixture
def opens(site, secrets, clock):
    minter = Minter("http://pixel.test", secrets)

    def opens(at, who="ada", campaign="mail", **more):
        clock.at(at)
        return site.get(minter.url(campaign, who, now=clock.now, **more)).headers["x-pixel"]

    return opens


def find(site, **body):
    return site.post("/api/recipients/find", json=body)


def test_recipients_find_by_recipient_and_by_token_agree(site, mail, secrets):
    mail()
    [link] = site.post("/api/campaigns/mail/links", json={"recipients": ["ada"]}).json()["links"]
    token = link["privacy_url"].partition("t=")[2]
    wanted = {"key": secrets.recipient_key("ada").hex()}
    assert find(site, recipient="ada").json() == find(site, token=token).json() == wanted


BOTH = {"recipient": "a", "token": "b"}


@pytest.mark.parametrize("body", [{}, {"recipient": ""}, {"token": "x"}, {"token": 1}, BOTH])
def test_recipients_find_bad_query_is_422(site, body):
    assert find(site, **body).status_code == 422


def test_recipients_find_token_without_recipient_is_422(site, mail):
    mail(mode="count")
    [link] = site.post("/api/campaigns/mail/links", json={"recipients": ["ada"]}).json()["links"]
    assert find(site, token=link["privacy_url"].partition("t=")[2]).status_code == 422


def test_recipients_show_then_erase_leaves_nothing(site, mail, opens, stats):
    mail()
    opens(f"{DAY}T09:00Z")
    opens(f"{DAY}T10:00Z")
    opens(f"{DAY}T11:00Z", mode=Mode.LAST)
    opens(f"{DAY}T11:00Z", "bob")
    key = find(site, recipient="ada").json()["key"]
    assert site.get(f"/api/recipients/{key}").json()["waiting"] is True
    stats("mail")
    assert site.get(f"/api/recipients/{key}").json() == {
        "key": key,
        "campaigns": [
            {
                "campaign": "mail",
                "listed": False,
                "last_mail_day": None,
                "recipient": None,
                "name": None,
                "consent_ref": None,
                "deliveries": [],
                "opens": 2,
                "first_open": f"{DAY}T09:00:00.000Z",
                "last_open": f"{DAY}T10:00:00.000Z",
                "opens_person": 2,
                "opens_prefetch": 0,
                "opens_scanner": 0,
                "first_open_person": f"{DAY}T09:00:00.000Z",
                "last_open_person": f"{DAY}T10:00:00.000Z",
                "time_to_open": None,
                "hidden": False,
                "top": False,
                "bottom": False,
            }
        ],
        "last_open_day": DAY,
        "withdrawals": [],
        "waiting": False,
    }
    erased = site.delete(f"/api/recipients/{key}").json()
    assert (erased["key"], erased["removed_from"]) == (key, ["mail"])
    found = {kind: number for kind, number in erased["removed"].items() if number}
    assert found == {"opens": 1, "last_open_day": 1}
    left = site.get(f"/api/recipients/{key}").json()
    assert (left["campaigns"], left["last_open_day"]) == ([], None)
    assert left["withdrawals"] == [{"from": None, "until": None}]
    assert opens(f"{DAY}T12:00Z") == "ignored; reason=withdrawn"
    assert stats("mail")["totals"]["opens"] == 4


@pytest.mark.parametrize("key", ["ada", "0" * 15, "0" * 17, "G" * 16, "A" * 16, "0" * 14 + " 0"])
def test_recipients_bad_key_is_404(site, key):
    assert site.get(f"/api/recipients/{key}").status_code == 404
    assert site.delete(f"/api/recipients/{key}").status_code == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/recipients/find"),
        ("GET", f"/api/recipients/{'0' * 16}"),
        ("DELETE", f"/api/recipients/{'0' * 16}"),
        ("GET", "/api/withdrawals"),
        ("POST", "/api/withdrawals"),
        ("DELETE", "/api/withdrawals"),
    ],
)
def test_recipients_scopes_read_and_write_are_403(site, method, path):
    made = site.post("/api/keys", json={"name": "Reader", "scopes": ["read", "write"]}).json()["key"]
    answer = site.request(method, path, headers={"Authorization": f"Bearer {made}"}, json={})
    assert answer.status_code == 403
