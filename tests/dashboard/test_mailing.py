"""The page of a mailing: when it was sent, the range since sending, and the number that leads."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

import pytest

from pixel_server.campaigns.campaign import Campaign
from pixel_server.dashboard import chart, curves, mailing
from pixel_server.figures.opening_curve import Point
from tests.dashboard.test_pages import Page, assert_harmless

PAGE = "/campaigns/mail"


@pytest.fixture
def sent(site, mail, opened, stats, clock):
    """Counts a mail of 40 to which three recipients opened, one of them two days after sending."""
    clock.at("2026-09-20T08:30Z")
    mail(sent=40, sent_at="2026-09-20T08:30:00Z", name="Spring mail")
    for at, who in (("20T08:40Z", "ada"), ("20T09:40Z", "bob"), ("22T10:00Z", "cyd")):
        opened(f"2026-09-{at}", who)
    clock.at("2026-09-24T12:00Z")
    stats("mail")


def current(page):
    """Returns the address of the current range, None if it is not a preset."""
    return next((a["href"] for a in page.all("a") if a.get("aria-current") == "true"), None)


def words(page):
    return " ".join(page.text.split())


def test_mailing_page_begins_with_sending(sent, reader):
    answer = reader.get(PAGE)
    page = assert_harmless(answer)
    assert "Sent 20 Sep 2026, 08:30 UTC to 40 · mail" in words(page)
    assert "Open rate 7.5% known exactly" in words(page)
    assert "Measured for 3 recipients with an open by a person and a known time of sending." in words(page)
    assert "Half opened within about" in page.text
    assert "3 recipients, 7.5% of the delivered" in words(page)
    assert "3 machines and repeated opens too" in words(page)
    assert current(page) == PAGE
    data = next(attrs["data-chart"] for _, attrs in page.found if "data-chart" in attrs)
    series = reader.get(data).json()["series"]
    assert series[0]["start"] == "2026-09-20T08:30:00+00:00"
    assert [item["opens"] for item in series] == [1, 1, *[0] * 46, 1, 0, 0]
    assert "Opens per hour since sending" in words(page)


def test_mailing_page_says_what_delivered_is_made_of(sent, site, reader):
    assert "40 mails: 40 sent (entered)" in words(Page(reader.get(PAGE)))
    assert site.patch("/api" + PAGE, json={"bounced": 2}).status_code == 200
    assert "38 mails: 40 sent (entered), less 2 bounced" in words(Page(reader.get(PAGE)))


def test_mailing_page_first_day_leads_with_its_own_rate(sent, reader):
    page = assert_harmless(reader.get(f"{PAGE}?since_sending=24h"))
    assert current(page) == f"{PAGE}?since_sending=24h"
    assert (
        "Opened by people in this range 5.0% Counted, of the delivered mails. Open rate of all time: 7.5%."
        in words(page)
    )
    assert "2 recipients, 5.0% of the delivered" in words(page)
    assert "Opens per hour the first 24 hours" in words(page)
    assert "The first 24 hours after sending. Includes" in words(page)
    assert "opened within" not in page.text
    assert "are counted by day" in page.text
    texts = reader.get(f"{PAGE}/figures.json?since_sending=24h").json()["figures"]
    assert texts["open_rate.low"] == "5.0%"


def test_mailing_page_range_after_sending_leads_with_a_number_of_recipients(sent, reader):
    answer = reader.get(f"{PAGE}?from=2026-09-22&until=2026-09-22")
    page = assert_harmless(answer)
    assert current(page) is None
    assert ' aria-current="true">Custom: 22 Sep 2026</summary>' in answer.text
    assert "1 recipient opened it for the first time in this range." in words(page)
    assert "Open rate of all time: 7.5%." in words(page)
    assert "1 recipient" in words(page)
    assert "% of the delivered" not in words(page)
    assert "opened within" not in page.text
    assert 'class="change"' not in answer.text


def test_mailing_heading_names_the_leading_figure(sent, site, opened, clock, stats, sign_in):
    site.headers["User-Agent"] = "Mozilla/5.0"  # Apple's mail program loads the images of all mails
    opened("2026-09-20T10:00Z", "machine")
    clock.at("2026-09-24T12:00Z")
    stats("mail")
    reader = sign_in()
    assert "Estimated open rate ≈ 8% At least 7% opened it." in words(Page(reader.get(PAGE)))
    first_day = words(Page(reader.get(f"{PAGE}?since_sending=24h")))
    assert "Opened by people in this range 5% Counted, of the delivered mails. At most 8%" in first_day
    assert "Estimated open rate of all time: ≈ 8% (7% to 10%)." in first_day
    assert "≈ 8% estimated" in words(Page(reader.get("/")))
    site.patch("/api" + PAGE, json={"sent": 20})
    limits = words(Page(reader.get(PAGE)))
    assert "Limits of the open rate 15% to 20%" in limits
    assert "No estimate is made" in limits


def test_mailing_page_chart_of_a_day_begins_with_sending(sent, reader):
    page = Page(reader.get(f"{PAGE}?from=2026-09-20&until=2026-09-20&interval=hour"))
    [figure] = [attrs for attrs in page.all("figure") if "data-chart" in attrs]
    assert figure["data-begins"] == str(int(datetime(2026, 9, 20, 8, 30, tzinfo=UTC).timestamp()))
    later = Page(reader.get(f"{PAGE}?from=2026-09-21&until=2026-09-22"))
    assert not [attrs for attrs in later.all("figure") if "data-begins" in attrs]


def test_curve_table_ends_with_the_counted_share_of_now_and_the_estimate():
    points = [Point(hours=30.0, unique_opens_person=26, share=0.26, high=0.5)]
    rate = {"low": 0.27, "high": 0.55, "estimate": 0.34, "interval": [0.3, 0.38], "method": "visible"}
    assert curves.table(points, rate) == {
        "labels": ["1 h", "6 h", "1 d", "now"],
        "share": [*3 * ["\u2013"], "27%"],
        "high": [*3 * ["\u2013"], "55%"],
        "estimate": "≈ 34%",
    }
    assert curves.table(points, {**rate, "estimate": None})["estimate"] == ""
    assert curves.table(points, None)["labels"] == ["1 h", "6 h", "1 d"]


def test_curve_table_rounds_as_the_open_rate_of_its_end():
    def point(hours, share, high):
        return Point(hours=hours, unique_opens_person=0, share=share, high=high)

    uncertain = [point(1.0, 0.0931, 0.105), point(6.0, 0.275, 0.541)]
    shown = curves.table(uncertain, None)
    assert (shown["share"], shown["high"]) == (["9%", "27%"], ["11%", "55%"])
    assert curves.drawn("a", uncertain, None)["isWhole"]
    exact = [point(1.0, 0.0931, 0.0931), point(6.0, 0.275, 0.28)]
    shown = curves.table(exact, None)
    assert (shown["share"], shown["high"]) == (["9.3%", "27.5%"], ["9.3%", "28.0%"])
    assert not curves.drawn("a", exact, None)["isWhole"]


def days(*hits):
    return [{"start": f"2026-09-{20 + n}T00:00:00+00:00", "hits": each} for n, each in enumerate(hits)]


@pytest.mark.parametrize(
    ("created", "hits", "begins"),
    [
        ("2026-09-21", (0, 0, 3, 0), "2026-09-22"),
        ("2026-09-23", (0, 2, 0, 0), "2026-09-21"),
        ("2026-09-20", (0, 0, 3, 0), None),
        ("2026-09-21", (1, 0, 3, 0), None),
        ("2026-09-22", (None, None, None, None), "2026-09-22"),
        ("2026-09-28", (0, 0, 0, 0), None),
    ],
)
def test_chart_of_a_site_begins_with_its_first_request(created, hits, begins):
    at = {day: int(datetime.fromisoformat(f"{day}T00:00Z").timestamp()) for day in (created, begins) if day}
    site = Campaign(id="c", name="c", kind="web", created=at[created])
    assert chart.begins(site, days(*hits)) == at.get(begins)


def curve(page):
    """Returns the points of the page's opening curve, None if it has no curve."""
    found = [attrs["data-curves"] for attrs in page.all("figure") if "data-curves" in attrs]
    return json.loads(found[0])[0]["points"] if found else None


def test_mailing_page_curve_follows_the_range_since_sending(sent, site, reader):
    page = assert_harmless(reader.get(PAGE))
    points = curve(page)
    assert points[:3] == [[0, 0, 0], [1.0, 0.025, 0.025], [2.0, 0.05, 0.05]]
    assert points[-1] == [99.5, 0.075, 0.075]
    table = words(page).partition("After sending")[2]
    assert re.match(r" ?1 h ?6 h ?1 d ?2 d ?now ?People ?2.5% ?5.0% ?5.0% ?5.0% ?7.5%", table)
    assert re.search(r"First 24 hours ?3 days ?7 days ?All time", words(page))
    first_day = Page(reader.get(f"{PAGE}?since_sending=24h"))
    assert curve(first_day) == points[:25]
    assert "Opened by people since sending, the first 24 hours" in words(first_day)
    assert "now" not in words(first_day).partition("After sending")[2].partition("People")[0]
    assert curve(Page(reader.get(f"{PAGE}?from=2026-09-20&until=2026-09-20"))) is None
    site.patch("/api" + PAGE, json={"sent": None})
    assert curve(Page(reader.get(PAGE))) is None, "no share without the number of mails"


@pytest.mark.parametrize(
    ("sent_at", "mails", "says"),
    [
        (None, 40, "Sent to 40, not known when (enter it) · mail"),
        (None, None, "Not known when it was sent and to how many (enter it) · mail"),
        ("2027-01-01T08:00:00Z", None, "To be sent 1 Jan 2027, 08:00 UTC · mail"),
    ],
)
def test_mailing_page_without_sending_has_calendar_ranges(sent, site, reader, sent_at, mails, says):
    site.patch("/api" + PAGE, json={"sent_at": sent_at, "sent": mails})
    page = assert_harmless(reader.get(PAGE))
    assert says in words(page)
    assert "30 days" in words(page)
    assert reader.get(f"{PAGE}?since_sending=24h").status_code == 409


@pytest.mark.parametrize(
    ("low", "high", "estimate", "shown"),
    [
        (0.275, 0.545, 0.344, "≈ 34%"),
        (0.27, 0.285, 0.281, "≈ 28.1%"),
        (0.01, 0.2, 0.034, "≈ 3%"),
        (0.275, 0.545, None, ""),
        (0.275, 0.275, 0.275, "27.5%"),
        (0, 0, None, "0%"),
    ],
)
def test_lead_is_one_figure_within_the_certain_range(low, high, estimate, shown):
    assert mailing.lead({"low": low, "high": high, "estimate": estimate}) == shown


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"sent": None}, "is not known"),
        ({"sent": 2}, "More recipients opened than mails were delivered"),
        ({"bounced": 40}, "More recipients opened"),
        ({"mode": "count"}, "not told apart"),
    ],
)
def test_mailing_page_without_rate_says_why(sent, site, reader, fields, says):
    assert site.patch("/api" + PAGE, json=fields).status_code == 200
    answer = reader.get(PAGE)
    assert re.search(r'<p class="big">\u2013</p><p class="certainty">[^<]*' + says, answer.text)


@pytest.mark.parametrize(
    ("source", "delivered", "bounced", "says", "label_count"),
    [
        (
            "given",
            1,
            37,
            "reported on 1 of 40 mails. Delivered is 40 mails sent (entered), less 37 bounces (entered).",
            2,
        ),
        ("given", 30, 0, "reported on 30 of 40 mails", 5),
        ("lists", 19, 0, "Delivered is 40 mails sent (recipients with links), less 0 bounces (reported).", 2),
        ("deliveries", 1, 0, "mails sent (reported by the mail service), less", 5),
        (None, 1, 0, "The mail service has reported on 1 mail.", 5),
    ],
)
def test_deliveries_of_few_mails_say_which_number_is_used(source, delivered, bounced, says, label_count):
    counts = {
        "delivered": delivered,
        "bounced_hard": 0,
        "bounced_soft": 0,
        "complained": 1,
        "unsubscribed": 1,
    }
    sent = 40 if source else None
    shown = mailing.deliveries(
        {"deliveries": counts, "sent": sent, "sent_source": source, "bounced": bounced}
    )
    assert says in shown["says"]
    assert len(shown["labels"]) == label_count


def test_deliveries_none_reported_is_none():
    assert mailing.deliveries({"deliveries": None, "sent": 40, "sent_source": "given", "bounced": 0}) is None


@pytest.mark.parametrize(
    ("low", "high", "estimate", "words_of_rate"),
    [
        (0.275, 0.545, 0.344, "≈ 34% (27% to 55%)"),
        (0.275, 0.545, None, "27% to 55%"),
        (0.1, 0.1, 0.1, "10.0%"),
    ],
)
def test_all_time_names_the_estimate_and_its_range(low, high, estimate, words_of_rate):
    assert mailing.all_time({"low": low, "high": high, "estimate": estimate}) == words_of_rate


def test_why_no_rate_nothing_delivered():
    stats = {"totals": {"unique_opens": 0}, "over": False, "delivered": 0}
    assert mailing.why_no_rate(stats) == "No mail was delivered, so there is no rate."


@pytest.mark.parametrize(
    ("shown", "says"),
    [
        ({"totals": {"opens_anonymous": 3}}, "belong to no known recipient"),
        ({"hidden": {"recipients": 11, "person": 0}}, "too few recipients"),
        ({}, "recipients with hidden opens read more"),
        ({"open_rate": {"low": 0.1, "high": 0.5, "estimate": 0.2}}, ""),
        ({"open_rate": {"low": 0.1, "high": 0.1, "estimate": None}}, ""),
    ],
)
def test_why_no_estimate_names_the_reason(shown, says):
    stats = {
        "delivered": 40,
        "totals": {"opens_anonymous": 0},
        "hidden": {"recipients": 10, "person": 0},
        "open_rate": {"low": 0.1, "high": 0.5, "estimate": None},
    }
    reason = mailing.why_no_estimate({**stats, **shown})
    assert says in reason
    assert bool(says) == bool(reason)
