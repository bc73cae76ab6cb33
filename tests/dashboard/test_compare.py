"""The comparison of campaigns: figures, differences, and invalid queries."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from html import unescape

import pytest

from pixel_server.dashboard import compare, formatting, svg
from tests.dashboard.test_pages import EVIL, Page, assert_harmless
from tests.stack import READER

DAY = "2026-09-20"
OUTLOOK = "Mozilla/4.0 (compatible; ms-office; MSOffice 16)"


@pytest.fixture
def story(site, mail, page, clock, secrets, viewed, stats):
    """Counts three mails to forty recipients (20, 2 and 19 opened) and two web sites (3 views, 1 view)."""
    from pixel_server.mail.links import Minter

    clock.at(f"{DAY}T07:00Z")
    mail(sent=40, sent_at=f"{DAY}T07:00:00Z", name="Spring mail")
    mail(id="later", sent=40, sent_at=f"{DAY}T07:00:00Z", name="Later mail", time_zone="Asia/Tokyo")
    mail(id="same", sent=40, sent_at=f"{DAY}T07:00:00Z", name="Same mail")
    page(name="Our site")
    page(id="shop", name="Our shop")
    minter = Minter("http://pixel.test", secrets)
    for name, readers in (("mail", 20), ("later", 2), ("same", 19)):
        for n in range(readers):
            clock.at(f"{DAY}T08:{n:02}Z")
            agent = OUTLOOK if name == "same" else READER
            url = minter.url(name, f"r{n}", now=datetime(2026, 9, 20, 7, tzinfo=UTC).timestamp())
            assert site.get(url, headers={"User-Agent": agent}).headers["x-pixel"] == "recorded"
    for n, who in enumerate(("ada", "ada", "bob")):
        viewed(f"{DAY}T09:{n:02}Z", who)
    viewed(f"{DAY}T09:30Z", "cyd", "shop")
    clock.at(f"{DAY}T12:00Z")
    stats("mail")


def rows(answer):
    """Returns the text of each cell by campaign and label: the words of its column up to a comma."""
    found = {}
    for table in re.findall(r'<table class="compared.*?</table>', answer.text, re.S):
        labels = re.findall(r'<th scope="col"[^>]*>(?:<span[^>]*>)?([\w ]+)', table)[1:]
        for row in re.findall(r"<tr><th scope=\"row\">.*?</tr>", table, re.S):
            cells = re.findall(r"<td[^>]*>(.*?)</td>", row, re.S)
            plain = [" ".join(re.sub("<[^>]*>", " ", cell).split()) for cell in cells]
            found[re.search(r"/campaigns/([a-z0-9-]+)", row)[1]] = dict(zip(labels, plain, strict=True))
    return found


def differences(answer):
    """Returns the sentences on the differences to the first campaign."""
    found = re.findall(r"<li>((?:The |<bdi>).*?)</li>", answer.text, re.DOTALL)
    return [" ".join(re.sub("<[^>]*>", "", text).split()) for text in found]


def curves(answer):
    """Returns the points of the curves in a page, by name."""
    found = [attrs["data-curves"] for _, attrs in Page(answer).found if "data-curves" in attrs]
    return {each["name"]: each["points"] for each in json.loads(found[0])} if found else {}


def test_compare_mails_show_figures_and_differences(story, site, reader):
    answer = reader.get("/compare?id=mail&id=later&id=same")
    assert answer.status_code == 200
    assert_harmless(answer)
    found = rows(answer)
    assert list(found) == ["mail", "later", "same"]
    asked = site.get("/api/compare?ids=mail,later,same").json()["items"]
    assert found["mail"]["Opened by people"] == "20"
    assert found["mail"]["Delivered"] == "40 of 40 sent"
    assert found["mail"]["Open rate"] == "50.0% counted"
    later, same = differences(answer)
    assert later.startswith(
        "The estimated open rate of Later mail is 45 points lower than that of Spring mail. "
        "This is larger than chance. 95% interval: \u2212"
    )
    assert re.search(r"95% interval: \u2212\d+ to \u2212\d+\.$", later), "whole points"
    assert asked[1]["to_first"]["significant"] is True
    assert "This could be chance." in same
    assert asked[2]["to_first"]["significant"] is False
    assert found["mail"]["Time to open"] == formatting.span(
        site.get("/api/campaigns/mail/stats").json()["time_to_open"]["median"]
    )
    assert "<h2>Sites</h2>" not in answer.text


def test_compare_open_rates_share_one_scale(story, reader):
    answer = reader.get("/compare?id=mail&id=later")
    bars = [attrs for attrs in Page(answer).all("rect") if attrs.get("class") == "certain" and attrs.get("y")]
    assert [bar["width"] for bar in bars] == ["100.0", "10.0"], "50 % and 5 % of a scale to 50 %"
    assert "The bars of the open rate end at 50%." in answer.text


def cells(table):
    """Returns the texts of the cells of a table of shares."""
    return re.findall(r'<td class="n">(.*?)<', table)


def test_compare_mailing_without_enough_facts_gets_no_verdict(story, site, mail, reader):
    mail(id="few", sent=3, sent_at=f"{DAY}T07:00:00Z", name="Few mails")
    site.patch("/api/campaigns/same", json={"sent_at": None})
    answer = reader.get("/compare?id=mail&id=few&id=same&id=later")
    assert_harmless(answer)
    few, same, later = differences(answer)
    assert few == (
        "Few mails is not compared with Spring mail: "
        "Few mails has too few mails to compare, fewer than 30 delivered."
    )
    assert same == "Same mail is not compared with Spring mail: the time of sending of Same mail is not set."
    assert "larger than chance" in later
    assert rows(answer)["few"]["Open rate"] == "no opens yet"
    in_range = rows(reader.get(f"/compare?id=mail&id=few&from={DAY}&until={DAY}"))
    assert in_range["few"]["Opened by people in these days"] == "no opens in these days"


def test_compare_curves_equal_the_api(story, site, reader, clock):
    site.patch("/api/campaigns/same", json={"sent_at": None})
    answer = reader.get("/compare?id=mail&id=later&id=same")
    assert_harmless(answer)
    mail, later, same = site.get("/api/compare?ids=mail,later,same").json()["items"]
    assert curves(answer) == {
        item["name"]: [[0, 0], *([point["hours"], point["share"]] for point in item["opening_curve"])]
        for item in (mail, later)
    }
    assert mail["opening_curve"][:2] == [
        {"hours": 1.0, "unique_opens_person": 0, "share": 0.0, "high": 0.0},
        {"hours": 2.0, "unique_opens_person": 20, "share": 0.5, "high": 0.5},
    ]
    assert mail["opening_curve"][-1]["hours"] == 5.0, "no point lies after now"
    assert same["opening_curve"] is None
    assert "The time of sending is not set." in answer.text
    table = answer.text.partition("Opened by people since sending")[2]
    assert cells(table)[:6] == ["0%", *["\u2013"] * 5], "5 hours are over"


def test_compare_mail_programs_show_shares(story, reader):
    answer = reader.get("/compare?id=mail&id=same")
    matrix = answer.text.partition("Opens by mail program")[2]
    assert re.findall(r'<th scope="col" class="n"><bdi>(.*?)<', matrix) == [
        "Thunderbird",
        "Outlook",
        "Other",
    ], "the program with most opens in all campaigns comes first"
    assert cells(matrix) == [
        "100%",
        "0%",
        "0%",
        "0%",
        "100%",
        "0%",
    ]


def test_compare_web_sites_show_figures_and_differences(story, reader):
    answer = reader.get("/compare?id=page&id=shop")
    assert_harmless(answer)
    found = rows(answer)
    assert (found["page"]["Views"], found["page"]["Visits"], found["page"]["Visitors"]) == ("3", "2", "2")
    assert (found["page"]["Bounce rate"], found["shop"]["Bounce rate"]) == ("50.0%", "100%")
    [difference] = differences(answer)
    assert difference.startswith(
        "The bounce rate of Our shop is 50 points higher than that of Our site. This could be chance. 95%"
    )
    assert "Mailings" not in answer.text


def test_compare_visitors_name_their_unit(story, page, viewed, clock, stats, reader):
    page(id="strict", name="Strict site", identity="cookieless")
    viewed(f"{DAY}T10:00Z", "eve", "strict")
    clock.at(f"{DAY}T12:00Z")
    stats("strict")
    mixed = rows(reader.get("/compare?id=page&id=strict"))
    assert mixed["page"]["Visitors or visitor"] == "2 visitors"
    assert mixed["strict"]["Visitors or visitor"] == "1 visitor-day"
    alike = reader.get("/compare?id=page&id=shop")
    assert rows(alike)["page"]["Visitors"] == "2"


def test_compare_both_kinds_get_two_tables(story, reader):
    answer = reader.get("/compare?id=page&id=mail&id=shop&id=later&id=mail")
    page = assert_harmless(answer)
    assert list(rows(answer)) == ["mail", "later", "page", "shop"], "each once, mails first"
    checked = [each["value"] for each in page.all("input") if "checked" in each]
    assert checked == ["page", "mail", "shop", "later"]


def test_compare_range_shows_changes_of_sites_only(story, opened, viewed, clock, stats, sign_in):
    opened("2026-09-21T09:00Z", "r30")
    viewed("2026-09-21T09:10Z", "dan")
    stats("mail")
    clock.at("2026-09-22T08:00Z")
    reader = sign_in()
    answer = reader.get("/compare?id=mail&id=later&id=page&from=2026-09-21&until=2026-09-21")
    assert_harmless(answer)
    found = rows(answer)
    assert found["page"]["Views"] == "1 \u221266.7%"
    assert found["mail"]["Opened by people"] == "1", "a mailing's opens always fall"
    share = "Opened by people in these days"
    assert found["mail"][share] == "\u2013", "sent before"
    assert "Time to open" not in found["mail"]
    assert "Differences and times to open are shown for all time only." in Page(answer).text
    first_day = rows(reader.get(f"/compare?id=mail&id=later&from={DAY}&until={DAY}"))
    assert first_day["mail"][share] == "50.0% counted"
    links = [attrs["href"] for attrs in Page(answer).all("a")]
    assert "/campaigns/mail?from=2026-09-21&to=2026-09-22" in links
    assert 'value="2026-09-21"' in answer.text
    week = next(link for link in links if "from=2026-09-16&until=2026-09-22" in link)
    assert rows(reader.get(week))["mail"]["Opened by people"] == "21"
    assert not re.search('class="change"', reader.get("/compare?id=mail&id=later").text)


def test_compare_mails_in_a_range_have_no_differences(story, reader):
    for day in (DAY, "2026-09-21"):  # the day of sending, and a day after
        answer = reader.get(f"/compare?id=mail&id=later&id=page&id=shop&from={day}&until={day}")
        assert not any("mail" in text for text in differences(answer))
        assert "share opened by a person" not in answer.text
        assert "each mailing has had another time to be opened" in answer.text
        shown_day = f"{int(day[-2:])} Sep 2026"
        chosen = f'<span aria-current="true">Custom: {shown_day}</span>'
        assert (chosen in answer.text) == (day != DAY), "the preset Today is this day"
        if day == DAY:
            assert f'Opens by mail program<span class="of-range">, {shown_day}</span>' in answer.text
        all_time = re.search(r'<a href="([^"]*)">for all time</a>', answer.text)
        assert all_time is not None
        assert len(differences(reader.get(unescape(all_time[1])))) == 2


def test_compare_day_is_in_each_campaigns_time_zone(story, reader, opened, stats, sign_in):
    opened(f"{DAY}T15:30Z", "r30", "later")  # the 21st in Tokyo
    stats("later")
    found = rows(sign_in().get(f"/compare?id=mail&id=later&from={DAY}&until={DAY}"))
    assert found["later"]["Opened by people"] == "2"
    assert found["mail"]["Opened by people"] == "20"


def test_compare_search_offers_other_campaigns(story, reader):
    first = reader.get("/")
    form = next(attrs for attrs in Page(first).all("form") if attrs.get("id") == "compare")
    assert (form["method"], form["action"]) == ("get", "/compare")
    ticks = [attrs for attrs in Page(first).all("input") if attrs.get("type") == "checkbox"]
    assert {(tick["form"], tick["name"]) for tick in ticks} == {("compare", "id")}
    assert {tick["value"] for tick in ticks} == {"mail", "later", "same", "page", "shop"}
    for query in ("", "?id=mail"):
        answer = reader.get(f"/compare{query}")
        assert answer.status_code == 200
        assert "Choose two or more" in assert_harmless(answer).text
        assert len([a for a in Page(answer).all("input") if a.get("type") == "checkbox"]) == 5
    found = Page(reader.get("/compare?id=mail&id=page&q=LATER"))
    ticks = [attrs for attrs in found.all("input") if attrs.get("type") == "checkbox"]
    assert [(tick["value"], "checked" in tick) for tick in ticks] == [
        ("mail", True),
        ("page", True),
        ("later", False),
    ]
    assert "No other campaign" in reader.get("/compare?id=mail&id=page&q=zz").text


@pytest.mark.parametrize(
    ("query", "status", "says"),
    [
        ("id=mail&id=none", 404, "no campaign \u201cnone\u201d"),
        ("id=mail&id=%00", 404, "no campaign"),
        ("id=mail&id=..%2f", 404, "no campaign"),
        ("id=" + "x" * 5000, 404, "no campaign"),
        ("id=mail&id=page&from=x", 422, "must be a date"),
        ("id=mail&id=page&until=x", 422, "must be a date"),
        ("id=mail&id=page&from=2026-09-02&until=2026-09-01", 422, "must not be after the last"),
        ("id=mail&id=page&from=1000-01-01", 422, "must lie in the years"),
        ("id=mail&id=page&to=2026-09-20T00:07Z", 422, "an interval begins: midnight"),
    ],
)
def test_compare_invalid_query_shows_an_error(story, reader, query, status, says):
    answer = reader.get(f"/compare?{query}")
    assert answer.status_code == status
    page = assert_harmless(answer)
    assert says in page.text
    assert 'role="alert"' in answer.text
    assert not rows(answer)
    if status == 422:
        dates = [attrs for attrs in page.all("input") if attrs.get("type") == "date"]
        assert all(each["aria-describedby"] == "wrong" for each in dates)


def test_compare_unknown_id_compares_the_others(story, reader):
    answer = reader.get("/compare?id=mail&id=none&id=later")
    assert answer.status_code == 404
    assert list(rows(answer)) == ["mail", "later"]


def test_compare_too_many_campaigns_is_refused(site, mail, reader):
    for n in range(21):
        mail(id=f"c{n:02}")
    link = "/compare?" + "&".join(f"id=c{n:02}" for n in range(20))
    assert len(rows(reader.get(link))) == 20
    answer = reader.get(f"{link}&id=c20")
    assert answer.status_code == 422
    assert "At most 20 campaigns can be compared" in answer.text
    assert not rows(answer)


@pytest.mark.parametrize("evil", EVIL)
def test_compare_hostile_names_are_harmless(mail, page, reader, evil):
    mail(name=evil)
    mail(id="other", name=evil)
    page(name=evil)
    for query in ("id=mail&id=other&id=page", ""):
        found = assert_harmless(reader.get(f"/compare?{query}"))
        assert evil in found.text
        assert "1337" not in found.text
    assert evil in assert_harmless(reader.get("/compare", params={"q": evil, "id": evil})).text


def test_compare_key_of_one_campaign_is_refused(site, mail, sign_in):
    mail()
    key = site.post("/api/keys", json={"name": "Partner", "scopes": ["read:mail"]}).json()["key"]
    reader = sign_in(key)
    assert reader.get("/compare?id=mail").status_code == 403
    assert "/compare" not in reader.get("/").text


def test_compare_campaigns_without_hits_say_so(mail, page, reader):
    mail()
    mail(id="other")
    page()
    page(id="shop")
    answer = reader.get("/compare?id=mail&id=other&id=page&id=shop")
    assert rows(answer)["mail"]["Open rate"] == "no opens yet"
    assert [text.partition(": ")[2] for text in differences(answer)] == [
        "mail has no open rate.",
        "page has no visits.",
    ]


# Pure


def read(**opens):
    return None, {"opens_person_by": {"client": [{"name": n, "opens": k} for n, k in opens.items()]}}


def test_client_shares_totals_order_the_programs():
    found = compare.client_shares([read(rare=2), read(common=30, other=10)])
    assert found["programs"] == ["common", "other", "rare", "(other)"]


def test_client_shares_rare_programs_become_other():
    many = {f"c{n}": 1 for n in range(9)}
    found = compare.client_shares([read(a=3, b=1), read(b=5), (None, {"opens_person_by": None}), read()])
    assert found == {"programs": ["b", "a", "(other)"], "rows": [[0.25, 0.75, 0], [1, 0, 0], None, None]}
    rest = compare.client_shares([read(**many, **{"(other)": 1})])
    assert rest["programs"] == ["c0", "c1", "c2", "c3", "c4", "c5", "(other)"]
    assert rest["rows"][0][-1] == pytest.approx(0.4)
    assert compare.client_shares([(None, {"opens_person_by": None})]) is None


def test_open_rate_bar_with_top_fills_the_scale():
    rate = {"low": 0.05, "high": 0.1, "estimate": 0.06}
    assert svg.open_rate_bar(rate, 0.2) == {"low": 25, "width": 25, "estimate": 30}
