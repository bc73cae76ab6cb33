"""The form that adds the links of each recipient to a list."""

from __future__ import annotations

import csv
import io
import re

import pytest

from pixel_server.dashboard import link_list
from tests.dashboard.conftest import form_of
from tests.dashboard.test_pages import EVIL, assert_harmless

PATH = "/campaigns/mail/pixel/list"


@pytest.fixture
def upload(reader):
    """Returns a function that sends a list as a browser without script does."""

    def send(content, **changes):
        fields = {**form_of(reader.get(PATH), PATH), **changes}
        fields.pop("list", None)
        data = {name: value for name, value in fields.items() if value is not None}
        return reader.post(PATH, data=data, files={"list": ("list.csv", content)})

    return send


def sent(site):
    return site.get("/api/campaigns/mail/stats").json()["sent"]


def test_link_list_returns_the_list_with_links_that_count(site, mail, upload, stats):
    mail()
    answer = upload('email;phone\n"ada@example.org";+49 30\nbob@example.org;=1+1\n', column="Email")
    assert answer.status_code == 200
    assert answer.headers["content-disposition"] == 'attachment; filename="mail-links.csv"'
    lines = answer.text.splitlines()
    assert lines[0] == "email;phone;pixel_url;pixel_html;privacy_url"
    assert lines[1].startswith('"ada@example.org";+49 30;http')
    rows = list(csv.DictReader(io.StringIO(answer.text), delimiter=";"))
    for row in rows:
        assert row["pixel_url"] in row["pixel_html"]
        assert site.get(row["pixel_url"]).headers["x-pixel"] == "recorded"
        assert site.get(row["privacy_url"]).status_code == 200
    assert sent(site) == 2
    assert stats("mail")["totals"]["unique_opens"] == 2


def test_link_list_not_counted_as_sent_stores_nothing(site, mail, upload):
    mail()
    assert upload('{"recipient": "ada"}\n', count_sent=None).text.startswith(
        '{"recipient": "ada", "pixel_url"'
    )
    assert sent(site) is None
    assert site.get("/api/campaigns/mail/recipients/counts").json()["all"] == 0


def test_link_list_mode_count_counts_mails(site, mail, upload):
    mail(mode="count")
    assert upload("recipient\nada\nbob\n").status_code == 200
    assert sent(site) == 2


def test_link_list_bad_line_makes_no_link_until_it_is_left_out(site, mail, upload):
    mail()
    content = "recipient,name\nada,\n" + "x" * 300 + ",\n,Bob\n"
    refused = upload(content)
    page = assert_harmless(refused)
    assert refused.status_code == 422
    assert "Choose the file again, because it is not stored." in page.text
    assert "Line 3 recipient must have at most 256 characters" in page.text
    assert "Line 4 recipient must not be empty" in page.text
    [form] = re.findall("<form [^>]*multipart.*?</form>", refused.text, re.DOTALL)
    names = re.findall('<input [^>]*name="(.*?)"', form)
    assert names == ["csrf", "leave_out", "column", "count_sent", "list"], "the error's way out comes first"
    assert refused.text.index(form) < refused.text.index("<h2>Lines that cannot be used")
    assert sent(site) is None
    answer = upload(content, leave_out="yes")
    assert [line[:3] for line in answer.text.splitlines()] == ["rec", "ada"]
    assert sent(site) == 1


def test_link_list_unusable_list_is_refused(site, mail, upload, monkeypatch):
    mail()
    for content in (
        "",
        "no column\n1\n",
        "recipient\n" + "x" * 300,
        "recipient,pixel_url\nada,x\n",
        b"\0" * 9,
    ):
        answer = upload(content)
        assert answer.status_code == 422, content
        assert_harmless(answer)
    monkeypatch.setattr(link_list, "MAX_LIST_BYTES", 20)
    assert upload("recipient\n" + "ada\n" * 9).status_code == 413
    assert sent(site) is None


def test_link_list_hostile_texts_are_harmless(mail, upload):
    mail()
    for text in EVIL:
        cell = '"' + text.replace('"', '""') + '"'
        assert_harmless(upload(f"recipient,name\n{'x' * 300},{cell}\n", column=text))


def test_link_list_campaign_without_links_is_409(site, mail, upload, reader):
    mail(mode="off")
    assert reader.get(PATH).status_code == 409
    site.post("/api/campaigns", json={"id": "shop", "name": "Shop", "kind": "web"})
    assert reader.get("/campaigns/shop/pixel/list").status_code == 409


def test_link_list_stored_list_is_downloaded_without_who_withdrew(site, mail, reader):
    mail(mode="identified")
    kind = {"Content-Type": "text/csv"}
    content = "recipient,name\nada,=Ada\neve,Eve\n"
    assert site.put("/api/campaigns/mail/recipients", content=content, headers=kind).status_code == 200
    site.post("/api/withdrawals", json={"recipients": ["eve"]})
    assert "/pixel/list.csv" in reader.get("/campaigns/mail/pixel").text
    [row] = csv.DictReader(io.StringIO(reader.get(f"{PATH}.csv").text))
    assert (row["recipient"], row["name"]) == ("ada", "'=Ada")
    assert site.get(row["pixel_url"]).headers["x-pixel"] == "recorded"


def test_link_list_stored_list_without_names_is_409(mail, reader):
    mail()
    assert reader.get(f"{PATH}.csv").status_code == 409


def test_link_list_without_scope_write_is_403(sign_in, made_key, mail):
    mail(mode="identified")
    visitor = sign_in(made_key("read", "people")[1])
    assert visitor.get(PATH).status_code == 403
    assert visitor.get(f"{PATH}.csv").status_code == 403
    assert visitor.post(PATH, files={"list": ("a.csv", "recipient\nada\n")}).status_code == 403


@pytest.mark.parametrize("count_sent", ["yes", None])
def test_link_list_consented_names_only_who_consented(site, mail, upload, stats, count_sent):
    mail(preset="consented")
    content = "recipient,consent_ref\nada,2026-05@2025-06-01T09:30:00Z\nbob,\ncyd,\n"
    answer = upload(content, count_sent=count_sent)
    ada, bob, cyd = (row["pixel_url"] for row in csv.DictReader(io.StringIO(answer.text)))
    assert ada != bob == cyd
    assert sent(site) == (3 if count_sent else None)
    for url in (ada, bob):
        assert site.get(url).headers["x-pixel"] == "recorded"
    totals = stats("mail")["totals"]
    assert (totals["opens"], totals["opens_anonymous"], totals["unique_opens"]) == (2, 1, 1)
