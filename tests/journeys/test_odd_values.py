"""Values in the store that this version cannot read: no process ends, and no page or call answers 500."""

from __future__ import annotations

import os
import random
import time

import pytest
from starlette.testclient import TestClient

from pixel_server import tasks
from pixel_server.store import keys
from tests.stack import READER, until
from workers.rollup_pass import Outcome, Rollup
from workers.schedule import Schedule

ODD = {
    "bytes": b"\xff\x00\x93 not of this version",
    "format": b"9 of a newer version",
    "record": b'{"format": 9, "id": "mail", "kind": "push", "mode": "loud", "new": {"a": [1]}}',
    "number": b"-170141183460469231731687303715884105727",
    "empty": b"",
}
CHOSEN = int(os.environ.get("ODD_PATHS", "4"))
"""Paths requested with each odd value. A longer run requests more."""
PATHS = [
    *("/readyz", "/", "/kept", "/keys", "/compare?id=mail&id=page", "/audit", "/withdrawals"),
    *("/campaigns/mail", "/campaigns/page", "/campaigns/mail/recipients", "/campaigns/mail/edit"),
    *("/campaigns/mail/shares", "/api/campaigns", "/api/campaigns/mail", "/api/campaigns/mail/stats"),
    *("/api/campaigns/page/stats?interval=hour", "/api/campaigns/mail/recipients", "/api/overview"),
    *("/api/campaigns/mail/recipients?sort=name&state=all", "/api/campaigns/mail/recipients/counts"),
    *("/api/campaigns/mail/notes", "/api/campaigns/mail/shares", "/api/keys", "/api/withdrawals"),
    *("/api/audit", "/api/kept", "/api/campaigns/mail/breakdowns", "/api/campaigns/page/breakdowns"),
]


@pytest.fixture
def used(web, client, count, settings, monkeypatch):
    """Fills a store with every kind of key, and returns links of recipients and the path of a share link."""
    killed = []
    monkeypatch.setattr(tasks.os, "kill", lambda *arguments: killed.append(arguments))
    reader = TestClient(web.app, client=("8.8.8.8", 5000))
    reader.portal = web.portal
    for name, kind in (("mail", "email"), ("page", "web"), ("other", "email")):
        web.post("/api/campaigns", json={"id": name, "name": name, "kind": kind})
    rows = [{"recipient": f"r{n}", "mode": "pseudonymous" if n % 2 else "last"} for n in range(4)]
    links = [
        link["url"]
        for link in web.post("/api/campaigns/mail/links", json={"recipients": rows}).json()["links"]
    ]
    for url in [*links, "/p/page.gif", "/p/page.gif?v=2"]:
        reader.get(url, headers={"User-Agent": READER})
    listed = b'{"recipient": "r1"}\n'
    web.put(
        "/api/campaigns/mail/recipients", content=listed, headers={"Content-Type": "application/x-ndjson"}
    )
    web.post("/api/withdrawals", json={"recipients": ["eve"]})
    web.post("/api/keys", json={"name": "A reader", "scopes": ["read"]})
    web.post("/api/campaigns/mail/notes", json={"text": "mail sent"})
    shared = web.post("/api/campaigns/mail/shares", json={"name": "A partner"}).json()
    web.delete("/api/campaigns/other")
    count()
    signed = TestClient(web.app, base_url="http://pixel.test", follow_redirects=False)
    signed.portal = web.portal
    signed.post("/sign-in", data={"key": settings.api_key})
    yield web, signed, links, "/s/" + shared["url"].rsplit("/", 1)[1] if "url" in shared else "/s/none"
    assert not killed, "a task of the web process ended"


def odd_versions(client, key, chosen):
    """Writes chosen odd values into a key, one after the other, and yields their names; restores the key."""
    before, kind = client.dump(key), client.type(key)
    fields = list(client.hgetall(key)) if kind == b"hash" else []
    for name in chosen:
        value = ODD[name]
        if kind == b"hash":
            client.hset(key, mapping=dict.fromkeys(fields[:50], value))
            if name == "empty":
                client.hdel(key, *fields)
        elif kind == b"string":
            client.set(key, value)
        elif kind == b"set":
            client.sadd(key, value or b"?")
        elif kind == b"zset":
            client.zadd(key, {value or b"?": 0})
        else:
            client.xadd(key, {value or b"?": value})
        yield name
        client.delete(key)
        client.restore(key, 0, before)
    client.delete(key)
    other = client.rpush if kind != b"list" else client.set
    other(key, b"another type")
    yield "another type"
    client.delete(key)
    client.restore(key, 0, before)


def representatives(client):
    """Returns one key of each kind, by pattern. It belongs to a campaign if such a key exists."""
    names = {}
    for name in sorted(name.decode() for name in client.scan_iter("px:*")):
        kind = keys.kind_of(name)
        if kind is not None and (kind.pattern not in names or "mail" in name):
            names[kind.pattern] = name
    return names


def test_odd_values_of_each_key_answer_no_500_and_end_nothing(used, client, settings, secrets):
    web, signed, links, share = used
    draw = random.Random(13)
    for row, key in representatives(client).items():
        for odd in odd_versions(client, key, [draw.choice(sorted(ODD))]):
            for path in draw.sample([*PATHS, share, f"{share}/stats.json"], CHOSEN):
                answer = (web if path.startswith("/api") else signed).get(path)
                assert answer.status_code != 500, (row, odd, path)
            for url in [*links[:2], "/p/page.gif"]:
                assert web.get(url).status_code == 200, (row, odd, url)
            shard = int(key[4]) if key[4].isdigit() else 0
            assert Rollup(client, settings, secrets, shard).try_pass(time.time()) in Outcome, (row, odd)
            Schedule(settings).tick()
    assert web.get("/readyz").status_code == 200


def test_record_of_a_newer_version_stays_and_its_campaign_goes_on(used, client, count, caplog):
    web, _, links, _ = used
    record = client.hget(keys.campaign("mail"), "record").replace(b'"email"', b'"push"')
    client.hset(keys.campaign("mail"), "record", record)
    client.xadd(keys.CHANGES, {"id": "mail"})
    until(lambda: web.get("/readyz").json()["store"]["unreadable_campaigns"] == ["mail"])
    assert all(web.get(url).headers["x-pixel"] == "recorded" for url in links)
    assert web.get("/p/page.gif").headers["x-pixel"] == "recorded"
    assert count() == len(links) + 1
    assert not any(client.exists(keys.stop(shard)) for shard in range(4))
    assert web.get("/api/campaigns/mail").status_code == 409
    listed = web.get("/api/campaigns").json()["items"]
    assert [item["id"] for item in listed] == ["page"]
    assert client.hget(keys.campaign("mail"), "record") == record
