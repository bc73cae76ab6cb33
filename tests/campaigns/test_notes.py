"""Notes on dates: added, shown in their range, removed, deleted with their campaign."""

from __future__ import annotations

import pytest

from pixel_server.campaigns import notes
from pixel_server.store import keys

AT = "2025-06-10T09:00:00Z"


@pytest.fixture
def note(site):
    def add(text="mail sent", status=201, campaign="mail", **fields):
        response = site.post(f"/api/campaigns/{campaign}/notes", json={"text": text, **fields})
        assert response.status_code == status, response.text
        return response.json()

    return add


def listed(site, campaign="mail"):
    return site.get(f"/api/campaigns/{campaign}/notes").json()["items"]


def test_notes_are_added_listed_and_removed(mail, note, site, clock):
    mail()
    clock.at("2025-06-11T10:00:00.900Z")
    now = note("site moved")
    before = note("mail sent \u202e<script>", at="2025-06-10T11:00:00+02:00")
    assert (now["at"], before["at"]) == ("2025-06-11T10:00:00Z", AT)
    assert listed(site) == [before, now]
    path = f"/api/campaigns/mail/notes/{before['id']}"
    assert site.delete(path).status_code == 204
    assert site.delete(path).status_code == 404
    assert listed(site) == [now]


def test_notes_in_stats_lie_in_the_range(mail, note, stats, clock):
    mail(time_zone="Europe/Berlin")
    first = note("first", at="2025-06-09T22:00:00Z")  # midnight in Berlin
    last = note("last", at="2025-06-10T21:59:59Z")
    note("after", at="2025-06-10T22:00:00Z")
    note("long ago", at="2020-01-01T00:00:00Z")
    assert stats("mail", from_="2025-06-10", to="2025-06-11")["notes"] == [first, last]
    clock.at("2025-06-10T23:00Z")
    assert [note["text"] for note in stats("mail")["notes"]] == ["first", "last", "after"]


def test_notes_shared_key_sees_none(mail, note, site):
    mail()
    note(at=AT)
    key = site.post("/api/keys", json={"name": "k", "scopes": ["read:mail"]}).json()["key"]
    shared = {"Authorization": f"Bearer {key}"}
    assert "notes" not in site.get("/api/campaigns/mail/stats", headers=shared).json()
    assert site.get("/api/campaigns/mail/notes", headers=shared).status_code == 403


def test_notes_too_many_are_refused(mail, note, client):
    mail()
    first = note()
    for n in range(notes.MAX_NOTES - 2):
        client.hset(keys.notes("mail"), str(n), client.hget(keys.notes("mail"), first["id"]))
    note()
    assert "200 notes" in note(status=409)["detail"]
    assert client.hlen(keys.notes("mail")) == notes.MAX_NOTES


def test_notes_deleted_campaign_removes_them(mail, page, note, site, client):
    mail()
    page()
    note()
    kept = note(campaign="page")
    site.delete("/api/campaigns/mail")
    assert client.keys("*:notes:*") == [keys.notes("page").encode()]
    assert listed(site, "page") == [kept]
    note(status=404)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"text": ""}, "text"),
        ({"text": " "}, "text"),
        ({"text": "x" * 201}, "text"),
        ({"text": "a\nb"}, "text"),
        ({"text": 1}, "text"),
        ({"text": "x", "at": "2025-06-10T09:00:00"}, "at"),
        ({"text": "x", "at": None}, "at"),
        ({"text": "x", "more": 1}, "more"),
    ],
)
def test_notes_bad_field_is_refused(mail, note, fields, field):
    mail()
    assert [error["field"] for error in note(status=422, **fields)["errors"]] == [field]


def test_notes_change_keeps_the_other_field(mail, note, site, client):
    mail()
    made = note("mail snt", at=AT)
    path = f"/api/campaigns/mail/notes/{made['id']}"
    assert site.patch(path, json={"text": "mail sent"}).json() == {**made, "text": "mail sent"}
    assert site.patch(path, json={"at": "2025-06-11T09:00:00Z"}).json()["text"] == "mail sent"
    assert listed(site) == [{**made, "text": "mail sent", "at": "2025-06-11T09:00:00Z"}]
    for fields in ({"text": " "}, {"at": "now"}, {"id": "0" * 12}):
        assert site.patch(path, json=fields).status_code == 422
    newer = client.hget(keys.notes("mail"), made["id"]).replace(b"}", b',"colour":"red"}')
    client.hset(keys.notes("mail"), made["id"], newer)
    site.patch(path, json={"text": "moved"})
    assert b'"colour":"red"' in client.hget(keys.notes("mail"), made["id"]), "of a newer version"
    site.delete(path)
    assert site.patch(path, json={"text": "back"}).status_code == 404
    assert listed(site) == []


@pytest.mark.parametrize("name", ["unknown", "%00", "0" * 12, "\U0001f600", "*"])
def test_notes_unknown_note_is_404(mail, note, site, name):
    mail()
    note()
    assert site.delete(f"/api/campaigns/mail/notes/{name}").status_code == 404
    assert site.patch(f"/api/campaigns/mail/notes/{name}", json={"text": "x"}).status_code == 404
    assert len(listed(site)) == 1
