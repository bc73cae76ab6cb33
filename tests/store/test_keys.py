"""Every key that a used store holds is in the table of `keys.py`, with its type."""

from __future__ import annotations

import asyncio
import re

from starlette.testclient import TestClient

from pixel_server.auth import sessions, sign_in_links
from pixel_server.settings import Settings
from pixel_server.store import audit_log, keys
from pixel_server.store.client import connect_async
from pixel_server.store.key import Key
from tests.stack import READER, until

PARTS = {
    "{s}": r"\{\d+\}",
    "{all}": r"\{all\}",
    "ID": "[a-z0-9][a-z0-9-]{0,62}",
    "DAY": r"\d{8}",
    "MINUTE": r"\d{8}",
    "END": r"\d{10}",
    "SESSION": "[0-9a-f]{32}",
    "BUCKET": "[0-9a-f]{3}",
    "KEY": "[0-9a-f]{12}",
    "LINK": "[0-9a-f]{32}",
    "HOOK": "[0-9a-f]{10}",
}
TYPES = {"hll": "string"}
WEBHOOKS = {"webhooks", "notices", "courier", "hookmarks", "outbox"}
WEBHOOKS |= {"hookevents", "hookunits", "hookdue", "hookaside", "hooklog", "hookstate"}
"""Kinds of keys that a store has only with webhooks; see `tests/webhooks`."""


def regular_expression(key: Key) -> str:
    """Returns what the names of a kind of key match."""
    parts = re.split(r"(\{s\}|\{all\}|[A-Z]+)", key.pattern)
    return "".join(PARTS.get(part, re.escape(part)) for part in parts)


def test_keys_each_name_is_made_by_its_pattern():
    examples = [
        keys.people(3, "spring", 0x1F),
        keys.daily_visitors(3, "spring", "20260302"),
        keys.visitors(3, "spring"),
        keys.evidence(3, 29_833_333),
        keys.last(3, 4095),
        keys.hits(3),
        keys.campaign("spring"),
        keys.STORE,
    ]
    assert examples == [
        "px:{3}:people:spring:01f",
        "px:{3}:visitors:spring:20260302",
        "px:{3}:visitors:spring",
        "px:{3}:evidence:29833333",
        "px:{3}:last:fff",
        "px:{3}:hits",
        "px:{all}:campaign:spring",
        "px:{all}:store",
    ]
    for name in examples:
        assert re.fullmatch(regular_expression(keys.kind_of(name)), name)


def test_keys_lifetimes_name_settings_of_the_server():
    assert keys.people.kept_for(Settings(keep_recipients=400)) == "400 days after sending"
    assert all(key.kept_for(Settings()) for key in keys.TABLE.values())
    for log in audit_log.LOGS.values():
        assert keys.TABLE[log].lifetime == f"the last {audit_log.MAX_LINES:,}"


async def sign_in_link_and_out(url):
    store = connect_async(url)
    await sign_in_links.make(store)
    await sessions.end(store, "the cookie of a session")
    await store.aclose()


def test_keys_used_store_has_no_key_outside_the_table(web, client, count, settings):
    reader = TestClient(web.app, client=("8.8.8.8", 5000))
    reader.portal = web.portal
    web.post("/api/campaigns", json={"id": "mail", "name": "Mail", "kind": "email", "mode": "identified"})
    web.post(
        "/api/campaigns",
        json={"id": "page", "name": "Page", "kind": "web", "time_zone": "Asia/Tokyo", "identity": "own"},
    )
    web.post("/api/campaigns", json={"id": "gone", "name": "Gone", "kind": "email", "mode": "identified"})
    rows = [
        {"recipient": f"r{n}", "mode": mode} for n in range(8) for mode in ("count", "last", "identified")
    ]
    for campaign in ("mail", "gone"):
        links = web.post(f"/api/campaigns/{campaign}/links", json={"recipients": rows}).json()["links"]
        for link in links:
            assert reader.get(link["url"], headers={"User-Agent": "px:{9}:made-by-a-stranger"}).is_success
            assert reader.get(link["url"], headers={"User-Agent": READER}).is_success
    for n in range(8):
        page = f"/p/page.gif?v={n}&u=https://a.example/px:{n}&r=https://b.example/px:{n}"
        assert reader.get(
            page, headers={"Referer": "https://c.example/px:x", "User-Agent": READER}
        ).is_success
    web.post("/api/campaigns", json={"id": "salted", "name": "Salted", "kind": "web"})
    assert reader.get("/p/salted.gif", headers={"User-Agent": READER}).is_success
    web.post("/api/campaigns", json={"id": "drop", "name": "Drop", "kind": "web", "gpc": "drop"})
    assert reader.get("/p/drop.gif", headers={"DNT": "1"}).headers["x-pixel"] == "ignored; reason=gpc"
    until(lambda: client.exists(keys.DROPPED))
    listed = b'{"recipient": "r1", "name": "Ada", "consent_ref": "1@2026-05-04T09:30:00Z"}\n'
    headers = {"Content-Type": "application/x-ndjson"}
    assert web.put("/api/campaigns/mail/recipients", content=listed, headers=headers).status_code == 200
    told = b'{"recipient": "r1", "event": "delivered"}\n'
    assert web.post("/api/campaigns/mail/deliveries", content=told, headers=headers).status_code == 200
    web.post("/api/deliveries/sources", json={"provider": "brevo", "name": "Brevo"})
    web.post("/api/withdrawals", json={"recipients": ["a recipient"]})
    token = links[-1]["privacy_url"].partition("t=")[2]
    for wish in ("stop", "erase", "allow", "erase"):  # the second erasure comes too soon and is owed
        assert web.post("/privacy", data={"t": token, "do": wish}).status_code == 200
    web.get("/p/px:{9}:made-by-a-stranger.gif")
    web.get("/o/px:{9}:made-by-a-stranger.gif")
    web.post("/api/keys", json={"name": "A reader", "scopes": ["read"]})
    asyncio.run(sign_in_link_and_out(settings.redis_url))
    web.get("/sign-in/px:{9}:made-by-a-stranger")
    web.post("/sign-in", data={"key": "px:{9}:made-by-a-stranger"})
    for campaign in ("mail", "gone"):
        web.post(f"/api/campaigns/{campaign}/notes", json={"text": "mail sent"})
        web.post(f"/api/campaigns/{campaign}/shares", json={"name": "A partner"})
    web.delete("/api/campaigns/gone")
    client.xadd(keys.hits(0), {"1": b"no hits"})
    count()
    web.get("/api/campaigns/page/stats")

    used = set()
    for name in (name.decode() for name in client.scan_iter() if not name.startswith(b"rq:")):
        key = keys.kind_of(name)
        assert key is not None, name
        assert re.fullmatch(regular_expression(key), name), name
        assert client.type(name).decode() == TYPES.get(key.redis_type, key.redis_type), name
        used.add(key.pattern)
    rare = {keys.SWEEP, keys.CLOCKS, keys.DELETING, keys.WORKERS, keys.LOSSES}
    rare |= {keys.stop.pattern, keys.hits.pattern, keys.lead.pattern, keys.moved_producers.pattern}
    rare |= {keys.MERGED, keys.changed.pattern}  # only with many shards
    rare |= {keys.NETWORKS}  # only once the lists were refreshed
    rare |= {pattern for pattern in keys.TABLE if keys.TABLE[pattern].kind_name in WEBHOOKS}
    rare |= {keys.REPLICATED, keys.replicated.pattern}  # only with replicas
    never = {keys.NONE, keys.none.pattern}
    assert not used & never
    assert keys.TABLE.keys() - used <= rare | never
