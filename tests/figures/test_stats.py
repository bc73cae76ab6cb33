"""Stats: hits go in, one query comes out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from pixel_server.store import keys
from tests.stack import NOBODY_ASKED

DAY = "2025-06-10"
NOBODY_SAID_NO = {"hits_gpc": 0, "dropped_gpc": 0, "dropped_opted_out": 0, "refused_origin": 0}


def counted(items, name="hits"):
    """Returns {start: count} of the intervals with a count."""
    return {item["start"]: item[name] for item in items if item[name]}


def test_stats_mail_four_hits_of_three_recipients(mail, opened, stats):
    mail(sent=4)
    opened(f"{DAY}T09:00Z", "ada")
    opened(f"{DAY}T10:00Z", "ada")
    opened(f"{DAY}T10:00Z", "bob")
    opened(f"{DAY}T10:00Z", "cyd", method="HEAD")
    found = stats("mail")
    assert found["totals"] == {
        "hits": 4,
        "opens": 3,
        "unique_opens": 2,
        "unique_opens_person": 2,
        "unique_ips": 1,
        **NOBODY_ASKED,
    }
    assert (found["open_rate"]["low"], found["open_rate"]["high"]) == (0.5, 0.5)
    assert found["over"] is False
    assert (found["from"], found["to"], found["interval"], found["time_zone"]) == (None, None, "day", "UTC")
    assert found["estimates"].keys() == {"unique_ips"}
    assert len(found["series"]) == 30
    assert found["series"][-1] == {
        "start": f"{DAY}T00:00:00+00:00",
        "hits": 4,
        "opens": 3,
        "unique_opens": 2,
        "unique_opens_person": 2,
        "opens_anonymous": 0,
        "hits_gpc": 0,
    }


NO_ODD_VIEWS = dict.fromkeys(("views_bot", "views_no_visitor", "views_no_visit"), 0)
NO_ODD_VIEWS |= dict.fromkeys(("visits_new", "visits_returning"))
"""Totals of views by people who are told apart without a cookie."""


def test_stats_web_four_hits_of_two_visitors(page, viewed, stats):
    page()
    viewed(f"{DAY}T09:00Z", "ada")
    viewed(f"{DAY}T09:01Z", "ada")
    viewed(f"{DAY}T09:01Z", "bob")
    viewed("2025-06-11T09:00Z", "ada")
    found = stats("page")
    assert found["totals"] == {
        **NOBODY_SAID_NO,
        **NO_ODD_VIEWS,
        **{"hits": 4, "views": 4, "visits": 3, "bounces": 2, "unique_visitors": 2, "unique_ips": 1},
    }
    assert counted(found["series"], "unique_visitors") == {
        f"{DAY}T00:00:00+00:00": 2,
        "2025-06-11T00:00:00+00:00": 1,
    }
    assert found["open_rate"] is None
    assert found["estimates"]["unique_visitors"] == {"method": "HyperLogLog", "standard_error": 0.0081}


def test_stats_no_hits_has_zeros(mail, stats):
    mail()
    assert set(stats("mail")["totals"].values()) == {0}


def test_stats_more_openers_than_sent_is_flagged(mail, opened, stats):
    mail(sent=1)
    for who in ("ada", "bob"):
        opened(f"{DAY}T09:00Z", who)
    found = stats("mail")
    assert (found["totals"]["unique_opens"], found["open_rate"], found["over"]) == (2, None, True)


@pytest.mark.parametrize("query", [{}, {"interval": "hour"}, {"interval": "15m"}, {"tz": "Asia/Kathmandu"}])
def test_stats_ranges_add_up(mail, opened, stats, query):
    mail()
    for at in ("2025-06-08T18:14Z", "2025-06-08T18:15Z", f"{DAY}T00:00Z", f"{DAY}T18:14Z"):
        opened(at, "ada")
        opened(at, f"who-opens-at-{at}")
    ends = ["2025-06-08", "2025-06-09", DAY, "2025-06-11"]
    parts = [stats("mail", from_=a, to=b, **query)["totals"] for a, b in pairwise(ends)]
    whole = stats("mail", from_=ends[0], to=ends[-1], **query)
    for name in ("hits", "opens", "unique_opens"):
        assert sum(part[name] for part in parts) == whole["totals"][name]
        assert sum(item[name] for item in whole["series"]) == whole["totals"][name]
    assert whole["totals"] | {"unique_ips": None} == {
        "hits": 8,
        "opens": 8,
        "unique_opens": 5,
        "unique_opens_person": 5,
        "unique_ips": None,
        **NOBODY_ASKED,
        "dropped_gpc": None,
        "dropped_opted_out": None,
    }


@pytest.mark.parametrize(
    ("interval", "start"),
    [("15m", "2025-06-10T14:15:00+02:00"), ("hour", "2025-06-10T14:00:00+02:00")],
)
def test_stats_other_zone_has_its_intervals(mail, opened, stats, interval, start):
    mail()
    opened(f"{DAY}T12:29:59.999Z")
    found = stats("mail", interval=interval, tz="Europe/Berlin", from_=DAY, to="2025-06-11")
    assert counted(found["series"]) == {start: 1}
    assert (found["from"], found["time_zone"]) == ("2025-06-10T00:00:00+02:00", "Europe/Berlin")


@pytest.mark.parametrize(
    ("zone", "day", "hours", "before", "last"),
    [
        # Days of 23, 25, 23.5 and 24.5 hours; an offset with quarters of an hour; a day without midnight.
        # `before` is on the day before, `last` on the day itself.
        ("Europe/Berlin", "2025-03-30", 23, "2025-03-29T22:59Z", "2025-03-30T21:59Z"),
        ("Europe/Berlin", "2025-10-26", 25, "2025-10-25T21:59Z", "2025-10-26T22:59Z"),
        ("Australia/Lord_Howe", "2025-10-05", 23.5, "2025-10-04T13:29Z", "2025-10-05T12:59Z"),
        ("Australia/Lord_Howe", "2025-04-06", 24.5, "2025-04-05T12:59Z", "2025-04-06T13:29Z"),
        ("Asia/Kathmandu", "2025-04-06", 24, "2025-04-05T18:14Z", "2025-04-06T18:14Z"),
        ("America/Sao_Paulo", "2018-11-04", 23, "2018-11-04T02:59Z", "2018-11-05T01:59Z"),
    ],
)
@pytest.mark.parametrize("own", [True, False])
def test_stats_days_follow_clock_changes(mail, opened, stats, zone, day, hours, before, last, own):
    mail(time_zone=zone if own else "UTC")
    opened(before)
    opened(last)
    following = (datetime.fromisoformat(day) + timedelta(days=1)).date().isoformat()
    found = stats("mail", from_=day, to=following, tz=zone)
    assert found["totals"]["hits"] == 1
    assert [item["hits"] for item in found["series"]] == [1]
    start, end = (datetime.fromisoformat(found[name]) for name in ("from", "to"))
    assert (end - start) == timedelta(hours=hours)

    by_hour = stats("mail", from_=day, to=following, tz=zone, interval="hour")
    assert by_hour["totals"]["hits"] == 1
    assert len(by_hour["series"]) == -(-hours // 1)
    assert by_hour["series"][-1]["hits"] == 1


def test_stats_visitors_in_other_zone_are_null(page, viewed, stats):
    page(time_zone="Asia/Tokyo")
    viewed(f"{DAY}T09:00Z")
    days = {"from_": DAY, "to": "2025-06-12"}
    own = stats("page", **days)
    assert [item["unique_visitors"] for item in own["series"]] == [1, 0]
    figures = {"hits": 1, "views": 1, "visits": 1, "bounces": 1, "unique_visitors": 1, "hits_gpc": 0}
    figures |= NO_ODD_VIEWS
    figures |= {"unique_ips": None, "dropped_gpc": None, "dropped_opted_out": None, "refused_origin": None}
    assert own["totals"] == figures
    for query in ({"tz": "UTC"}, {"interval": "hour"}):
        other = stats("page", **days, **query)
        assert {item["unique_visitors"] for item in other["series"]} == {None}
        assert other["totals"] == {**figures, "unique_visitors": None}


@pytest.mark.parametrize("keep_buckets", [2])
def test_stats_removed_series_are_null_not_zero(mail, opened, stats, clock):
    mail()
    opened("2090-06-10T09:00Z", "ada")
    stats("mail")
    opened("2090-06-13T09:00Z", "bob")
    found = stats("mail", interval="hour", from_="2090-06-10", to="2090-06-14")
    assert set(found["totals"].values()) == {None}
    hits = [item["hits"] for item in found["series"]]
    assert hits == [None] * 24 + [0] * 57 + [1] + [0] * 14
    assert (found["open_rate"], found["over"]) == (None, False)
    assert stats("mail", from_="2090-06-10", to="2090-06-14")["totals"]["hits"] == 2


def test_stats_as_of_is_before_uncounted_hits(mail, opened, stats, site, client, settings):
    mail()
    opened(f"{DAY}T09:00Z", "ada")
    opened(f"{DAY}T09:00Z", "bob")
    entries = [entry for n in range(settings.shards) for entry, _ in client.xrange(keys.hits(n))]
    oldest = min(int(entry.partition(b"-")[0]) for entry in entries) / 1000
    waiting = site.get("/api/campaigns/mail/stats").json()
    assert waiting["totals"]["hits"] == 0
    assert datetime.fromisoformat(waiting["as_of"]) == datetime.fromtimestamp(oldest, UTC)
    done = stats("mail")
    assert done["totals"]["hits"] == 2
    assert datetime.fromisoformat(done["as_of"]) > datetime.fromtimestamp(oldest, UTC)


def test_stats_newer_format_is_503(mail, opened, stats, site, client, settings):
    mail()
    opened(f"{DAY}T09:00Z")
    stats("mail")
    for shard in range(settings.shards):
        client.hset(keys.months(shard, "mail"), "202506", b"\x93\x02\x80\xc0")
    answer = site.get("/api/campaigns/mail/stats")
    assert (answer.status_code, answer.json()["status"]) == (503, 503)
    assert "of format 2" in answer.json()["detail"]


def test_stats_last_hit_is_shown_in_any_range(mail, page, opened, viewed, stats):
    mail()
    page()
    assert stats("mail")["last_hit"] is None
    opened(f"{DAY}T09:00:05.250Z", "ada")
    opened(f"{DAY}T10:00:07.900Z", "bob", method="HEAD")
    stats("mail")
    opened(f"{DAY}T08:00Z", "bob")  # arrives late
    viewed("2025-06-11T09:00Z")
    for query in ({}, {"from_": "2025-06-01", "to": "2025-06-02"}, {"interval": "hour"}):
        assert stats("mail", **query)["last_hit"] == f"{DAY}T10:00:07.000Z"
    assert stats("page")["last_hit"] == "2025-06-11T09:00:00.000Z"


def test_stats_dropped_hit_is_not_the_last(mail, opened, stats, site):
    mail()
    opened(f"{DAY}T09:00Z")
    stats("mail")
    site.post("/api/withdrawals", json={"recipients": ["ada"]})
    opened(f"{DAY}T10:00Z", says="ignored; reason=withdrawn")
    assert stats("mail")["last_hit"] == f"{DAY}T09:00:00.000Z"
