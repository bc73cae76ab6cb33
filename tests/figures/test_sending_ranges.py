"""Ranges since a mailing was sent, by the API: their ends, their series, and what is refused."""

from __future__ import annotations

import pytest

from pixel_server.campaigns.campaign import new_campaign
from pixel_server.figures import ranges, sending_ranges
from pixel_server.problems import Problem
from pixel_server.times import DAY

HOUR = 3600
SENT = 1_795_207_020
"""2026-11-20T20:37:00Z"""
BEGIN = SENT - 7 * 60
YEARS = 36_500


def parse(choice, age, bucket_days=YEARS, **query):
    """Returns the range of a mailing, `age` seconds after sending."""
    campaign = new_campaign("mail", "Mail", "email", sent_at=SENT, time_zone="Europe/Berlin")
    return sending_ranges.parse({"since_sending": choice, **query}, campaign, bucket_days, SENT + age)


@pytest.mark.parametrize(
    ("choice", "age", "is_all_time", "hours", "days"),
    [
        ("24h", 60, True, 1, 0),
        ("all", 0, True, 1, 0),
        ("24h", 23 * HOUR, True, 24, 0),
        ("24h", 10 * DAY, False, 24, 0),
        ("3d", 10 * DAY, False, 48, 1),
        ("3d", 2 * DAY, True, 48, 1),
        ("7d", 10 * DAY, False, 48, 5),
        ("7d", 4 * DAY, True, 48, 3),
        ("all", 10 * DAY, True, 48, 9),
        ("all", 300 * DAY, True, 48, 28),
    ],
)
def test_sending_ranges_begin_at_sending_by_hours_then_days(choice, age, is_all_time, hours, days):
    period = parse(choice, age)
    starts = period.starts()
    assert (period.interval, period.is_all_time) == ("hour_then_day", is_all_time)
    assert starts[:hours] == [BEGIN + n * HOUR for n in range(hours)]
    assert starts[hours:] == [BEGIN + 2 * DAY + n * DAY for n in range(days)]
    assert period.end == starts[-1] + (DAY if days else HOUR)


def test_sending_ranges_hours_removed_gives_all_time_by_day():
    period = parse("all", 50 * DAY, bucket_days=35)
    assert (period.interval, period.is_all_time) == ("day", True)
    assert ranges.show(period.start, period.zone) == "2026-11-20T00:00:00+01:00"
    assert len(period.starts()) == 30
    assert len(parse("all", 10 * DAY, bucket_days=2).starts()) == 11, "up to today"
    assert parse("24h", 50 * DAY, bucket_days=35).interval == "hour_then_day"


@pytest.mark.parametrize(
    ("query", "status", "field"),
    [
        ({"since_sending": "5h"}, 422, "since_sending"),
        ({"since_sending": "all", "tz": "Nowhere"}, 422, "tz"),
        ({"since_sending": "all", "from": "2026-11-20"}, 409, "from"),
        ({"since_sending": "24h", "interval": "day"}, 409, "interval"),
    ],
)
def test_sending_ranges_bad_query_is_refused(query, status, field):
    with pytest.raises(Problem) as refused:
        parse(query.pop("since_sending"), DAY, **query)
    assert refused.value.status == status
    assert [error["field"] for error in refused.value.errors] == [field]


def test_stats_since_sending_count_from_sending(mail, site, opened, stats, clock):
    clock.at("2026-09-20T08:00Z")
    mail(sent=10, sent_at="2026-09-20T08:10:00Z")
    assert site.get("/api/campaigns/mail/stats?since_sending=all").status_code == 409, "not sent yet"
    for at, who in (("20T08:11Z", "ada"), ("20T08:59Z", "bob"), ("20T09:01Z", "cyd"), ("22T09:00Z", "dan")):
        opened(f"2026-09-{at}", who)
    clock.at("2026-09-23T10:00Z")
    stats("mail")
    found = site.get("/api/campaigns/mail/stats?since_sending=24h").json()
    assert (found["from"], found["to"]) == ("2026-09-20T08:00:00+00:00", "2026-09-21T08:00:00+00:00")
    assert [item["opens"] for item in found["series"]] == [2, 1, *[0] * 22]
    assert found["totals"]["unique_opens"] == 3
    assert found["open_rate"]["low"] == 0.3
    found = site.get("/api/campaigns/mail/stats?since_sending=all").json()
    assert (found["from"], found["totals"]["unique_opens"]) == (None, 4)
    assert [item["opens"] for item in found["series"][48:]] == [1, 0]
    site.patch("/api/campaigns/mail", json={"sent_at": None})
    assert site.get("/api/campaigns/mail/stats?since_sending=all").status_code == 409


@pytest.mark.parametrize("sent_at", ["1970-01-01T00:00:00Z", "2026-09-19T22:00:00+02:00"])
def test_stats_since_sending_of_any_time_answer_200(mail, site, stats, clock, sent_at):
    clock.at("2026-09-23T10:00Z")
    mail(sent=10, sent_at=sent_at, time_zone="America/New_York")
    for choice in sending_ranges.CHOICES:
        assert site.get(f"/api/campaigns/mail/stats?since_sending={choice}").status_code == 200
