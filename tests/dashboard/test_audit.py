"""The page of the audit log names keys and links campaigns."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest

from pixel_server.store import audit_log
from tests.dashboard.test_campaign_forms import wrong
from tests.dashboard.test_pages import EVIL as EVIL_TEXTS
from tests.dashboard.test_pages import assert_harmless

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
    shared = row_of(page, "share link created")
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
    row = row_of(reader.get("/audit").text, "share link created")
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
    assert "<bdi>mail</bdi>" in row_of(page.text, "share link created")


def test_audit_page_filters_by_name_action_campaign_and_day_and_downloads_that(site, reader, mail, made_key):
    mail(name="Spring News")
    mail(id="other")
    for campaign in ("mail", "other"):
        site.post(f"/api/campaigns/{campaign}/shares", json={"name": "a partner"})
    key_id, key = made_key("read", "write")
    site.delete("/api/campaigns/other", headers={"Authorization": f"Bearer {key}"})

    def rows(query):
        answer = reader.get(f"/audit?{query}")
        assert_harmless(answer)
        listed = reader.get(f"/audit/all.csv?{query}")
        assert listed.headers["content-disposition"] == 'attachment; filename="audit.csv"'
        lines = listed.text.splitlines()
        assert lines[0] == "at,who,key_name,what,campaign,details"
        assert len(lines) - 1 == answer.text.count('<tr><th scope="row">')
        return [line.split(",")[3:5] for line in lines[1:]]

    assert rows("who=another") == rows(f"who={key_id}") == [["campaign.deleted", "other"]]
    assert rows("what=share+link+created&campaign=mail") == [["share.made", "mail"]]
    assert {campaign for _, campaign in rows("campaign=spring+news")} == {"mail"}
    today = site.get("/api/audit").json()["items"][0]["at"][:10]
    assert len(rows(f"from={today}&until={today}&what=share")) == 2
    assert rows("until=2020-01-01&who=&what=&campaign=") == []
    text = reader.get("/audit?what=share&campaign=mail").text
    assert "/audit/all.csv?what=share&amp;campaign=mail" in text
    assert 'value="share"' in text


def test_audit_page_bad_filter_stays_in_its_field_and_says_why(reader):
    answer = reader.get("/audit?from=soon&what=share&campaign=No+id&until=later")
    assert answer.status_code == 422
    assert_harmless(answer)
    assert list(wrong(answer)) == ["campaign", "from", "until"]
    assert "Correct these fields." in answer.text
    assert '<input id="from" name="from" type="text" value="soon"' in answer.text, "a date shows nothing"
    for kept in ("soon", "later", "No id", "share"):
        assert f'value="{kept}"' in answer.text
    assert "No campaign has this id or name." in answer.text
    assert "No entries match" not in answer.text, "nothing was looked for"
    assert reader.get("/audit/all.csv?until=soon").status_code == 422
    assert reader.get("/audit?after=x").status_code == 422


def test_audit_page_names_webhooks_mail_services_and_share_links(site, reader, mail):
    mail()
    site.post("/api/campaigns/mail/shares", json={"name": "a partner"})
    site.post("/api/deliveries/sources", json={"provider": "postmark", "name": "Shop"})
    made = site.post(
        "/api/webhooks", json={"url": "https://hooks.example.org", "name": "CRM", "events": ["health"]}
    ).json()["id"]
    page = reader.get("/audit").text
    assert '<a href="/campaigns/mail/shares"><bdi>a partner</bdi></a>' in row_of(page, "share link created")
    added = row_of(page, "mail service added")
    assert '<a href="/deliveries"><bdi>Shop</bdi></a>' in added
    assert f'<a href="/webhooks/{made}"><bdi>CRM</bdi></a>' in row_of(page, "webhook created")
    site.delete(f"/api/webhooks/{made}")
    assert f"<bdi>{made}</bdi>" in row_of(reader.get("/audit").text, "webhook created")


def test_audit_page_offers_each_action_in_words(reader):
    page = reader.get("/audit").text
    offered = page.partition('<datalist id="actions">')[2].partition("</datalist>")[0]
    assert re.findall('<option value="(.*?)">', offered) == sorted(audit_log.ACTIONS.values())
    assert 'list="actions"' in page


def test_audit_page_campaign_without_scope_read_is_not_found_by_name(site, mail, made_key, sign_in):
    mail(name="Secret plan")
    site.post("/api/campaigns/mail/shares", json={"name": "a partner"})
    mail(id="shown")
    _, key = made_key("people", "read:shown")
    assert "Must be" not in sign_in(key).get("/audit?campaign=mail").text
    assert sign_in(key).get("/audit?campaign=Secret+plan").status_code == 422


def test_actions_in_words_have_each_action_that_the_code_notes():
    root = Path(audit_log.__file__).parents[2]
    code = "".join(
        path.read_text()
        for part in ("pixel_server", "workers")
        for path in sorted((root / part).rglob("*.py"))
    )
    noted = set(re.findall(r'\b_?note\([^"()]*(?:\([^()]*\))?[^"()]*"([a-z_]+\.[a-z_]+)"', code))
    assert len(noted) > 25
    assert noted | {"names.removed", "recipients.removed"} == audit_log.ACTIONS.keys()


@pytest.mark.parametrize("text", EVIL_TEXTS)
def test_audit_page_hostile_filter_is_harmless(reader, text):
    for name in ("who", "what", "campaign", "from", "until"):
        assert_harmless(reader.get("/audit", params={name: text}))


def test_audit_page_says_that_a_recipient_is_not_named(site, reader, secrets):
    site.get(f"/api/recipients/{secrets.recipient_key('ada').hex()}")
    site.get("/api/withdrawals", headers={"Accept": "text/csv"})
    page = reader.get("/audit").text
    assert "the recipient is not named here" in row_of(page, "recipient shown")
    assert '<td class="details nothing">' in row_of(page, "withdrawals downloaded")
