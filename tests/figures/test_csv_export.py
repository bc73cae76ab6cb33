"""Tables in CSV: escaped formulas, flags, and breakdowns."""

from __future__ import annotations

import csv
import io

import pytest

from pixel_server.figures import csv_export


@pytest.mark.parametrize(
    "blank", ["", " ", "\u00a0", "\u3000", "\ufeff", "\u200b", "\u2060\u200d", "\u3164", "\t"]
)
@pytest.mark.parametrize(
    "start", [*"=+-@", *"\uff1d\uff0b\uff0d\uff20", *"\ufe66\ufe62\ufe63\ufe6b", "\u2212"]
)
def test_csv_export_formula_gets_an_apostrophe(blank, start):
    text = f"{blank}{start}1"
    assert csv_export.lines([[text]]) == f"'{text}\r\n".encode()


@pytest.mark.parametrize("text", ["\tx", "\rx", "\nx"])
def test_csv_export_control_character_gets_an_apostrophe(text):
    assert csv_export.lines([[text]]).lstrip(b'"').startswith(b"'")


@pytest.mark.parametrize("text", ["", " ", "a=1", "ada@example.org", "2025-06-10", "\uff11", "\ufeff", "Ada"])
def test_csv_export_other_text_stays(text):
    assert csv_export.lines([[text, None, -5]]) == f"{text},,-5\r\n".encode()


def test_csv_export_flags_are_written_as_in_json():
    assert csv_export.lines([["ada", True, False, 1, 0, None]]) == b"ada,true,false,1,0,\r\n"


def test_csv_export_recipients_of_a_list_are_true(site, mail):
    mail(mode="identified")
    site.post("/api/campaigns/mail/links", json={"recipients": ["ada"], "sent": True})
    table = site.get("/api/campaigns/mail/recipients?state=unopened", headers={"Accept": "text/csv"})
    assert [row["listed"] for row in csv.DictReader(io.StringIO(table.text))] == ["true"]


def test_csv_export_breakdowns_are_a_row_for_each_name(site, page, clock, count):
    page()
    for visitor, path in (("ada", "/a"), ("bob", "/=b"), ("bob", "/a")):
        clock.at("2025-06-10T09:00Z")
        site.get("/p/page.gif", params={"v": visitor, "u": f"https://example.org{path}"})
    clock.at("2025-06-11T09:00Z")
    count(clock.now)
    query = "/api/campaigns/page/breakdowns?from=2025-06-10&by=page,country"
    shown = site.get(query).json()["by"]
    answer = site.get(query, headers={"Accept": "text/csv"})
    assert answer.headers["content-disposition"] == 'attachment; filename="page-breakdowns.csv"'
    rows = list(csv.reader(io.StringIO(answer.text)))
    assert rows[0] == ["by", "name", "views", "visits"]
    assert rows[1:] == [
        [by, row["name"], str(row["views"]), str(row["visits"])] for by in shown for row in shown[by]
    ]
    assert len(shown["page"]) == 2
    empty = site.get("/api/campaigns/page/breakdowns?to=2025-06-10", headers={"Accept": "text/csv"})
    assert empty.text == "by,name,views,visits\r\n"


def test_csv_export_mail_breakdowns_are_a_row_for_each_name(site, mail, opened, stats):
    mail()
    opened("2026-03-01T22:00Z", "ada")
    opened("2026-03-02T09:00Z", "bob")
    days = {"from": "2026-03-01", "to": "2026-03-03"}
    by = {"client": {"Thunderbird": "2"}, "device": {"desktop": "2"}}
    for query in ({}, days):
        known = stats("mail", **query)["opens_person_by"]
        shown = site.get("/api/campaigns/mail/breakdowns", params=query).json()
        assert shown["by"] == known
        table = site.get(
            "/api/campaigns/mail/breakdowns",
            params={**query, "by": "client,device"},
            headers={"Accept": "text/csv"},
        )
        rows = list(csv.reader(io.StringIO(table.text)))
        assert rows == [["by", "name", "opens"], *([d, n, o] for d in by for n, o in by[d].items())]
    assert site.get("/api/campaigns/mail/breakdowns?by=page").status_code == 409
    assert site.get("/api/campaigns/mail/breakdowns?from=2026-01-01").status_code == 409
    mail(id="counted", mode="count")
    assert site.get("/api/campaigns/counted/breakdowns").status_code == 409
