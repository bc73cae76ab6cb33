"""The page of the audit log names keys and links campaigns."""

from __future__ import annotations

import html

EVIL = "<b>\"'&{{7*7}}</b>"


def row_of(page, action):
    """Returns the newest row of the page's table with this action."""
    return next(row for row in page.split("<tr>") if f">{action}<" in row)


def test_audit_page_names_keys_and_links_campaigns(site, reader, mail):
    mail(name=EVIL)
    site.post("/api/campaigns/mail/shares", json={"name": "a partner"})
    made = site.post("/api/keys", json={"name": EVIL, "scopes": ["read"]}).json()
    page = reader.get("/audit").text
    [own_name] = {key["name"] for key in site.get("/api/keys").json()["items"]} - {EVIL}
    shared = row_of(page, "share created")
    assert f"<bdi>{own_name}</bdi>" in shared
    assert (
        f'<a href="/campaigns/mail"><bdi>{html.escape(EVIL)}</bdi></a>'.replace("&#x27;", "&#39;").replace(
            "&quot;", "&#34;"
        )
        in shared
    )
    assert made["id"] in row_of(page, "key created")
    assert EVIL not in page


def test_audit_page_deleted_campaign_is_not_a_link(site, reader, mail):
    mail()
    site.post("/api/campaigns/mail/shares", json={"name": "a partner"})
    site.delete("/api/campaigns/mail")
    row = row_of(reader.get("/audit").text, "share created")
    assert "<bdi>mail</bdi>" in row
    assert "campaigns/mail" not in row


def test_audit_page_revoked_key_shows_its_id(site, made_key, reader):
    key_id, key = made_key("read", "write")
    made = site.post(
        "/api/keys", json={"name": "x", "scopes": ["read"]}, headers={"Authorization": f"Bearer {key}"}
    )
    assert made.status_code == 201
    site.delete(f"/api/keys/{key_id}")
    assert f"<bdi>key {key_id}</bdi>" in reader.get("/audit").text


def test_audit_page_without_scope_read_shows_no_names(site, mail, made_key, sign_in):
    mail(name="Secret plan")
    site.post("/api/campaigns/mail/shares", json={"name": "a partner"})
    mail(id="shown")
    _, key = made_key("people", "read:shown")
    page = sign_in(key).get("/audit")
    assert page.status_code == 200
    assert "Secret plan" not in page.text
    assert "<bdi>mail</bdi>" in row_of(page.text, "share created")
