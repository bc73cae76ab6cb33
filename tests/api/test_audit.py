"""The audit log: a line for each action on data of people, without personal data."""

from __future__ import annotations

import pytest

from pixel_server.auth import api_keys
from pixel_server.store import audit_log, keys
from tests.conftest import API_KEY

LIST = {"Content-Type": "application/x-ndjson"}


@pytest.fixture
def said(site):
    """Returns the newest lines: [(who, what, about)]."""

    def said(count):
        items = site.get("/api/audit").json()["items"][:count]
        return [(item["who"], item["what"], item["about"]) for item in items]

    return said


@pytest.fixture
def me(client):
    return f"key {api_keys._hash(API_KEY)[:12]}"


def test_audit_each_action_is_logged(mail, site, said, me, secrets, client, caplog):
    mail(mode="identified")
    made = site.post("/api/keys", json={"name": "A partner", "scopes": ["read"]}).json()
    site.delete(f"/api/keys/{made['id']}")
    site.put("/api/campaigns/mail/recipients", content=b'{"recipient": "ada"}\nx', headers=LIST)
    key = secrets.recipient_key("ada").hex()
    site.get(f"/api/recipients/{key}")
    site.delete(f"/api/recipients/{key}")
    site.post("/api/withdrawals", json={"recipients": ["bob"]})
    site.request("DELETE", "/api/withdrawals", json={"recipients": ["bob"]})
    site.delete("/api/campaigns/mail")
    counts = {"lines": "2", "new": "1", "known": "0", "withdrawn": "0", "bad": "1"}
    assert said(10) == [
        (me, "campaign.deleted", {"campaign": "mail"}),
        (me, "withdrawals.ended", {"recipients": "1"}),
        (me, "withdrawals.added", {"recipients": "1"}),
        (me, "recipient.erased", {}),
        (me, "recipient.shown", {}),
        (me, "recipients.uploaded", {"campaign": "mail", **counts}),
        (me, "recipients.upload_begun", {"campaign": "mail"}),
        (me, "key.revoked", {"key": made["id"]}),
        (me, "key.made", {"key": made["id"], "scopes": "read"}),
        ("PIXEL_API_KEY", "key.made", {"key": me.split()[1], "scopes": "read,write,people"}),
    ]
    kept = repr(client.xrange(keys.AUDIT)) + caplog.text
    for word in ("ada", "bob", key, "A partner", made["key"]):
        assert word not in kept


def test_audit_refused_action_is_not_logged(mail, site, said):
    mail()
    before = said(100)
    assert site.delete("/api/campaigns/none").status_code == 404
    assert site.delete("/api/keys/000000000000").status_code == 404
    assert site.post("/api/withdrawals", json={"recipients": [""]}).status_code == 422
    assert site.put("/api/campaigns/none/recipients", content=b"", headers=LIST).status_code == 404
    assert said(100) == before


def test_audit_change_without_effect_is_not_logged(mail, site, said, client):
    mail()
    for _ in range(3):
        assert site.patch("/api/campaigns/mail", json={"gpc": "drop"}).json()["gpc"] == "drop"
    assert [what for _, what, _ in said(10)] == ["campaign.changed", "key.made"]
    assert client.xlen(keys.CHANGES) == 2


def test_audit_list_in_pages_has_each_line_once(mail, site):
    for n in range(130):
        site.post("/api/withdrawals", json={"recipients": [f"r{n}"]})
    first = site.get("/api/audit").json()
    second = site.get("/api/audit", params={"after": first["next"]}).json()
    assert (len(first["items"]), len(second["items"]), second["next"]) == (100, 31, None)
    assert first["items"][-1]["at"] >= second["items"][0]["at"]
    for after in ("", "x", "0-0", "1", "1-", "9" * 30 + "-0"):
        assert site.get("/api/audit", params={"after": after}).status_code == 422


@pytest.fixture
def some_lines(site, client):
    """Replaces the log by a line of each minute of three hours, on three campaigns in turn."""
    client.delete(keys.AUDIT)
    first = 1795478400_000
    for n in range(180):
        campaign = ("a", "b", "c")[n % 3]
        who = "retention" if n % 2 else "key 0b71d440072a"
        fields = {"who": who, "what": "recipients.read" if n % 5 else "key.revoked", "campaign": campaign}
        client.xadd(keys.AUDIT, fields, id=f"{first + n * 60_000}-0")


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({"who": "KEY 0b71"}, 90),
        ({"what": "revoked"}, 36),
        ({"what": "key revoked"}, 36),
        ({"campaign": "b"}, 60),
        ({"campaign": "b", "who": "retention", "what": "recipients"}, 24),
        ({"from": "2026-11-24T01:00:00Z", "to": "2026-11-24T02:00:00Z"}, 60),
        ({"from": "2026-11-24", "to": "2026-11-25"}, 180),
        ({"to": "2026-11-24"}, 0),
        ({"who": "", "what": "", "campaign": "", "from": "", "to": ""}, 180),
        ({"who": "nobody"}, 0),
    ],
)
def test_audit_filter_in_pages_has_each_wanted_line_once(site, some_lines, monkeypatch, query, count):
    monkeypatch.setattr(audit_log, "_STEP_LINES", 17)
    found, after = [], {}
    while True:
        page = site.get("/api/audit", params={**query, **after, "limit": 25}).json()
        assert len(page["items"]) == 25 or page["next"] is None
        found += [item["at"] for item in page["items"]]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert found == sorted(set(found), reverse=True)
    assert len(found) == count


@pytest.mark.parametrize(
    ("query", "field"),
    [({"from": "soon"}, "from"), ({"to": "2026-13-01"}, "to"), ({"campaign": "No id"}, "campaign")],
)
def test_audit_bad_filter_is_refused(site, query, field):
    refused = site.get("/api/audit", params=query)
    assert (refused.status_code, [error["field"] for error in refused.json()["errors"]]) == (422, [field])
    assert site.get("/api/audit/recipients", params={"who": "x"}).status_code == 422


def test_audit_log_is_bounded(client, settings):
    import asyncio

    from pixel_server.store.client import connect_async

    client.eval(
        f"for i = 1, {audit_log.MAX_LINES + 500} do"
        " redis.call('XADD', KEYS[1], '*', 'who', 'x', 'what', 'y') end",
        1,
        keys.AUDIT,
    )

    async def note():
        made = connect_async(settings.redis_url)
        await audit_log.note(made, "x", "y.done")
        await made.aclose()

    asyncio.run(note())
    assert client.xlen(keys.AUDIT) == audit_log.MAX_LINES
