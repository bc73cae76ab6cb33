"""Notes on the page of a campaign: add, show beside their day, remove, and the scopes for that."""

from __future__ import annotations

import re
from urllib.parse import urlencode

import pytest

from pixel_server.campaigns import notes
from tests.dashboard.conftest import form_of
from tests.dashboard.test_pages import EVIL, Page, assert_harmless

PAGE = "/campaigns/mail"
PATH = f"{PAGE}/notes"


def csrf(reader):
    return Page(reader.get(PAGE)).all("input")[0]["value"]


@pytest.fixture
def send(mail, opened, stats):
    """Returns a function that sends the form of a note. Berlin is two hours ahead of UTC."""
    mail(time_zone="Europe/Berlin")
    opened("2026-09-20T15:00Z")
    stats("mail")

    def send(reader, status=303, **fields):
        form = {"csrf": csrf(reader), "text": "Mail sent", "at": "2026-09-20", "time": "", "asked": ""}
        answer = reader.post(PATH, data={**form, **fields})
        assert answer.status_code == status, answer.text
        return answer

    return send


def kept(site):
    return [(note["at"], note["text"]) for note in site.get(f"/api{PATH}").json()["items"]]


def numbers(answer):
    """Returns the note beside each day in the table of the chart."""
    rows = re.findall(r'<th scope="row">([\w ,:]+)</th>.*?<td class="beside">(.*?)</td>', answer.text)
    return {day: re.sub("<[^>]*>", "", note) for day, note in rows if note}


def test_notes_add_stores_the_note(send, reader, site):
    answer = send(reader, time="09:30")
    assert answer.headers["location"] == f"{PAGE}?done=noted#notes"
    assert kept(site) == [("2026-09-20T07:30:00Z", "Mail sent")]
    shown = reader.get(answer.headers["location"])
    page = assert_harmless(shown)
    assert "The note was saved." in page.text
    assert "20 Sep 2026, 09:30 CEST" in page.text
    assert numbers(shown) == {"20 Sep 2026": "Mail sent"}
    send(reader, text="Site moved", at="2026-09-19")
    assert kept(site)[0] == ("2026-09-18T22:00:00Z", "Site moved"), "the day begins where the campaign is"
    assert numbers(reader.get(PAGE)) == {"20 Sep 2026": "Mail sent", "19 Sep 2026": "Site moved"}


def test_notes_are_in_the_stats_of_the_chart(send, reader):
    send(reader)
    [note] = reader.get(f"{PAGE}/stats.json").json()["notes"]
    assert (note["at"], note["text"]) == ("2026-09-19T22:00:00Z", "Mail sent")


def test_notes_add_returns_to_the_same_range(send, reader):
    range_query = urlencode({"from": "2026-09-20", "to": "2026-09-21", "interval": "hour"})
    answer = send(reader, time="10:40", range=f"{range_query}&next=//evil.example")
    assert answer.headers["location"] == f"{PAGE}?{range_query}&done=noted#notes"
    shown = reader.get(answer.headers["location"])
    assert numbers(shown) == {"20 Sep 2026, 10:00 CEST": "Mail sent"}
    refused = send(reader, 422, text=" ", range=range_query)
    assert "Opens per hour" in refused.text


def test_notes_change_keeps_an_unchanged_time(send, reader, site):
    made = site.post(f"/api{PATH}", json={"text": "Mail snt", "at": "2026-09-20T07:30:07Z"}).json()
    path = f"{PATH}/{made['id']}"
    form = form_of(reader.get(PAGE), path)
    assert (form["text"], form["at"], form["time"]) == ("Mail snt", "2026-09-20", "09:30"), "as in Berlin"
    answer = reader.post(path, data={**form, "text": "Mail sent", "range": "from=2026-09-01"})
    assert answer.headers["location"] == f"{PAGE}?from=2026-09-01&done=noted#notes"
    assert kept(site) == [("2026-09-20T07:30:07Z", "Mail sent")], "with its seconds"
    reader.post(path, data={**form, "time": ""})
    assert kept(site) == [("2026-09-19T22:00:00Z", "Mail snt")]


def test_notes_change_refused_shows_its_own_form(send, reader, site):
    send(reader)
    send(reader, text="Stays")
    note = next(note for note in site.get(f"/api{PATH}").json()["items"] if note["text"] == "Mail sent")
    path = f"{PATH}/{note['id']}"
    for fields, says in (
        ({"text": " "}, "1 to 200 characters"),
        ({"at": "1969-01-01"}, "between 1970"),
        ({"at": "soon", "time": "25:00", "text": " "}, "a date and time"),
    ):
        answer = reader.post(path, data={**form_of(reader.get(PAGE), path), **fields})
        assert answer.status_code == 422
        page = assert_harmless(answer)
        assert [each.get("class") for each in page.all("details") if "open" in each] == ["edit"]
        assert says in answer.text
        assert f'The note was not saved. <a href="#note-{note["id"]}">' in answer.text
        shown = form_of(answer, path)
        assert {name: shown[name] for name in fields} == fields, "as it was filled in"
        types = {each.get("value"): each["type"] for each in page.all("input") if "type" in each}
        assert types.get("soon", "text") == types.get("25:00", "text") == "text", "a date shows nothing"
        assert form_of(answer, PATH)["text"] == ""
    form = {**form_of(reader.get(PAGE), path), "text": "x"}
    assert reader.post(path, data={**form, "csrf": "no"}).status_code == 403
    assert reader.post(f"{PATH}/%00", data=form).status_code == 404
    assert sorted(text for _, text in kept(site)) == ["Mail sent", "Stays"]


def test_notes_outside_the_range_are_counted(send, reader):
    send(reader, at="2026-01-01")
    shown = reader.get(PAGE)
    assert "1 note is outside this range" in shown.text
    assert "Mail sent" not in shown.text
    assert "Mail sent" in reader.get(f"{PAGE}?from=2025-12-01&until=2026-01-31").text


def test_notes_remove_deletes_the_note(send, reader, site):
    send(reader)
    send(reader, text="Stays")
    page = Page(reader.get(PAGE))
    paths = [form["action"] for form in page.all("form") if form["action"].endswith("/remove")]
    names = [button["aria-label"] for button in page.all("button") if "aria-label" in button]
    path = paths[names.index("Remove the note Mail sent")]
    assert reader.post(path).status_code == 403
    form = {"csrf": csrf(reader), "range": "from=2026-09-01"}
    answer = reader.post(path, data=form)
    assert answer.headers["location"] == f"{PAGE}?from=2026-09-01&done=removed#notes"
    assert [text for _, text in kept(site)] == ["Stays"]
    assert reader.post(path, data=form).status_code == 404
    assert reader.post(f"{PATH}/%00/remove", data=form).status_code == 404


@pytest.mark.parametrize(
    ("fields", "name", "message"),
    [
        ({"text": " "}, "text", "1 to 200 characters"),
        ({"text": "x" * 201}, "text", "1 to 200 characters"),
        ({"text": "a\x00"}, "text", "control characters"),
        ({"at": "yesterday"}, "at", "a date and time"),
        ({"at": "1969-01-01"}, "at", "between 1970-01-01 and 2106-02-07"),
        ({"at": "0001-01-01"}, "at", "between 1970-01-01 and 2106-02-07"),
        ({"at": "9999-12-31"}, "at", "between 1970-01-01 and 2106-02-07"),
        ({"time": "25:00"}, "at", "a date and time"),
        ({"at": "\ud800".encode("utf-8", "surrogatepass")}, "at", "a date and time"),
    ],
)
def test_notes_invalid_note_is_refused(send, reader, site, fields, name, message):
    answer = send(reader, 422, **fields)
    page = assert_harmless(answer)
    [field] = [attrs for attrs in page.all("input") if attrs.get("id") == name]
    assert field["aria-invalid"] == "true"
    wrong = re.search(rf'id="wrong-{name}">(.*?)</p>', answer.text)
    assert message in wrong[1]
    assert "open" in page.all("details")[-2]
    assert 'The note was not saved. <a href="#notes">' in answer.text
    if name == "at":
        assert 'value="Mail sent"' in answer.text, "as it was filled in"
    assert kept(site) == []


def test_notes_too_many_are_refused(send, reader, monkeypatch):
    monkeypatch.setattr(notes, "MAX_NOTES", 1)
    send(reader)
    assert "remove one first" in send(reader, 409).text


def test_notes_without_day_get_the_current_time(send, reader, site):
    send(reader, at="")
    assert kept(site) == [("2026-09-20T15:00:00Z", "Mail sent")]


@pytest.mark.parametrize("evil", EVIL)
def test_notes_hostile_texts_are_harmless(send, reader, evil):
    send(reader, text=evil)
    shown = reader.get(PAGE)
    page = assert_harmless(shown)
    assert page.text.count(evil) == 3, "in the list, in the name of its form, and in the table"
    assert "1337" not in page.text


def test_notes_read_scope_cannot_change_notes(send, reader, site, sign_in):
    key = site.post("/api/keys", json={"name": "Reader", "scopes": ["read"]}).json()["key"]
    send(reader)
    [note] = site.get(f"/api{PATH}").json()["items"]
    reader = sign_in(key)
    shown = reader.get(PAGE)
    assert "Mail sent" in shown.text
    assert [form["action"] for form in assert_harmless(shown).all("form")] == ["/sign-out", PAGE]
    form = {"csrf": csrf(reader), "text": "Mine", "at": "2026-09-20"}
    assert reader.post(PATH, data=form).status_code == 403
    assert reader.post(f"{PATH}/{note['id']}/remove", data=form).status_code == 403
    assert reader.post("/campaigns/none/notes", data=form).status_code == 403
    assert len(kept(site)) == 1


def test_notes_unknown_campaign_answers_404(send, reader):
    form = {"csrf": csrf(reader), "text": "x", "at": "2026-09-20"}
    assert reader.post("/campaigns/none/notes", data=form).status_code == 404
    assert reader.post(PATH, data={"text": "x"}).status_code == 403
