"""The inventory: numbers and ages of stored data by kind."""

from __future__ import annotations

import asyncio

from pixel_server.counters import recipient_record
from pixel_server.figures import inventory
from pixel_server.mail.links import Minter
from pixel_server.store import keys
from pixel_server.store.client import connect_async
from pixel_server.tokens import Mode

LIST = {"Content-Type": "application/x-ndjson"}


def report(settings, spooled=0, since=None):
    async def run():
        made = connect_async(settings.redis_url)
        try:
            return await inventory.kinds(made, settings, spooled, since)
        finally:
            await made.aclose()

    return {kind.data: kind for kind in asyncio.run(run())}


def test_inventory_empty_store_has_zeros(settings, redis_url):
    found = report(settings)
    assert {(kind.number, kind.oldest) for kind in found.values()} == {(0, None)}


def test_inventory_used_store_counts_each_kind(
    mail, page, opened, viewed, stats, site, settings, clock, client, secrets
):
    clock.at("2026-03-01T00:00Z")
    mail(mode="identified")
    page()
    for day, who in (("02", "ada"), ("03", "bob")):
        opened(f"2026-03-{day}T09:00Z", who)
        viewed(f"2026-03-{day}T10:00Z", who)
    page(id="salted", identity="cookieless")
    viewed("2026-03-03T10:00Z", campaign="salted")
    site.get(Minter("http://pixel.test", secrets).url("mail", "eve", mode=Mode.LAST, now=clock.now))
    stats("mail")
    body = b'{"recipient": "ada", "name": "Ada", "consent_ref": "1@2026-01-01T00:00:00Z"}\n'
    body += b'{"recipient": "joe"}\n'
    site.put("/api/campaigns/mail/recipients", content=body, headers=LIST)
    told = b'{"recipient": "ada", "event": "delivered"}\n'
    site.post("/api/campaigns/mail/deliveries", content=told, headers=LIST)
    site.post("/api/campaigns/mail/shares", json={"name": "A partner"})
    site.post("/api/deliveries/sources", json={"provider": "brevo", "name": "Brevo"})
    clock.at("2026-03-04T00:00Z")
    site.post("/api/withdrawals", json={"recipients": ["one", "two"]})
    client.xadd(keys.dead(0), {"reason": "no hit", "data": b"x"}, id="1772000000000-0")
    opened("2026-03-04T09:00Z", "ada")  # not counted yet

    found = report(settings, 7, 1_772_000_000_000)
    elsewhere = ("audit log", "log of recipients", "owed erasures", "webhooks", "new events of webhooks")
    elsewhere += ("new notices of webhooks", "events that wait for a webhook", "log of webhooks")
    numbers = {name: kind.number for name, kind in found.items() if name not in elsewhere}
    assert numbers == {
        "waiting hits": 1,
        "hits on disk": 7,
        "dead letters": 1,
        "recipients": 2,
        "lists": 2,
        "names": 2,
        "deliveries": 1,
        "consents": 1,
        "traces of the last hits": numbers["traces of the last hits"],
        "daily opens by client, device, country": 2,
        "daily views by page, referrer, country ...": 3,
        "records of some visits": 3,
        "salts of visitors' hashes": 1,
        "visits under way": numbers["visits under way"],  # a later hit of the shard may have ended a visit
        "days of last opens": 1,
        "address estimates": numbers["address estimates"],
        "visitor estimates": numbers["visitor estimates"],
        "daily visitor estimates": numbers["daily visitor estimates"],
        "15-minute series": numbers["15-minute series"],
        "daily series": numbers["daily series"],
        "totals": numbers["totals"],
        "withdrawals": 2,
        "mail services": 1,
        "share links": 1,
    }
    assert min(numbers.values()) > 0
    oldest = {name: kind.oldest for name, kind in found.items()}
    assert oldest["recipients"] == "2026-03-02T09:00:00.000Z"
    assert oldest["15-minute series"] == oldest["daily series"] == "2026-03-02"
    assert oldest["daily opens by client, device, country"] == "2026-03-02"
    assert oldest["traces of the last hits"] in ("2026-03-02T09:00:00.000Z", "2026-03-03T09:00:00.000Z")
    assert oldest["daily visitor estimates"] == "2026-03-02"
    assert oldest["days of last opens"] == "2026-03-03"
    assert oldest["withdrawals"] == "2026-03-04T00:00:00.000Z"
    assert oldest["dead letters"] == oldest["hits on disk"] == "2026-02-25T06:13:20.000Z"
    assert oldest["names"] == oldest["lists"] == "2026-03-03T10:00:00.000Z"
    assert oldest["totals"] is not None
    assert found["recipients"].kept_for == "400 days after sending"


def test_inventory_campaign_named_like_a_day_is_counted(page, viewed, stats, settings):
    page(id="20200101")
    viewed("2026-03-02T10:00Z", campaign="20200101")
    stats("20200101")
    found = report(settings)
    estimates, daily = found["visitor estimates"], found["daily visitor estimates"]
    assert (estimates.number, daily.number, daily.oldest) == (1, 1, "2026-03-02")


def test_inventory_newer_format_is_counted(client, settings):
    client.hset(keys.people(0, "mail", 1), b"k" * 8, bytes([0x92, recipient_record.FORMAT + 1, 0]))
    assert report(settings)["recipients"][2:5] == (1, "recipients", None)


def test_inventory_sources_have_every_key_of_people():
    """Compares with the keys of the table that hold data on people, or sums of it."""
    known = {key.kind_name for key in keys.TABLE.values() if key.pattern.startswith("px:{s}:")}
    told = {source.key.kind_name for source in inventory.SOURCES.values()}
    assert known - told == {
        "producers",
        "moved",
        "turn",
        "lead",
        "drops",
        "stop",
        "rules",
        "lasts",
        "visiting",
        "changed",
        "none",
        "replicated",
    }


# Over HTTP


def test_inventory_api_answers_the_same(mail, page, opened, site, clock, settings):
    mail()
    page()
    clock.at("2026-03-02T09:00Z")
    site.put("/api/campaigns/mail/recipients", content=b'{"recipient": "ada"}\n', headers=LIST)
    answer = site.get("/api/kept")
    assert answer.status_code == 200
    found = answer.json()
    assert (found["next"], found["as_of"]) == (None, "2026-03-02T09:00:00.000Z")
    assert {item["data"]: item for item in found["items"]} == {
        name: kind._asdict() for name, kind in report(settings).items()
    }
    assert next(item["number"] for item in found["items"] if item["data"] == "lists") == 1
    opened("2026-03-02T09:00Z", "bob")
    assert site.get("/api/kept").json() == found, "the inventory is read once a minute"
    clock.at("2026-03-02T09:01Z")
    [waiting] = [item for item in site.get("/api/kept").json()["items"] if item["data"] == "waiting hits"]
    assert waiting["number"] == 1


def test_inventory_api_names_nobody_and_needs_read(site, mail, opened):
    mail()
    opened("2026-03-02T09:00Z", "ada@example.org")
    keys_of = {
        scope: site.post("/api/keys", json={"name": "k", "scopes": [scope]}).json()["key"]
        for scope in ("read", "write", "read:mail")
    }
    answers = {
        scope: site.get("/api/kept", headers={"Authorization": f"Bearer {key}"})
        for scope, key in keys_of.items()
    }
    assert {scope: answer.status_code for scope, answer in answers.items()} == {
        "read": 200,
        "write": 403,
        "read:mail": 403,
    }
    assert "ada" not in answers["read"].text
